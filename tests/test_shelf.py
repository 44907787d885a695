"""A bounded part of the cache: what was not used for longest goes, and what a killed process left half written."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ftkit.shelf import STALE, Shelf, mark_used, unfinished

SHELF = Shelf("things", 1000)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))


def put(name: str, size: int, *, age: float = 0) -> Path:
    """A folder with a file of so many bytes, last used so many seconds ago."""
    folder = SHELF.folder / name
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(size))
    then = time.time() - age
    os.utime(folder, (then, then))
    return folder


def names() -> set[str]:
    return {folder.name for folder in SHELF.folder.iterdir()}


def test_what_was_not_used_for_longest_goes() -> None:
    for age, name in enumerate(["new", "old", "older", "oldest"]):
        put(name, 300 if name != "oldest" else 100, age=100 * age)
    assert SHELF.make_room(300)
    assert names() == {"new", "old"}
    assert SHELF.make_room(400)
    assert names() == {"new", "old"}


def test_what_is_used_again_stays() -> None:
    first, _ = put("first", 400, age=200), put("second", 400, age=100)
    mark_used(first)
    assert SHELF.make_room(500)
    assert names() == {"first"}


def test_for_more_than_may_ever_lie_here_nothing_goes() -> None:
    put("one", 400)
    assert not SHELF.make_room(1001)
    assert names() == {"one"}
    assert SHELF.make_room(1000)
    assert not names()


def test_a_shelf_that_is_not_there_yet_has_room() -> None:
    assert SHELF.make_room(1000)
    assert not SHELF.folder.exists()


def test_half_of_the_free_disk_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type(shutil.disk_usage(Path.cwd()))(10**6, 10**6 - 800, 800)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert SHELF.make_room(400)
    assert not SHELF.make_room(401)


def test_what_a_killed_process_left_goes_and_what_another_writes_stays() -> None:
    own = put(unfinished(SHELF.folder / "abc").name, 300)
    code = "import sys; from pathlib import Path; from ftkit.shelf import unfinished; print(unfinished(Path('abc')).name)"
    gone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    put(gone, 300)
    put(".abc.elsewhere.1.2", 300, age=STALE - 600)  # a process of another machine cannot be asked for
    put(".abc.elsewhere.3", 300, age=STALE + 600)
    put(".abc.4", 300, age=STALE + 600)  # without a machine, as it was once called
    assert SHELF.make_room(1000)
    assert names() == {own.name, ".abc.elsewhere.1.2"}


def test_leftovers_go_before_the_disk_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    left, usage = put(".abc.elsewhere.3", 300, age=STALE + 600), shutil.disk_usage(Path.cwd())
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=2000 if not left.exists() else 0))
    assert SHELF.make_room(1000)
