"""A part of the cache that has a bound: folders that are whole or absent, of which those not used for longest go.

A folder is written under another name, which tells who writes it, and renamed when it is whole.
"""

import os
import shutil
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from ftkit.cache import cache_folder

MOST_OF_DISK = 0.5  # of what is free
STALE = 24 * 3600  # seconds after which a half-written folder is nobody's: of a writer that cannot be asked for


@dataclass(frozen=True)
class Shelf:
    """Folders of one kind.

    Attributes:
        name: under which they lie in the cache.
        most: bytes of all of them together.
    """

    name: str
    most: int

    @property
    def folder(self) -> Path:
        return cache_folder() / self.name

    def make_room(self, needed: int) -> bool:
        """Whether so many bytes fit on the disk with a margin, and into what may lie here, once others have gone.

        What was half written and left goes, and then the folders not used for longest, until there is room.

        Raises:
            OSError: another process removed a folder at the same time, or the cache may not be read.
        """
        for left in filter(is_left, self.folder.glob(".*.*")):
            shutil.rmtree(left, ignore_errors=True)
        if needed > min(self.most, MOST_OF_DISK * self._free()):
            return False
        sizes = {folder: size_of(folder) for folder in self._oldest_first()}
        for folder in list(sizes):
            if sum(sizes.values()) + needed <= self.most:
                break
            shutil.rmtree(folder, ignore_errors=True)
            del sizes[folder]
        return True

    def _free(self) -> int:
        there = next(parent for parent in (self.folder, *self.folder.parents) if parent.exists())
        return shutil.disk_usage(there).free

    def _oldest_first(self) -> list[Path]:
        whole = [folder for folder in self.folder.glob("[!.]*") if folder.is_dir()]
        return sorted(whole, key=lambda path: path.stat().st_mtime)


def unfinished(folder: Path) -> Path:
    """Where this process writes what becomes a folder of a shelf."""
    return folder.with_name(f".{folder.name}.{socket.gethostname()}.{os.getpid()}")


def is_left(beside: Path) -> bool:
    """Whether nobody writes an unfinished folder any more: its process is gone, or nothing was put into it for a day.

    Machines and containers may share a cache; the processes of another one cannot be seen from here.
    """
    host, _, process = beside.name.split(".", 2)[2].rpartition(".")
    if host == socket.gethostname() and process.isdigit() and not psutil.pid_exists(int(process)):
        return True
    with suppress(OSError):  # its writer has finished just now
        return time.time() - beside.stat().st_mtime > STALE
    return False


def mark_used(folder: Path) -> None:
    """Let others go before this one."""
    with suppress(OSError):  # a cache that may only be read
        os.utime(folder)


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
