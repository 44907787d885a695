"""Processes that are stopped or killed at each line of what locks, begins and ends a run; started by test_claim.py.

    python -m tests.lock_steps two | three | killed | replaced FOLDER

They are forked from this one, which is light, so that thousands take seconds.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from ftkit import claim, console, run
from ftkit.claim import Busy, claimed
from ftkit.errors import UserError
from ftkit.recipe.load import load_values
from ftkit.run import Run, end_run, finished_run, require_free, start_run, write_json
from ftkit.training import place
from ftkit.training.place import place_claimed

TRACED = {module.__file__ for module in (claim, run, place)}
WON, BUSY, BOTH, REFUSED = 0, 3, 4, 5
EVERY = 9  # line at which the second of three is stopped
STEP = int(os.environ.get("STEP", "1"))  # of the lines at which a run is killed


def at_line(number: int, do: Callable[[], None]) -> None:
    """Do something when so many lines of the traced modules are done; nothing where there are fewer."""
    done = [0]

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in TRACED:
            return None
        if event == "line":
            done[0] += 1
            if done[0] == number:
                do()
        return trace

    sys.settrace(trace)


def forked(work: Callable[[], int], number: int = 0, signal_number: int = signal.SIGSTOP) -> int:
    """The id of a process that works, and gets a signal at a line."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        if number:
            at_line(number, lambda: os.kill(os.getpid(), signal_number))
        status = work()
    finally:
        os._exit(status)


def ended(child: int) -> int | None:
    """The exit status of a process, minus the signal that killed it; None where it stands still."""
    _, status = os.waitpid(child, os.WUNTRACED)
    return None if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)


def go_on(child: int) -> int:
    os.kill(child, signal.SIGCONT)
    status = ended(child)
    assert status is not None
    return status


def claims(folder: Path) -> int:
    """Claim the folder, and be alone in it."""
    beside = folder.with_name("inside")
    try:
        with claimed(folder):
            try:
                os.close(os.open(beside, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return BOTH
            beside.unlink()
    except Busy:
        return BUSY
    return WON


def lines(work: Callable[[], int], start: Callable[[], None]) -> Iterator[tuple[int, int]]:
    """A process that stands still at a line, for each line of the work."""
    number = 0
    while True:
        number += 1
        start()
        child = forked(work, number)
        if (status := ended(child)) is not None:
            assert status == WON, status
            return
        yield number, child


def two(folder: Path) -> int:
    count, held = 0, 0
    for count, first in lines(lambda: claims(folder), lambda: None):
        second = ended(forked(lambda: claims(folder)))
        assert second in (WON, BUSY), (count, second)
        held += second == BUSY
        assert go_on(first) == WON, count
        assert not folder.exists(), count
    assert 0 < held < count
    return count


def three(folder: Path) -> int:
    """Two stand still at lines of their own while a third comes; then they go on in either order."""
    count = 0
    for number, first in lines(lambda: claims(folder), lambda: None):
        for turn, late in enumerate(range(1, 200, EVERY)):
            if late > 1:
                first = forked(lambda: claims(folder), number)
                assert ended(first) is None
            second = forked(lambda: claims(folder), late)
            status = ended(second)
            found = {ended(forked(lambda: claims(folder)))}
            for child in (first, second) if turn % 2 else (second, first):
                if child == first or status is None:
                    found.add(go_on(child))
            assert found <= {WON, BUSY}, (number, late, found)
            assert WON in found, (number, late)
            if folder.exists():  # its maker came too late to lock it, and who did had not made it
                folder.rmdir()
            count += 1
            if status is not None:
                break
    return count


def killed(folder: Path) -> int:
    number = 0
    while True:
        number += 1
        status = ended(forked(lambda: claims(folder), number, signal.SIGKILL))
        if status == WON:
            return number - 1
        assert status == -signal.SIGKILL
        sign = Run(folder).sign
        assert sign is None or not sign.running, number
        assert ended(forked(lambda: claims(folder))) == WON, number
        assert not folder.exists() or not any(folder.iterdir()), number
        with suppress(FileNotFoundError):
            folder.rmdir()


RECIPE = {"task": "text-classification", "model": "m", "strategy": "full", "data": {"train": "a.csv"}}


def trains(folder: Path, name: str, *, overwrite: bool) -> int:
    """A run as it is begun and ended, with nothing between."""
    with place_claimed(folder, overwrite=overwrite, resume=False):
        made = Run(folder)
        start_run(made, load_values(RECIPE), {"name": name, "load": {}})
        made.model.mkdir()
        write_json(made.metrics_file, {"name": name})
        end_run(made)
    return WON


def name_in(folder: Path) -> str | None:
    file = folder / "metrics.json"
    whole = file.is_file() and (folder / "model").is_dir() and (folder / "run.json").is_file()
    return str(json.loads(file.read_text())["name"]) if whole else None


def replaced(folder: Path) -> int:
    """A run that replaces another is killed at each line: one of them is whole at any time, and the next command finds it."""
    number = 0
    while True:
        number += STEP
        shutil.rmtree(folder, ignore_errors=True)
        assert trains(folder, "first", overwrite=False) == WON
        status = ended(forked(lambda: trains(folder, "second", overwrite=True), number, signal.SIGKILL))
        if status == WON:
            return number - 1
        made, held = Run(folder), [folder, folder / "replaced", folder / "replaced.part"]
        names = [name_in(path) for path in held]
        begun = made.record_file.is_file() and made.state == "training"
        assert "first" in names or names[0] == "second" or made.setting_aside.is_dir(), (number, names)
        if begun:
            assert made.true_state == "dead", number
        refused = ended(forked(lambda: refuses(folder)))
        assert refused == REFUSED or begun, (number, refused)
        if not begun:  # what was torn is whole again
            assert name_in(folder) in ("first", "second"), number
            assert finished_run(folder).state == "finished"
        assert trains(folder, "third", overwrite=True) == WON
        assert sorted(path.name for path in folder.iterdir()) == KEPT, (number, sorted(folder.iterdir()))


KEPT = ["metrics.json", "model", "recipe.yaml", "run.json", "seal.json"]


def refuses(folder: Path) -> int:
    try:
        with place_claimed(folder, overwrite=False, resume=False):
            require_free(folder, overwrite=False, resume=False)
    except UserError:
        return REFUSED
    return WON


if __name__ == "__main__":
    console.set_quiet(True)
    claim.PAUSE = 0.001
    os.fsync = lambda _: None  # type: ignore[assignment]  # a process is killed, and not the machine
    print({"two": two, "three": three, "killed": killed, "replaced": replaced}[sys.argv[1]](Path(sys.argv[2])))
