"""How a data file is to be read where nobody said so: encoding, format, separator, header; tried by the very reader."""

import codecs
import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset

from ftkit.data.archives import DataFile, data_files, named_files, parts_of
from ftkit.data.paths import GLOB_CHARACTERS, KINDS, READABLE, archive_of, find_files
from ftkit.data.sources import read_source
from ftkit.data.texts import is_number
from ftkit.errors import UserError
from ftkit.recipe.schema import Source

HEAD = 1 << 18  # bytes of a file that are looked at
LINES = 60
FEW_PARAGRAPHS = 20
SIGNS = "\t;|,"
MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
CONTROLS = re.compile("[\x00-\x08\x0e-\x1f]")  # which no text has
LONG = 40  # characters of a cell that names no column
KEY = "data.train"


def look(path: str) -> tuple[dict[str, Any], Dataset]:
    """How the rows of a path are read, as keys of a source, and the rows: of a text its paragraphs, or else its lines.

    Raises:
        UserError: it cannot be read in any way, with what the likeliest way says.
    """
    found = _files(path)
    parts = parts_of(Source(path=path), named_files(Source(path=path), found))
    base: dict[str, Any] = {"path": path, **({"split": parts[0]} if parts else {})}
    files = data_files(Source(**base), found)
    first: UserError | None = None
    for keys in _ways(base, files[0]):
        try:
            rows = read_source(Source(**keys), split="train", sample_by="paragraph", seed=0, key=KEY)
            if rows.column_names == ["text"] and len(rows) < FEW_PARAGRAPHS and _is_plain(keys, files[0]):
                keys["sample_by"] = "line"
                rows = read_source(Source(**keys), split="train", sample_by="line", seed=0, key=KEY)
            return keys, rows
        except UserError as error:
            first = first or error
    assert first is not None
    first.place, first.key = first.place or path, ""
    raise first


def _is_plain(keys: dict[str, Any], file: DataFile) -> bool:
    return keys.get("format", KINDS.get(file.ending)) == "text"


def other_parts(source: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The sources of the eval and the test rows, where a folder or an archive holds them beside those of `source`."""
    if "split" not in source:
        return {}
    whole = Source(path=source["path"])
    parts = parts_of(whole, named_files(whole, _files(whole.path)))
    return {part: {**source, "split": part} for part in parts if part not in ("train", source["split"])}


def _files(path: str) -> list[Path]:
    place = Path(path).expanduser()
    if not place.exists() and not GLOB_CHARACTERS & set(path) and not archive_of(path):
        raise UserError(f"no such file: {path}", "paths start from the current folder")
    return [place] if place.is_file() and place.stat().st_size else find_files(path, KEY)


def _ways(source: dict[str, Any], file: DataFile) -> Iterator[dict[str, Any]]:
    """Ways to read a file of a source, the likeliest first."""
    named = KINDS.get(file.ending, "")
    if named == "parquet":
        yield {**source}
        return
    encoding, lines = head_of(file.path)
    base = {**source, **({"encoding": encoding} if encoding != "utf-8" else {})}
    found = named if named not in ("", "text") else form_of(lines)
    if not named and not any(map(str.strip, lines)):
        raise UserError(f"{source['path']} is of no form that can be read", f"readable are {READABLE}")
    form = {"format": found or "text"} if (found or "text") != (named or "") else {}
    if found in ("csv", "tsv"):
        yield {**base, **form, **table_keys(lines, "\t" if found == "tsv" else ",")}
        yield {**base, **form, **table_keys(lines, "\t" if found == "tsv" else ","), "quoting": False}
    yield {**base, **form}


def head_of(path: Path) -> tuple[str, list[str]]:
    """The encoding of a file and its first lines; no lines where it holds no text."""
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), "") or _encoding(head)
    try:
        text = codecs.getincrementaldecoder("utf-8-sig" if encoding == "utf-8" else encoding)("strict").decode(head)
    except UnicodeDecodeError:
        return "utf-8", []
    if CONTROLS.search(text):
        return encoding, []
    return encoding, re.split("\r\n|\r|\n", text)[: LINES + 1]


def _encoding(head: bytes) -> str:
    """UTF-8 where it is that; UTF-16 without a mark by its zeros; else the one byte a letter of the West."""
    try:
        codecs.getincrementaldecoder("utf-8")("strict").decode(head)
    except UnicodeDecodeError:
        return "cp1252" if b"\x81" not in head and b"\x8d" not in head else "latin-1"
    start = head[:2000]
    return "utf-8" if start.count(0) <= len(start) / 4 else "utf-16-le" if head[1] == 0 else "utf-16-be"


def form_of(lines: list[str]) -> str:
    """What lines without a telling name are: json, conll, tsv or csv; nothing for plain text."""
    filled = [line for line in lines if line.strip()]
    if not filled:
        return ""
    if filled[0].lstrip()[:1] in ("{", "["):
        return "json"
    if is_conll(lines):
        return "conll"
    if separator := separator_of(filled, ""):
        return "tsv" if separator == "\t" else "csv"
    return ""


def is_conll(lines: list[str]) -> bool:
    """A word a line, with fields of which the last has few values; empty lines between sentences of several words."""
    filled = [line for line in lines if line.strip()]
    rows = [line.split("\t" if "\t" in filled[0] else None) for line in filled]
    gaps = sum(not line.strip() for line in lines[:-1])
    tags = {row[-1] for row in rows}
    alike = len({len(row) for row in rows}) == 1 and len(rows[0]) > 1
    return alike and gaps > 0 and len(filled) > 1.5 * gaps and len(tags) <= len(rows) / 2


def separator_of(lines: list[str], usual: str) -> str:
    """The sign that parts each line into as many fields, two or more; commas and the like also stand within text."""
    for sign in dict.fromkeys([*usual, *SIGNS]):
        widths = {len(row) for row in csv.reader(lines[:-1] if len(lines) > LINES else lines, delimiter=sign) if row}
        if len(widths) == 1 and widths.pop() > 1:
            return sign
    return usual


def table_keys(lines: list[str], usual: str) -> dict[str, Any]:
    """Separator and header of a csv file, as keys of a source."""
    separator = separator_of([line for line in lines if line.strip()], usual)
    rows = [row for row in csv.reader(lines[:-1] if len(lines) > LINES else lines, delimiter=separator) if row]
    keys: dict[str, Any] = {"separator": separator} if separator != usual else {}
    if rows and not has_header(rows):
        keys["header"] = name_columns(rows)
    return keys


def has_header(rows: list[list[str]]) -> bool:
    """Whether the first row names the columns: it is short words, no numbers, and none of the data's."""
    first, rest = rows[0], rows[1:]
    if len([name for name in first if not name.strip()]) > 1:
        return True  # several without a name, as an index has none
    for place, name in enumerate(first):
        below = [row[place] for row in rest if len(row) > place]
        if is_number(name) or len(name) > LONG or name.strip()[-1:] in (".", "!", "?") or name in below:
            return False
    return bool(rest)


def name_columns(rows: list[list[str]]) -> list[str]:
    """Names for the columns of a table without a header: the longest is the text, one of few values the label."""
    places = range(len(rows[0]))
    cells = [[row[place] for row in rows if len(row) > place] for place in places]
    text = max(places, key=lambda place: sum(map(len, cells[place])))
    few = [place for place in places if place != text and len(set(cells[place])) <= max(2, len(rows) // 2)]
    others = few or [place for place in places if place != text and all(map(is_number, cells[place]))]
    label = others[-1] if others else -1
    return ["text" if place == text else "label" if place == label else f"column_{place + 1}" for place in places]
