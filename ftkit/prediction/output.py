"""The file, or standard output, that predictions go to: a batch at a time, whole lines only, so that a stop loses no more
than the batch at hand. They are JSON lines, or csv where the file is called so."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ftkit.errors import UserError
from ftkit.escapes import visible
from ftkit.run import finite
from ftkit.signals import signals_held

SEPARATORS = {".csv": ",", ".tsv": "\t"}
READ_AS_TABLES = {".parquet", ".xlsx", ".xls", ".feather", ".arrow", ".zip", ".gz"}
OFTEN_ABSENT = ("cut", "problem")  # columns of a table, though the first rows may lack them


def require_output(file: Path | None, source: str, *, resume: bool, overwrite: bool) -> None:
    """Raises UserError where nothing can be written to the file, or something would be lost."""
    if file is None:
        if resume or overwrite:
            option = "--resume" if resume else "--overwrite"
            raise UserError(f"{option} has no effect without --out", "name the file with --out", option)
        return
    if resume and overwrite:
        raise UserError("--resume goes on with the file, --overwrite replaces it", "give one of them", "--overwrite")
    ending = file.suffix.lower()
    if ending in READ_AS_TABLES:
        message = f"{file} would hold JSON lines, and its name says otherwise"
        raise UserError(message, "name it .jsonl, .csv or .tsv", "--out")
    if ending in SEPARATORS and resume:
        raise UserError(f"a {ending} file cannot be gone on with", "write .jsonl, or start anew with --overwrite", "--out")
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


class Table:
    """Predictions as csv: a column for each field of the first rows, lists and objects as JSON.

    Args:
        separator: what stands between the columns.
    """

    def __init__(self, separator: str) -> None:
        self._separator, self._columns = separator, list[str]()

    def write(self, stream: BinaryIO, rows: Sequence[dict[str, Any]]) -> None:
        """Write rows at once, the first ones behind a header.

        Raises:
            UserError: a row has a field that no row of the first batch had.
        """
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self._separator, lineterminator="\n")
        if not self._columns and rows:
            self._columns = list(dict.fromkeys([*(name for row in rows for name in row), *OFTEN_ABSENT]))
            writer.writerow(self._columns)
        for row in rows:
            if extra := next((name for name in row if name not in self._columns), None):
                raise UserError(f"row {row['row']} has a field '{extra}' that earlier ones lack", "write .jsonl", "--out")
            writer.writerow([as_cell(row.get(name)) for name in self._columns])
        write_bytes(stream, text.getvalue())


def as_cell(value: Any) -> Any:
    return json.dumps(finite(value), ensure_ascii=False) if isinstance(value, list | dict) else value


def writer_for(file: Path | None) -> Callable[[BinaryIO, Sequence[dict[str, Any]]], None]:
    """What writes rows in the form that the file's name says."""
    separator = SEPARATORS.get(file.suffix.lower()) if file is not None else None
    return write_lines if separator is None else Table(separator).write


def write_lines(stream: BinaryIO, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as JSON lines at once; a signal waits until they are out."""
    write_bytes(stream, visible("".join(json.dumps(finite(row), ensure_ascii=False) + "\n" for row in rows)))


def write_bytes(stream: BinaryIO, text: str) -> None:
    """Write a text at once; a signal waits until it is out."""
    with signals_held():
        stream.write(text.encode("utf-8", "replace"))
        stream.flush()
