"""Small disks of one's own, and what fills them at a chosen moment of a run.

A moment is a file that is opened for writing, renamed or removed, or a folder that is made, below the disk.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
MOMENTS = ("os.mkdir", "os.rename", "os.remove")
FILLER = "filler"


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A file system of so many bytes, mounted while the block runs; the test is skipped where none can be."""
    place.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@dataclass
class Filling:
    """Counts the moments of a folder; at one of them its disk is filled, and some moments later emptied again.

    Attributes:
        at: the moment, counted from 1; 0 for never.
        lasts: so many moments; None for ever.
        spare: bytes that are left.
    """

    disk: Path
    at: int = 0
    lasts: int | None = None
    spare: int = 0
    moments: list[str] = field(default_factory=list)
    busy: bool = False

    def saw(self, name: str, path: str) -> None:
        self.moments.append(f"{name} {path}")
        if len(self.moments) == self.at:
            self.fill()
        elif self.lasts is not None and len(self.moments) == self.at + self.lasts:
            self.empty()

    def fill(self) -> None:
        with open(self.disk / FILLER, "wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    continue
            file.truncate(max(0, os.fstat(file.fileno()).st_size - self.spare))

    def empty(self) -> None:
        (self.disk / FILLER).unlink(missing_ok=True)


_active: list[Filling] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _active or _active[0].busy or not arguments:
        return
    filling, path = _active[0], arguments[0]
    if event == "open":
        writes = isinstance(arguments[2], int) and arguments[2] & WRITES
    else:
        writes = event in MOMENTS
    if writes and isinstance(path, str | Path) and str(path).startswith(str(filling.disk)):
        filling.busy = True
        try:
            filling.saw(event, str(path))
        finally:
            filling.busy = False


sys.addaudithook(_hear)  # there is no way to take it away


@contextmanager
def filling(disk: Path, **how: int | None) -> Iterator[Filling]:
    """While the block runs, moments are counted and the disk is filled; then it is emptied."""
    made = Filling(disk, **how)  # type: ignore[arg-type]
    _active.append(made)
    try:
        yield made
    finally:
        _active.pop()
        made.empty()
