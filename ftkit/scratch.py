"""Folders for a while: gone with the block that needs them, and those of a killed process with the next one's.

Each is locked by its owner for as long as that lives, so that none of a living process is taken away.
"""

import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "ftkit-scratch-"
MADE = re.compile(rf"{PREFIX}[a-z0-9_]{{8}}")  # as tempfile names them; a folder of the user's may begin with any word
SETTLED = 60.0  # seconds after which a folder is locked that is going to be

_swept: list[bool] = []


@contextmanager
def scratch() -> Iterator[str]:
    """An empty folder, which is gone after the block."""
    if not _swept:
        _swept.append(True)
        sweep_scratch()
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        handle = locked_folder(folder)
        try:
            yield folder
        finally:
            if handle is not None:
                os.close(handle)


def locked_folder(folder: str | Path) -> int | None:
    """A handle on a folder that this process has locked; None where another has, or the system locks no folders."""
    if sys.platform == "win32":
        return None
    import fcntl  # Windows has none

    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def sweep_scratch() -> None:
    """Take away folders that `scratch` has made for this user, and whose owners are dead."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            found = folder.lstat()
            made = MADE.fullmatch(folder.name) and stat.S_IMODE(found.st_mode) == 0o700
            if sys.platform == "win32" or found.st_uid != os.getuid() or time.time() - found.st_mtime < SETTLED or not made:
                continue
            if (handle := locked_folder(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(handle)
