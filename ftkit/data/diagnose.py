"""Which line of a file is wrong: the checks that the libraries leave out, and a slow second reading for what they refuse."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from ftkit.errors import UserError

BLOCK = 1 << 20
MANY_BREAKS = 50  # in one quoted field
FEW_BREAKS = 5  # enough where every line in the field is as wide as a row
MANY_BRACKETS = 10_000  # in one line of JSON
CLOSING = re.compile(r'[^"]*(?:""[^"]*)*"(?!")')
MEND = "mend or remove this line"


class ReadableFile(Protocol):
    """A file on disk whose text is its name in messages."""

    @property
    def path(self) -> Path: ...


def is_ascii_based(encoding: str) -> bool:
    """Whether ASCII characters are the same bytes in it, as in utf-8 and latin-1 and not in utf-16."""
    return '"\n'.encode(encoding).removeprefix(b"\xef\xbb\xbf") == b'"\n'


def require_plain_bytes(file: ReadableFile, encoding: str, separator: str) -> None:
    """Raises UserError where a text file holds what pandas reads amiss without a word.

    A NUL byte cuts its field off; after a carriage return alone an empty field gets lost, and the rest of its row moves to
    the left.
    """
    if not is_ascii_based(encoding):
        return
    lost = b"\r" + separator.encode(encoding).removeprefix(b"\xef\xbb\xbf")
    line, last = 1, b""
    with file.path.open("rb") as stream:
        start = stream.read(2)
        stream.seek(0)
        while block := stream.read(BLOCK):
            if b"\0" in block:
                likely = start in (b"\xff\xfe", b"\xfe\xff") or b"\0" in start
                hint = "say its encoding, as {path: …, encoding: utf-16}" if likely else MEND
                line += block[: block.index(b"\0")].count(b"\n")
                raise UserError(f"{file}:{line}: a NUL byte, which no text has", hint)
            if lost in last + block:
                raise UserError(f"{file}: lines end with a carriage return alone", "end them with a line feed")
            line += block.count(b"\n")
            last = block[-1:]


def require_closed_quotes(file: ReadableFile, encoding: str, separator: str, width: int) -> None:
    """Raises UserError where a lone quote at the start of a field swallows the rows after it.

    It does so where it is never closed; where a field of several lines is closed by a quote within text; where such a field
    of a tab-separated file holds a tab; and where the lines in it are as wide as a row: all of five or more, or most of more
    than fifty. Longer texts that are quoted well are read.

    Args:
        width: how many columns the file has.
    """
    if is_ascii_based(encoding) and not _holds_quotes(file.path):
        return
    opening = re.compile(rf'(?:^|{re.escape(separator)})"')
    with file.path.open(encoding=encoding, newline="") as stream:
        # Of the open field: its first line, its line ends, the separators in it, its lines as wide as a row.
        start = breaks = inside = alike = 0
        for number, line in enumerate(stream, 1):
            if start and '"' not in line:
                breaks += 1
                inside += line.count(separator)
                alike += width > 1 and line.count(separator) == width - 1
                continue
            position = 0
            while '"' in line:
                if not start:
                    opened = opening.search(line, position)
                    if not opened:
                        break
                    start, position, breaks, inside, alike = number, opened.end(), 0, 0, 0
                closed = CLOSING.match(line, position)
                end = closed.end() if closed else len(line)
                inside += line.count(separator, position, end)
                if not closed:
                    breaks += 1
                    break
                if breaks and _swallows(line[end : end + 1], separator, breaks, inside, alike):
                    _refuse_quote(file, start, f"a quoted field goes on for {breaks + 1} lines, to line {number}")
                start, position = 0, end
        if start:
            _refuse_quote(file, start, "a quoted field is never closed")


def _swallows(after: str, separator: str, breaks: int, inside: int, alike: int) -> bool:
    if after not in (separator, "", "\n", "\r") or (separator == "\t" and inside):
        return True
    whole = breaks - 1  # lines that lie in the field from end to end
    return (whole >= FEW_BREAKS and alike == whole) or (breaks > MANY_BREAKS and alike * 2 > whole)


def _refuse_quote(file: ReadableFile, line: int, problem: str) -> None:
    hint = "if quotes are plain characters here, say {path: …, quoting: false}; if the field is meant so, quoting: true"
    raise UserError(f"{file}:{line}: {problem}", hint)


def _holds_quotes(path: Path) -> bool:
    with path.open("rb") as stream:
        return any(b'"' in block for block in iter(lambda: stream.read(BLOCK), b""))


def diagnose(
    kind: str,
    files: Sequence[ReadableFile],
    encoding: str,
    separator: str,
    quoted: bool,
    header: list[str] | None,
    error: BaseException,
) -> tuple[str, str]:
    """What is wrong with a file that could not be read: (message, hint)."""
    for file in files:
        try:
            if kind in ("csv", "tsv"):
                problems = _wide_rows(file, encoding, separator, quoted, header)
            elif kind in ("json", "squad"):
                problems = bad_json_rows(file, encoding)
            elif kind in ("text", "conll"):
                problems = _undecodable(file, encoding)
            else:
                continue
            for number, problem in problems:
                return f"{file}:{number}: {problem}", MEND
        except UnicodeError as decode_error:
            return _undecoded(file, encoding, decode_error)
        except csv.Error as csv_error:
            return f"{file} cannot be read as {kind}: {csv_error}", "check the file"
    cause: Any = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return f"{files[0]} cannot be read as {kind}: {' '.join(str(cause).split())[:200]}", "check the file"


def _undecoded(file: ReadableFile, encoding: str, error: UnicodeError) -> tuple[str, str]:
    """Place and byte of the first character that the encoding does not have."""
    name = encoding.removesuffix("-sig")
    with file.path.open("rb") as stream:
        start = stream.read(2)
        stream.seek(0)
        likely = "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "latin-1"
        hint = f"say its encoding, as {{path: …, encoding: {likely}}}"
        if not is_ascii_based(encoding):
            return f"{file}: not {name} ({error})", "say its true encoding, as {path: …, encoding: utf-8}"
        for number, line in enumerate(stream, 1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as found:
                return f"{file}:{number}: not {name} (byte 0x{found.object[found.start]:02x})", hint
    return f"{file}: not {name} ({error})", hint


def _undecodable(file: ReadableFile, encoding: str) -> Iterator[tuple[int, str]]:
    with file.path.open(encoding=encoding) as stream:
        while stream.read(BLOCK):
            pass
    yield from ()


def _wide_rows(
    file: ReadableFile, encoding: str, separator: str, quoted: bool, header: list[str] | None
) -> Iterator[tuple[int, str]]:
    with file.path.open(encoding=encoding, newline="") as stream:
        reader = csv.reader(stream, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
        width = len(header) if header else 0
        for row in reader:
            width = width or len(row)
            if len(row) > width:
                yield reader.line_num, f"{len(row)} fields where the header has {width}"


def bad_json_rows(file: ReadableFile, encoding: str) -> Iterator[tuple[int, str]]:
    """Lines of a JSON file that are no object, or change a column's type; for a list, the place where it breaks."""
    with file.path.open(encoding=encoding) as stream:
        start = stream.read(1)
        while start.isspace():
            start = stream.read(1)
        stream.seek(0)
        if start == "[":
            try:
                rows = load_json(stream.read())
            except json.JSONDecodeError as error:
                yield error.lineno, f"not JSON: {error.msg}"
            except (ValueError, RecursionError) as error:
                yield 1, f"not JSON: {error}"
            else:
                yield from ((1, f"row {number}: {problem}") for number, problem in mixed_types(rows))
                for number, row in enumerate(rows, 1):
                    yield from ((1, f"row {number}: {problem}") for problem in lone_surrogates(row))
            return
        lines = enumerate(stream, 1)
        found: dict[str, str] = {}
        for number, line in lines:
            if not line.strip():
                continue
            try:
                row = load_json(line)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(line.rstrip()) or "Unterminated" in error.msg
                yield number, "a truncated JSON line" if cut else f"not JSON: {error.msg}"
                continue
            except (ValueError, RecursionError) as error:
                yield number, f"not JSON: {error}"
                continue
            yield from ((number, problem) for _, problem in mixed_types([row], found, "lines"))
            yield from ((number, problem) for problem in lone_surrogates(row))


def require_shallow_lines(file: ReadableFile, encoding: str) -> None:
    """Raises UserError for a line of JSON that is nested so deep that reading it in C++ would kill the process."""
    with file.path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.count(b"[") + line.count(b"{") > MANY_BRACKETS:
                try:
                    load_json(line.decode(encoding))
                except (RecursionError, ValueError) as error:
                    raise UserError(f"{file}:{number}: not JSON: {error}", MEND) from None


def mixed_types(rows: list[Any], found: dict[str, str] | None = None, what: str = "rows") -> Iterator[tuple[int, str]]:
    """Rows, counted from 1, that are no object or hold a value of another type than the rows before: (number, problem)."""
    kinds: dict[str, str] = {} if found is None else found
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            yield number, f"a JSON {type(row).__name__} where an object is needed"
            continue
        for name, value in row.items():
            kind = type(value).__name__
            if value is not None and {kind, kinds.setdefault(name, kind)} not in ({kind}, {"int", "float"}):
                yield number, f"'{name[:60]}' is of type {kind}, in earlier {what} {kinds[name]}"


def lone_surrogates(row: Any) -> Iterator[str]:
    r"""What is wrong with a row that holds half a character, as \ud83d without what follows it."""
    text = json.dumps(row, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        yield f"\\u{ord(text[error.start]):04x} alone is half a character"


def load_json(text: str) -> Any:
    """The value of a JSON text, with null for NaN, which pandas writes where something is missing; Infinity is no JSON.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested too deep.
    """
    return json.loads(text, parse_constant=_read_constant)


def _read_constant(name: str) -> None:
    if name != "NaN":
        raise ValueError(f"{name} is no JSON number")
