"""Rows to be predicted, one after another from a file or standard input: JSON lines, csv, or a text a line.

Nothing is held but the row at hand, so that a file may be of any size and a pipe is answered while it is still written to.
"""

import csv
import io
import itertools
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ftkit.data.diagnose import lone_surrogates
from ftkit.data.paths import ELSEWHERE, KINDS, ending_of, find_files
from ftkit.errors import UserError

FORMATS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "csv", ".txt": "text", ".text": "text",
}  # fmt: skip
NAMES = ("jsonl", "csv", "text")
TEXT = "text"  # the field of a row that is a line of text
STDIN = "-"
BAD_ROW = "mend the row, or leave such rows unanswered with --skip-bad"
OTHER_SEPARATORS = ("\t", ";", "|", ",")

Line = tuple[int, str]  # its number from 1, and the line with its end


@dataclass(frozen=True)
class InputRow:
    """A row as it was given.

    Attributes:
        number: its place among the rows, from 0.
        place: file and line, for messages.
        problem: why it cannot be read; it has no fields then.
    """

    number: int
    place: str
    fields: dict[str, Any]
    problem: str = ""


@dataclass(frozen=True)
class Source:
    """Where rows come from and how they are written; what is None is found out."""

    path: str
    format: str | None = None
    encoding: str = "utf-8"
    separator: str | None = None

    @property
    def name(self) -> str:
        return "standard input" if self.path == STDIN else self.path


def require_readable(source: Source) -> None:
    """Raises UserError where the source plainly cannot be read, before a model is loaded for it."""
    if source.format is not None and source.format not in NAMES:
        raise UserError(f"no format '{source.format}'", f"there are {', '.join(NAMES)}", "--format")
    try:
        "".encode(source.encoding)
    except LookupError:
        raise UserError(
            f"unknown encoding '{source.encoding}'", "common are utf-8, latin-1, cp1252, utf-16", "--encoding"
        ) from None
    if source.path == STDIN:
        return
    path = Path(source.path)
    if source.format is None and (not path.is_file() or path.suffix.lower() not in FORMATS):
        if not path.exists() and not find_files(source.path, ""):  # which looks for patterns and in archives
            raise UserError(f"no such file: {path}", "paths start from the current folder; - reads standard input")
        if path.is_file() and ending_of(path.name) not in (*KINDS, ".zip", *ELSEWHERE):
            raise UserError(f"{path}: its name does not say what it is", f"give --format {', '.join(NAMES)}", "--format")
        find_files(source.path, "")
        return
    if not path.is_file():
        raise UserError(f"{path} is {'a folder' if path.is_dir() else 'not there'}", "name a file")
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


@contextmanager
def opened(source: Source) -> Iterator[Iterator[InputRow]]:
    """The rows of a source, each read when it is asked for."""
    if source.path == STDIN:
        yield read_rows(sys.stdin.buffer, source)
        return
    with Path(source.path).open("rb") as stream:
        yield read_rows(stream, source)


def read_rows(stream: BinaryIO, source: Source) -> Iterator[InputRow]:
    """The rows of a stream; blank lines are none.

    Raises:
        UserError: the stream is not in its encoding, or is no csv; what is wrong with one row alone is its problem.
    """
    lines = decoded_lines(stream, source)
    form = source.format or FORMATS.get(Path(source.path).suffix.lower())
    if form is None:
        form, lines = guess_format(lines)
    if form == "csv":
        return csv_rows(lines, source)
    filled = ((number, line) for number, line in lines if line.strip())
    parse = json_fields if form == "jsonl" else text_fields
    return (InputRow(index, f"{source.name}:{number}", *parse(line)) for index, (number, line) in enumerate(filled))


def decoded_lines(stream: BinaryIO, source: Source) -> Iterator[Line]:
    """The lines of a stream as text, less a byte order mark.

    Raises:
        UserError: a line is not in the encoding.
    """
    number = 0
    try:
        for number, line in enumerate(_texts(stream, source.encoding), 1):
            yield number, line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeError as error:
        reason = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
        hint = "say what it is in with --encoding, as latin-1 or utf-16"
        message = f"this is not {source.encoding}: {reason}"
        raise UserError(message, hint, f"{source.name}:{number + 1}") from None


def _texts(stream: BinaryIO, encoding: str) -> Iterator[str]:
    if "\n".encode(encoding) == b"\n":
        return (line.decode(encoding) for line in stream)  # line by line, so that a fault is told by its line
    return iter(io.TextIOWrapper(stream, encoding, newline="\n"))


def guess_format(lines: Iterator[Line]) -> tuple[str, Iterator[Line]]:
    """What a stream without a name holds, by its first filled line: JSON lines begin with a brace, all else is text."""
    first = next(((number, line) for number, line in lines if line.strip()), None)
    if first is None:
        return TEXT, iter(())
    return "jsonl" if first[1].lstrip().startswith("{") else TEXT, itertools.chain([first], lines)


def text_fields(line: str) -> tuple[dict[str, Any], str]:
    return {TEXT: line.strip("\r\n")}, ""


def json_reason(error: ValueError | RecursionError) -> str:
    """What keeps a line from being read as JSON, in words."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return "nested too deeply" if isinstance(error, RecursionError) else "a number of more digits than can be read"


def json_fields(line: str) -> tuple[dict[str, Any], str]:
    """The fields of a line of JSON, or none and what is wrong with it."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {}, f"this is no JSON: {json_reason(error)}"
    if not isinstance(value, dict):
        return {}, f"this is a JSON {type(value).__name__}, where each line must be an object"
    broken = next(lone_surrogates(value), "")
    return ({}, broken) if broken else (value, "")


def csv_rows(lines: Iterator[Line], source: Source) -> Iterator[InputRow]:
    """The rows of a csv file under the names of its first line.

    Raises:
        UserError: it has no usable header, or its quotes do not close.
    """
    separator = source.separator or ("\t" if source.path.lower().endswith(".tsv") else ",")
    at = 0

    def numbered() -> Iterator[str]:
        nonlocal at
        for number, line in lines:
            at = number
            yield line

    reader = csv.reader(numbered(), delimiter=separator, strict=True)
    try:
        header = next(reader, [])
        require_header(header, separator, source)
        records = (record for record in reader if record)
        for index, record in enumerate(records):
            wrong = f"{len(record)} fields where the header has {len(header)}" if len(record) != len(header) else ""
            fields = {} if wrong else dict(zip(header, record, strict=True))
            yield InputRow(index, f"{source.name}:{at}", fields, wrong)
    except csv.Error as error:
        raise UserError(
            f"this is no csv: {error}", "mend it; a quote within quotes is written twice", f"{source.name}:{at}"
        ) from None


def require_header(header: list[str], separator: str, source: Source) -> None:
    """Raises UserError where the first line names no columns, or the same twice, or is separated by something else."""
    place = f"{source.name}:1"
    other = next((sign for sign in OTHER_SEPARATORS if len(header) == 1 and sign != separator and sign in header[0]), None)
    if other is not None:
        shown = other.replace("\t", r"\t")
        raise UserError(f"one column, '{header[0][:60]}'", f"if it is several, give --separator '{shown}'", place)
    if repeated := next((name for name in header if header.count(name) > 1), None):
        raise UserError(f"the header names the column '{repeated[:60]}' twice", "give each a name of its own", place)


def given_rows(rows: Iterator[dict[str, Any]]) -> Iterator[InputRow]:
    """Rows that are in memory already."""
    return (InputRow(number, f"row {number + 1}", dict(row)) for number, row in enumerate(rows))
