"""Who works on a folder or a file: a lock that one process holds, and in it the signs of life that this one gives.

The system releases the lock when its holder dies, however it dies. The lock's file is removed by its holder alone, while it
holds it; who locked a file that was removed meanwhile sees that it stands there no more, and begins again. Of a machine that
does not share locks the signs of life are all that there is.
"""

import errno
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftkit import console
from ftkit.errors import UserError
from ftkit.units import ago

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK = ".lock"
SIZE = 512  # bytes of what it says, written at once
BEAT = 5.0  # seconds between two signs of life
OFTEN = 0.5  # seconds between two where there is something new
FRESH = 60.0  # seconds for which a sign from another machine is taken for life
TRIES, PAUSE = 5, 0.05  # of locking: whoever asks after a lock holds it for an instant
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}  # a file system's word that it has none
# A stranger's folder may hold anything under the lock's name.
NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
FIELDS = {"pid": int, "host": str, "doing": str, "step": int, "steps": int, "time": float, "boot": str, "born": str}
LATEST, MOST = 1e11, 1 << 62  # seconds since 1970, and what else is counted: a sign beyond them is none

_held: set[int] = set()


@dataclass(frozen=True)
class Sign:
    """The last sign of life of the process that took a lock.

    Attributes:
        running: it lives, so far as can be known.
        doing: what it was about.
        steps: of the whole training; 0 where it had not begun.
    """

    running: bool
    pid: int
    host: str
    doing: str
    step: int
    steps: int
    time: float
    boot: str
    born: str

    @property
    def age(self) -> float:
        """Seconds since it was given."""
        return max(0.0, time.time() - self.time)

    @property
    def fresh(self) -> bool:
        """Whether it was given lately; of the future, by a wrong clock, it is no life."""
        return abs(time.time() - self.time) < FRESH

    def where(self) -> str:
        """How far the process was, in words."""
        return f"step {self.step:,} of {self.steps:,}" if self.steps else self.doing

    def words(self) -> str:
        if not self.pid:
            return "it has said nothing of itself yet"
        return f"pid {self.pid} on {self.host}, {self.where()}, last sign of life {ago(self.age)}"


class Busy(UserError):
    """Another process is at work there.

    Args:
        locked: the folder or file.
        sign: of that process.
        option: of the command line, by which another place is chosen; empty where there is none.
    """

    def __init__(self, locked: Path, sign: Sign | None, option: str) -> None:
        self.locked, self.sign, self.option = locked, sign, option
        known = f": {sign.words()}" if sign and sign.pid else ""
        verb = "writing" if sign and sign.doing.startswith("writing") else "training into"
        hint = f"wait for it, or choose another {option}" if option else "wait for it"
        super().__init__(f"another process is {verb} {locked}{known}", hint, option)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.locked, self.sign, self.option)


class Claim:
    """A lock that this process holds, and what it says of itself there.

    Args:
        handle: of the lock's file; None where another rank of this launch holds it.
        doing: what the process is about.
    """

    def __init__(self, handle: int | None, doing: str = "starting") -> None:
        self.handle = handle
        self.doing, self.step, self.steps = doing, 0, 0
        self._told, self._ended = 0.0, threading.Event()
        self._teller = threading.Thread(target=self._beat, daemon=True)
        if handle is not None:
            self.tell()
            self._teller.start()

    def at(self, doing: str) -> None:
        """Say what the process is about now."""
        self.doing, self.step, self.steps = doing, 0, 0
        self.tell()

    def at_step(self, step: int, steps: int) -> None:
        self.doing, self.step, self.steps = "training", step, steps
        if time.monotonic() - self._told > OFTEN:
            self.tell()

    def tell(self) -> None:
        """Write a sign of life, as far as the disk takes it."""
        if self.handle is None:
            return
        self._told = time.monotonic()
        values = {"pid": os.getpid(), "host": platform.node()[:64], "boot": boot_id(), "born": born(os.getpid()),
                  "doing": self.doing[:64], "step": self.step, "steps": self.steps, "time": time.time()}  # fmt: skip
        with suppress(OSError):
            write_at_start(self.handle, json.dumps(values).encode().ljust(SIZE))

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            self.tell()

    def end(self) -> None:
        self._ended.set()
        if self._teller.is_alive():
            self._teller.join()


def write_at_start(handle: int, content: bytes) -> None:
    if sys.platform == "win32":
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, content)
    else:
        os.pwrite(handle, content, 0)


def boot_id() -> str:
    """What all processes of a kernel have in common, in a container or not; the machine's name where nothing is better."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()


def born(pid: int) -> str:
    """When a process began, as the system counts; empty where it is gone, or that cannot be known."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


@contextmanager
def locked(file: Path, doing: str, place: Path, option: str) -> Iterator[Claim]:
    """No other process holds the lock file while the block runs; it is gone afterwards.

    Args:
        place: what is locked by it, which `option` of the command line names.

    Raises:
        Busy: another one does.
        OSError: the file cannot be made.
    """
    handle = taken(file)
    if handle is None:
        raise Busy(place, sign_of(file), option)
    claim = Claim(handle, doing)
    try:
        yield claim
    finally:
        claim.end()
        release(handle, file)


def taken(file: Path) -> int | None:
    """A handle on a lock file that this process has locked; None where another process has."""
    tries = 0
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | NO_LINK, 0o666)
        _held.add(handle)
        if not _lock(handle, file) or lives_elsewhere(file):
            _let_go(handle)
            tries += 1
            if tries == TRIES or not is_momentary(file):
                return None
            time.sleep(PAUSE)
        elif not stands_at(handle, file):
            _let_go(handle)  # its holder ended meanwhile, and took it away
        else:
            return handle


def is_momentary(file: Path) -> bool:
    """Whether the lock may be held for an instant alone, by one who asks after it or has just begun."""
    sign = sign_of(file)
    return sign is None or not sign.pid or not sign.running


def lives_elsewhere(file: Path) -> bool:
    """Whether a machine that shares no locks with this one goes on giving signs of life: it is waited for one."""
    sign = sign_of(file)
    if sign is None or not sign.pid or sign.boot == boot_id() or sign.age > FRESH:
        return False
    ended = time.monotonic() + 2.5 * BEAT
    with console.status(f"{file.parent}: waiting for another sign of life from {sign.host}"):
        while time.monotonic() < ended:
            time.sleep(PAUSE)
            later = sign_of(file)
            if later is None or later.boot != sign.boot:
                return False
            if later.time != sign.time:
                return True
    return False


def _lock(handle: int, file: Path) -> bool:
    try:
        if sys.platform == "win32":
            os.lseek(handle, SIZE, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            sign = read_sign(handle)
            return sign is None or not is_process(sign)
        return False
    return True


def stands_at(handle: int, file: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(file, follow_symlinks=False))
    except FileNotFoundError:
        return False


def release(handle: int, file: Path) -> None:
    """Take the lock's file away, then let it go."""
    with suppress(OSError):
        if sys.platform != "win32" and stands_at(handle, file):
            file.unlink()
    _let_go(handle)
    if sys.platform == "win32":
        with suppress(OSError):  # that of another one by now, which cannot be removed
            file.unlink()


def _let_go(handle: int) -> None:
    _held.discard(handle)
    os.close(handle)


def _close_held() -> None:
    """In a forked child: else it would hold what its dead parent held."""
    for handle in list(_held):
        with suppress(OSError):
            os.close(handle)
    _held.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_close_held)


def sign_of(file: Path) -> Sign | None:
    """The last sign of life in a lock file; None where there is no such file."""
    try:
        handle = os.open(file, os.O_RDONLY | NO_LINK)
    except OSError:
        return None
    try:
        return read_sign(handle)
    finally:
        os.close(handle)


def read_sign(handle: int) -> Sign | None:
    """As `sign_of`, of an open file; None where it is no file."""
    try:
        held = is_held(handle)
        os.lseek(handle, 0, os.SEEK_SET)
        sign = Sign(bool(held), **said(json.loads(os.read(handle, SIZE))))
    except OSError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):  # its holder has written nothing yet, or was killed before
        return Sign(bool(held), 0, "", "starting", 0, 0, time.time(), "", "")
    if held is None:
        return Sign(**{**vars(sign), "running": is_process(sign)})
    running = held or (sign.boot != boot_id() and sign.fresh)
    return Sign(**{**vars(sign), "running": running})


def said(found: Any) -> dict[str, Any]:
    """What a sign says, of which a stranger may have made anything.

    Raises:
        ValueError: it is none that a process gives.
        KeyError, TypeError: the same.
    """
    values = {key: found[key] for key in FIELDS}
    if not all(isinstance(value, FIELDS[key]) for key, value in values.items()):
        raise ValueError("of another type")
    if not 0 < values["time"] < LATEST or max(values["pid"], values["step"], values["steps"]) > MOST:
        raise ValueError("beyond what is counted")
    return values


def is_held(handle: int) -> bool | None:
    """Whether a process holds the lock of an open file; None where the file system has no locks."""
    try:
        if sys.platform == "win32":
            os.lseek(handle, SIZE, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, SIZE, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(handle, fcntl.LOCK_UN)
    except OSError as error:
        return None if error.errno in NO_LOCKS else True
    return False


def is_process(sign: Sign) -> bool:
    """Whether the process lives that gave a sign, where no lock tells; on another machine, whether it gave it lately."""
    if sign.boot != boot_id():
        return sign.fresh
    return bool(sign.born) and born(sign.pid) == sign.born


def is_first_rank() -> bool:
    """Whether the process is the one of its launch that writes; a rank left over in a shell makes none of another."""
    alone = os.environ.get("WORLD_SIZE", "1") in ("", "0", "1")
    return alone or os.environ.get("RANK", "0") == "0"


@contextmanager
def claimed(folder: Path, doing: str = "starting", option: str = "--output-dir") -> Iterator[Claim]:
    """No other process writes into the folder while the block runs; it is made, and taken away again if it stays empty.

    Args:
        option: as in `Busy`.

    Raises:
        Busy: another process does.
        UserError: the folder cannot be made or written.
    """
    if not is_first_rank():
        yield Claim(None)
        return
    made: list[Path] = []
    try:
        claim, file = claim_in(folder, doing, made, option)
    except OSError as error:
        remove_if_empty(made)
        reason = error.strerror or "a file stands in the way"
        hint = f"choose another {option}" if option else "copy it to where you may write"
        raise UserError(f"{folder} cannot be written: {reason}", hint, option) from None
    try:
        yield claim
    finally:
        claim.end()
        assert claim.handle is not None
        release(claim.handle, file)
        remove_if_empty(made)


def claim_in(folder: Path, doing: str, made: list[Path], option: str) -> tuple[Claim, Path]:
    """As `claimed`; into `made` go the folders that were made for it, the innermost first.

    Raises:
        Busy: another process holds the lock.
        OSError: the file cannot be made.
    """
    file = folder / LOCK
    while True:
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        stale = file.exists()  # of one that was killed before it wrote anything else
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = taken(file)
        except FileNotFoundError:  # who had made the folder took it away again
            if folder.is_symlink() and not folder.exists():
                raise
            continue
        if handle is None:
            raise Busy(folder, sign_of(file), option)
        made += [folder] if stale and os.listdir(folder) == [LOCK] else missing
        return Claim(handle, doing), file


def remove_if_empty(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
