"""Commands of ftkit in processes that begin with the libraries loaded: hundreds of runs in minutes.

A child is a fork of this process, in a session of its own, with its own standard output and temporary folder. It is the
command from the first line of `main` on; what comes before, the start of Python and its imports, is not in it.
"""

import atexit
import mmap
import os
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

POLL = 0.01  # seconds


@dataclass
class Place:
    """What a command is given: a working folder, where it writes what is passing, and where its words go."""

    folder: Path
    temporary: Path
    said: Path


@dataclass
class Ended:
    """How a command ended: its exit status, or minus the signal, and how often it was about to change a file of the place."""

    status: int
    seconds: float
    changes: int
    left_running: bool


class Count:
    """A number that a process and its fork both see."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 8)

    @property
    def value(self) -> int:
        return int(struct.unpack("q", self.memory[:8])[0])

    def up(self) -> int:
        self.memory[:8] = struct.pack("q", self.value + 1)
        return self.value


def load_libraries() -> None:
    """Everything that a command imports sooner or later, so that a fork need not."""
    import bitsandbytes  # noqa: F401
    import datasets  # noqa: F401
    import evaluate  # noqa: F401
    import peft  # noqa: F401
    import torch  # noqa: F401
    from transformers import Trainer  # noqa: F401

    import ftkit.api
    import ftkit.cli.main  # noqa: F401


def run(words: list[str], place: Place, *, seconds: float | None = None, change: int | None = None) -> Ended:
    """One command, to its end or killed.

    Args:
        seconds: kill it so long after its start.
        change: kill it when it is about to change a file of the place for the so-manieth time.
    """
    changes = Count()
    began = time.monotonic()
    child = os.fork()
    if not child:
        _be(words, place, changes, change)
    status = _awaited(child, began + seconds if seconds is not None else None)
    took = time.monotonic() - began
    return Ended(status, took, changes.value, _left_running(child))


def apart(job: Callable[[], object]) -> None:
    """Do a job in a fork, so that this process stays without threads."""
    child = os.fork()
    if not child:
        try:
            job()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("what was to be made is not there")


def _be(words: list[str], place: Place, changes: Count, change: int | None) -> None:
    try:
        os.setsid()
        os.chdir(place.folder)
        out = os.open(place.said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.environ |= {"TMPDIR": str(place.temporary), "FTKIT_CACHE": str(place.folder / "cache"), "COLUMNS": "200"}
        import tempfile

        tempfile.tempdir = None
        sys.addaudithook(_watching(str(place.folder), changes, change))
        sys.argv = ["ftkit", *words]
        from ftkit.cli.main import main

        main()
        os._exit(0)
    except SystemExit as error:
        sys.stdout.flush()
        sys.stderr.flush()
        atexit._run_exitfuncs()
        os._exit(error.code if isinstance(error.code, int) else int(error.code is not None))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _watching(place: str, changes: Count, change: int | None):  # type: ignore[no-untyped-def]
    """Counts what is about to change a file of the place, and kills this process at the one."""
    changing = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink", "shutil.rmtree"}
    mine = os.getpid()

    def watch(event: str, given: tuple) -> None:  # type: ignore[type-arg]
        if event not in changing and not (event == "open" and _writes(given)):
            return
        if place in str(given[0]) and os.getpid() == mine and changes.up() == change:
            os.kill(mine, signal.SIGKILL)

    return watch


def _writes(given: tuple) -> bool:  # type: ignore[type-arg]
    mode, flags = given[1], given[2]
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _awaited(child: int, deadline: float | None) -> int:
    while deadline is not None:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            break
        time.sleep(POLL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _left_running(session: int, patience: float = 10.0) -> bool:
    """Whether a process of the session outlives the command by more than seconds; it is killed then."""
    until = time.monotonic() + patience
    while left := _of_session(session):
        if time.monotonic() > until:
            for one in left:
                os.kill(one, signal.SIGKILL)
            return True
        time.sleep(POLL)
    return False


def _of_session(session: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found
