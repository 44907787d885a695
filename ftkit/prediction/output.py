"""The file, or standard output, that predictions go to: a batch at a time, whole lines only, so that a stop loses no more
than the batch at hand."""

import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ftkit.errors import UserError
from ftkit.run import finite

SIGNALS = {signal.SIGINT, signal.SIGTERM}


def require_output(file: Path | None, source: str, *, resume: bool, overwrite: bool) -> None:
    """Raises UserError where nothing can be written to the file, or something would be lost."""
    if file is None:
        if resume or overwrite:
            option = "--resume" if resume else "--overwrite"
            raise UserError(f"{option} has no effect without --out", "name the file with --out", option)
        return
    if resume and overwrite:
        raise UserError("--resume goes on with the file, --overwrite replaces it", "give one of them", "--overwrite")
    if file.is_dir() or not file.parent.is_dir():
        what = "is a folder" if file.is_dir() else f": there is no folder {file.parent}"
        raise UserError(f"{file} {what}".replace(" :", ":"), "name a file in a folder that is there", "--out")
    if file.exists() and Path(source).exists() and file.samefile(source):
        raise UserError(f"{file} holds the rows themselves", "name another file", "--out")
    if file.exists() and file.stat().st_size and not (resume or overwrite):
        raise UserError(f"{file} exists", "go on with it by --resume, or replace it by --overwrite", "--out")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise UserError(f"{file} cannot be written", "name another file", "--out")


def whole_lines(file: Path) -> int:
    """How many lines a file has; what follows the last line end, as a crash leaves it, is cut off."""
    if not file.exists():
        return 0
    lines = end = position = 0
    with file.open("r+b") as stream:
        for line in stream:
            position += len(line)
            if line.endswith(b"\n"):
                lines, end = lines + 1, position
        stream.truncate(end)
    return lines


@contextmanager
def opened_output(file: Path | None, *, resume: bool) -> Iterator[BinaryIO]:
    if file is None:
        yield sys.stdout.buffer
        return
    with file.open("ab" if resume else "wb") as stream:
        yield stream


def write_lines(stream: BinaryIO, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as JSON lines at once; a signal waits until they are out."""
    data = "".join(json.dumps(finite(row), ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "replace")
    with signals_held():
        stream.write(data)
        stream.flush()


@contextmanager
def signals_held() -> Iterator[None]:
    """Ctrl-C and termination take effect after the block, where the system can hold them."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
