"""Thousands of broken data files: each gives the rows that a simple count finds, or one clear line; nothing else, ever."""

import csv
import gzip
import io
import json
import random
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
import pytest
from datasets import Dataset, disable_progress_bars

from ftkit.data.sources import read_source
from ftkit.errors import UserError
from ftkit.recipe.schema import Source

KINDS = ("csv", "tsv", "json", "jsonl", "txt", "parquet", "conll")
FILE_SECONDS = 30
WORDS = (
    "good",
    "bad",
    "it's",
    "café",
    "naïve",
    "3.5",
    "NA",
    "",
    "null",
    "x;y",
    "a|b",
    "日本",
    "-",
    "2020-01-01",
    "true",
    "#1",
)
BOM = "\ufeff".encode()


class Hung(BaseException):
    """A file took too long; no Exception, so that nothing on the way can catch it."""


def rows_of(random: random.Random, count: int) -> list[dict[str, Any]]:
    return [
        {"text": " ".join(random.choices(WORDS, k=random.randint(0, 8))), "label": random.choice("ABC")}
        for _ in range(count)
    ]


def table(rows: list[dict[str, Any]], separator: str) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["text", "label"], delimiter=separator, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    Dataset.from_dict({name: [row[name] for row in rows] for name in ("text", "label")}).to_parquet(buffer)
    return buffer.getvalue()


def conll(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join("".join(f"{word}\tO\n" for word in row["text"].split()) for row in rows).encode()


WRITERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "csv": lambda rows: table(rows, ","),
    "tsv": lambda rows: table(rows, "\t"),
    "json": lambda rows: json.dumps(rows, indent=len(rows) % 3 or None).encode(),
    "jsonl": lambda rows: "\n".join(json.dumps(row, ensure_ascii=len(rows) % 2 == 0) for row in rows).encode(),
    "txt": lambda rows: "\n".join(row["text"] for row in rows).encode(),
    "parquet": parquet,
    "conll": conll,
}


def anywhere(random: random.Random, content: bytes, inserted: bytes, times: int = 1) -> bytes:
    for _ in range(times):
        place = random.randint(0, len(content))
        content = content[:place] + inserted + content[place:]
    return content


def line_anywhere(random: random.Random, content: bytes, line: bytes) -> bytes:
    lines = content.split(b"\n")
    lines.insert(random.randint(0, len(lines)), line)
    return b"\n".join(lines)


JUNK = (
    b"[" * 5000, b'{"a":' * 5000, b'{"text": NaN}', b'{"text": 1e999, "label": 3}', b'{"text": {"a": [1, {"b": 2}]}, "label": []}',
    b'{"text": "\\ud800"}', b'{"text": 123456789012345678901234567890}', b"null", b"3", b'"x"', b'{"text": "a", "text": ["b"]}',
    b'{"a": {"b": 1}, "a": [2]}', b"{}", b"[]", b'{"": 1}', b"-DOCSTART- O", b"a b c d e", b"\t", b",", b",,,,,", b'"', b'""', b'"""',
    b'x "y" z', b'"a" b', b" ", b"\r", b"\x1a", b"\xe2\x80\xa8", b"\x0c", b'{"messages": [{"role": "user"}, {"content": 3}]}',
    b'{"conversations": [{"from": "x", "value": "y"}]}', b'{"conversations": [3]}', b'{"conversations": [[]], "text": null}',
    b'{"data": [{"paragraphs": 3}]}', b'{"type": "user", "message": {"role": "user"}, "sessionId": "a"}',
)  # fmt: skip
MUTATIONS: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "none": lambda random, content: content,
    "truncated": lambda random, content: content[: random.randint(0, len(content))],
    "head cut": lambda random, content: content[random.randint(0, len(content)) :],
    "binary": lambda random, content: anywhere(random, content, random.randbytes(random.choice((1, 8, 100)))),
    "all binary": lambda random, content: random.randbytes(len(content)),
    "flipped": lambda random, content: bytes(byte ^ 1 << random.randrange(8) if random.random() < 0.01 else byte for byte in content),
    "nul": lambda random, content: anywhere(random, content, b"\0"),
    "junk": lambda random, content: line_anywhere(random, content, random.choice(JUNK)),
    "more junk": lambda random, content: line_anywhere(random, line_anywhere(random, content, random.choice(JUNK)), random.choice(JUNK)),
    "only junk": lambda random, content: random.choice(JUNK),
    "junk twice": lambda random, content: b"\n".join(random.choices(JUNK, k=2)),
    "quote": lambda random, content: anywhere(random, content, b'"', random.randint(1, 3)),
    "quoted lines": lambda random, content: line_anywhere(random, content, b'"a\nb\r\nc",B'),
    "separator": lambda random, content: anywhere(random, content, random.choice((b",", b"\t", b";", b" ", b"\n", b"\r"))),
    "mixed types": lambda random, content: content.replace(b'"A"', b"1").replace(b'"B"', b"[2]", 1),
    "numbers": lambda random, content: content.replace(b'"A"', b"1").replace(b'"B"', b"2.5").replace(b'"C"', b"null"),
    "10,000 characters": lambda random, content: anywhere(random, content, b"x" * 10_000),
    "1,000,000 characters": lambda random, content: anywhere(random, content, b"y z " * 250_000),
    "a long line": lambda random, content: line_anywhere(random, content, b"w" * 1_000_000),
    "header twice": lambda random, content: content.split(b"\n")[0] + b"\n" + content,
    "names twice": lambda random, content: content.replace(b"label", b"text"),
    "no name": lambda random, content: content.replace(b"label", b""),
    "mark in front": lambda random, content: content if content[:4] == b"PAR1" else BOM + content,
    "mark in the middle": lambda random, content: anywhere(random, content, BOM),
    "empty": lambda random, content: b"",
    "line ends": lambda random, content: content.replace(b"\n", random.choice((b"\r\n", b"\r", b"\n\n", b"\n \n", b"\n\r"))),
    "only header": lambda random, content: content.split(b"\n")[0],
    "latin-1": lambda random, content: content.decode("utf-8", "ignore").encode("latin-1", "ignore"),
    "utf-16": lambda random, content: content.decode("utf-8", "ignore").encode(random.choice(("utf-16", "utf-16-le", "utf-16-be"))),
    "twice": lambda random, content: content + content,
}  # fmt: skip


class Unreadable(Exception):
    """The simple reading says that this is no file of its kind."""


def plain_text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable from None


def plain_lines(content: bytes) -> list[str]:
    return io.StringIO(plain_text(content), newline=None).read().split("\n")


def table_cells(content: bytes, separator: str, quoting: Literal[0, 3]) -> list[list[str]]:
    """The cells of each row, those that are missing as empty text."""
    rows = csv.reader(io.StringIO(plain_text(content), newline=""), delimiter=separator, quoting=quoting)
    full = [row for row in rows if len(row) > 1 or (len(row) == 1 and row[0].strip(" \t"))]
    if any(len(row) > len(full[0]) for row in full):
        raise Unreadable
    return [row + [""] * (len(full[0]) - len(row)) for row in full[1:]]


def objects(text: str) -> Iterator[Any]:
    """Values one after another, however the lines are broken; null is a row without values."""
    while text := text.strip():
        try:
            value, end = json.JSONDecoder().raw_decode(text)
        except ValueError:
            raise Unreadable from None
        yield {} if value is None else value
        text = text[end:]


def json_cells(content: bytes) -> list[list[Any]] | None:
    text = plain_text(content)
    try:
        value = json.loads(text)
    except ValueError:
        value = list(objects(text))
    if isinstance(value, dict):
        return None  # one row or many, by its shape
    if not value or isinstance(value[0], str):
        return [[item] for item in value]
    if not all(isinstance(row, dict) for row in value):
        raise Unreadable
    texts = all(isinstance(cell, str) for row in value for cell in row.values())
    names = dict.fromkeys(name for row in value for name in row)
    return [[row.get(name) for name in names] if texts else [] for row in value]


def conll_cells(content: bytes) -> list[list[Any]]:
    full = [line.strip() and not line.startswith("-DOCSTART-") for line in plain_lines(content)]
    return [[] for before, now in zip([False, *full], full, strict=False) if now and not before]


CELLS: dict[str, Callable[[bytes], list[list[Any]] | None]] = {
    "csv": lambda content: table_cells(content, ",", csv.QUOTE_MINIMAL),
    "tsv": lambda content: table_cells(content, "\t", csv.QUOTE_MINIMAL),
    "plain csv": lambda content: table_cells(content, ",", csv.QUOTE_NONE),
    "plain tsv": lambda content: table_cells(content, "\t", csv.QUOTE_NONE),
    "json": json_cells,
    "txt": lambda content: [[line] for line in plain_lines(content) if line.strip()],
    "parquet": lambda content: [[] for _ in range(pq.read_metadata(io.BytesIO(content)).num_rows)],
    "conll": conll_cells,
}
CELLS["jsonl"] = CELLS["json"]


def differs(kind: str, content: bytes, rows: Dataset) -> str:
    """How the rows differ from those of a simple reading, where there can be one; nothing where they do not."""
    try:
        expected = CELLS[kind](content)
    except Unreadable:
        return "read, though it is broken"
    except RecursionError:
        return ""
    if expected is None:
        return ""
    if len(rows) != len(expected):
        return f"{len(rows)} rows where {len(expected)} are due"
    for row, cells in zip(rows.to_list(), expected, strict=True):
        found = [cell or "" for cell in row.values()]
        if cells and found != [cell or "" for cell in cells]:
            return f"{str(found)[:200]} where {str(cells)[:200]} is due"
    return ""


def cases(seed: int, count: int) -> Iterator[tuple[str, str, str, bytes, str]]:
    """(kind, mutation, packing, content, file name) in turn, so that each pair of a kind and a mutation comes up."""
    pairs = [(kind, name) for name in MUTATIONS for kind in KINDS]
    rng = random.Random(seed)
    rng.shuffle(pairs)
    for number in range(count):
        kind, mutation = pairs[number % len(pairs)]
        rows = rows_of(rng, rng.choice((1, 2, 5, 20, 60)))
        content = MUTATIONS[mutation](rng, WRITERS[kind](rows))
        yield (
            kind,
            mutation,
            rng.choice(("plain", "plain", "gz", "zip", "broken gz", "broken zip")),
            content,
            f"f{number}.{kind}",
        )


def packed(rng: random.Random, how: str, content: bytes, path: Path) -> Path:
    if how == "plain":
        path.write_bytes(content)
        return path
    buffer = io.BytesIO()
    if "gz" in how:
        buffer.write(gzip.compress(content))
    else:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(path.name, content)
    whole = buffer.getvalue()
    broken = rng.choice(("truncated", "flipped", "binary", "head cut"))
    path = path.with_name(f"{path.name}{'.gz' if 'gz' in how else '.zip'}")
    path.write_bytes(MUTATIONS[broken](rng, whole) if "broken" in how else whole)
    return path


def alarm(number: int, frame: Any) -> None:
    raise Hung


def read_all(folder: Path, seed: int, count: int) -> tuple[int, list[str]]:
    """How many files of the cases were read, and what went wrong with any."""
    rng, read, faults = random.Random(seed), 0, []
    disable_progress_bars()
    signal.signal(signal.SIGALRM, alarm)
    for kind, mutation, how, content, name in cases(seed, count):
        path = packed(rng, how, content, folder / name)
        case = f"{name} ({mutation}, {how}, seed {seed})"
        options: dict[str, Any] = {}
        if kind in ("csv", "tsv") and rng.random() < 0.3:
            kind, options = f"plain {kind}", {"quoting": False}
        signal.alarm(FILE_SECONDS)
        try:
            source = Source(path=str(path), **options)
            rows = read_source(source, split="train", sample_by="line", seed=1, key="data.train")
            read += 1
            if "broken" not in how and (problem := differs(kind, content, rows)):
                faults.append(f"{case}: {problem}")
        except UserError as error:
            if error.key != "data.train" or not error.hint or len(str(error)) > 800 or "\n" in str(error):
                faults.append(f"{case}: unclear: {str(error)[:300]!r}")
            if mutation in ("none", "mark in front") and "broken" not in how and CELLS[kind](content):
                faults.append(f"{case}: refused: {error}")
        except (Exception, Hung) as error:
            faults.append(f"{case}: {type(error).__name__}: {str(error)[:300]}")
        finally:
            signal.alarm(0)
        path.unlink()
        shutil.rmtree(folder.parent / "cache", ignore_errors=True)
    return read, faults


@pytest.mark.parametrize(
    ("seed", "count"), [(1, 100), pytest.param(2, 2000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_broken_files_are_read_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, count: int) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "files").mkdir()
    read, faults = read_all(tmp_path / "files", seed, count)
    assert faults == []
    assert read > count // 5
