"""Data files: reading each format into rows.

csv, json lines, parquet and text are read by `datasets`, what is nested by nested.py. When reading fails, the file is read a
second time, slowly, to say which line is wrong (diagnose.py).
"""

import codecs
import csv
import glob
import hashlib
import re
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
from datasets import Dataset, Features, Value, config, load_dataset
from datasets.packaged_modules.json.json import JsonConfig
from datasets.utils import logging

from ftkit.data.archives import LIBRARY_ERRORS, DataFile, content_digest, data_files
from ftkit.data.conll import read_conll
from ftkit.data.diagnose import (
    bad_json_rows,
    diagnose,
    is_ascii_based,
    require_closed_quotes,
    require_plain_bytes,
    require_shallow_lines,
)
from ftkit.data.nested import json_shape, loses_texts, read_json, read_squad
from ftkit.data.paths import KINDS, require_one_kind
from ftkit.data.texts import is_number
from ftkit.disk import refusal, refused
from ftkit.errors import UserError
from ftkit.recipe.schema import Source

LINES = {".jsonl", ".ndjson"}
CONTROL = re.compile("[\x00-\x1f\x7f\u2028\u2029]+")
COUNTED = 10_000  # rows at a time
MOST_LINES = 10_000  # of the header and the first row together
EXCEL_SIGN = re.compile("^sep=(.|$)")  # what Excel is told by a line before the header
SEPARATORS = {"\t": "a tab", ";": "';'", "|": "'|'", ",": "','"}
NAME_COLUMNS = "if the file has no header line, name its columns: {path: …, header: [text, label]}"
# Which keys of a source have an effect on which kinds of file.
KEYS = {
    "header": ("csv", "tsv", "json", "conll"), "separator": ("csv", "tsv"), "quoting": ("csv", "tsv"), "field": ("json",),
    "sample_by": ("text",),
}  # fmt: skip
csv.field_size_limit(2**31 - 1)


def read_files(source: Source, paths: list[Path], sample_by: str, key: str, *, streaming: bool = False) -> Any:
    """The rows of files of one format.

    Args:
        streaming: an IterableDataset that reads them as they are needed, in place of a Dataset.

    Raises:
        UserError: a file cannot be unpacked or read; the message names the line where it can.
    """
    try:
        _require_encoding(true_encoding(source))
        files = data_files(source, paths)
        if not source.format:
            require_one_kind(source.path, [f"x{file.ending}" for file in files], key)
        _require_fitting_keys(source, kind_of(source, files))
        for file in files:
            if file.path.stat().st_size == 0:
                raise UserError(f"{file} is empty", "check the file")
        return _read_kind(source, files, sample_by, streaming)
    except UserError as error:
        error.key = error.key or key
        error.message, error.hint = (CONTROL.sub(" ", text) for text in (error.message, error.hint))  # from the data
        raise


def count_rows(source: Source, files: list[DataFile], sample_by: str) -> list[int]:
    """How many rows each file gives, as `read_files` reads them.

    Raises:
        UserError: a file cannot be read.
    """
    if kind_of(source, files) == "text" and (source.sample_by or sample_by) == "document":
        return [bool(file.path.read_text(true_encoding(source)).strip()) for file in files]
    try:
        rows = _read_kind(source, files, sample_by, True)
    except UserError:  # of a kind that cannot be streamed
        return [len(_read_kind(source, [file], sample_by, False)) for file in files]
    shards = [rows.shard(num_shards=len(files), index=index) for index in range(len(files))]
    return [sum(len(next(iter(batch.values()))) for batch in shard.iter(COUNTED)) for shard in shards]


def true_encoding(source: Source) -> str:
    """The encoding as Python is told it, with or without a byte order mark."""
    return "utf-8-sig" if source.encoding.lower() in ("utf-8", "utf8") else source.encoding


def kind_of(source: Source, files: list[DataFile]) -> str:
    """What the files are read as."""
    return source.format or KINDS[files[0].ending]


def separator_of(source: Source, files: list[DataFile]) -> str:
    """What stands between the columns of csv files."""
    tabs = kind_of(source, files) == "tsv" or files[0].ending == ".tsv"
    return source.separator or ("\t" if tabs else ",")


def _require_encoding(encoding: str) -> None:
    try:
        if not codecs.lookup(encoding)._is_text_encoding:
            raise LookupError
        "".encode(encoding)
    except (LookupError, ValueError):
        raise UserError(f"unknown encoding '{encoding}'", "common are utf-8, latin-1, cp1252, utf-16") from None


def _require_fitting_keys(source: Source, kind: str) -> None:
    for name, kinds in KEYS.items():
        if getattr(source, name) is not None and kind not in kinds:
            message = f"'{name}' has no effect on {source.path}, which is read as {kind}"
            raise UserError(message, f"remove {name}, or say format: {kinds[0]}")
    if source.separator in ('"', "\n", "\r"):
        raise UserError("a quote or line break cannot separate columns", "common separators are ',', ';', '|' and a tab")


def _read_kind(source: Source, files: list[DataFile], sample_by: str, streaming: bool) -> Any:
    kind, encoding, separator = kind_of(source, files), true_encoding(source), separator_of(source, files)
    try:
        if kind in ("csv", "tsv"):
            return _read_csv(source, files, encoding, separator, streaming)
        if kind == "json":
            return _stream_json(files, encoding) if streaming else _read_json(files, encoding, source.field, source.header)
        if kind in ("squad", "conll") and streaming:
            raise UserError(f"{source.path} is read as {kind}, which cannot be streamed", "remove data.streaming")
        if kind == "squad":
            return read_squad(files, encoding)
        if kind == "conll":
            return read_conll(files, encoding, source.header)
        if kind == "text":
            rows = _load("text", files, streaming, encoding=encoding, sample_by=source.sample_by or sample_by)
            return rows.filter(lambda batch: [bool(text.strip()) for text in batch["text"]], batched=True)
        return _load("parquet", files, streaming)
    except LIBRARY_ERRORS as error:
        if isinstance(error, OSError) and error.errno:  # a full disk or a lost file is no fault of the data
            raise
        if refusal(error):
            place = str(config.HF_DATASETS_CACHE)
            raise refused(error, place, "free some, or set HF_DATASETS_CACHE to a larger disk") from error
        if "corresponds to no data" in str(error):
            raise UserError(f"{source.path} has no rows", "check the file") from None
        message, hint = diagnose(kind, files, encoding, separator, source.quoting is not False, source.header, error)
        raise UserError(message, hint) from error


def _load(builder: str, files: list[DataFile], streaming: bool = False, **options: Any) -> Any:
    level = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)  # it logs each failure, at length, before raising it
    try:
        paths = [glob.escape(str(file.path)) for file in files]
        if not streaming:
            # By itself it goes by the time of a file, and gives the old rows of one that was rewritten within it.
            options["config_id"] = _content_key(files, options)
        return load_dataset(builder, data_files=paths, split="train", streaming=streaming, **options)
    finally:
        logging.set_verbosity(level)


def _content_key(files: list[DataFile], options: dict[str, Any]) -> str:
    """Names what is in the files and how it is read, whatever they are called and whenever they were written."""
    parts = [*(content_digest(file.path) for file in files), *(f"{name}={options[name]}" for name in sorted(options))]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"default-{key[:32]}"


def _read_json(files: list[DataFile], encoding: str, field: str | None, header: list[str] | None) -> Dataset:
    shapes = {shape_of(file, encoding, field) for file in files}
    if shapes == {"squad"}:
        return read_squad(files, encoding)
    if shapes != {"lines"} or header or not is_ascii_based(encoding):
        return read_json(files, encoding, field, header)
    for file in files:
        require_shallow_lines(file, encoding)
    # Rows with certain columns would be taken for the logs of agents, and need another package.
    options = {"parse_agent_traces": False} if "parse_agent_traces" in JsonConfig.__dataclass_fields__ else {}
    try:
        rows = _load("json", files, encoding=encoding, **options)
    except LIBRARY_ERRORS:
        if any(_holds_nan(file) for file in files) and not any(any(bad_json_rows(file, encoding)) for file in files):
            return read_json(files, encoding, field)  # NaN among texts
        raise
    kinds = {type(feature).__name__ for feature in rows.features.values()}
    if "Json" in kinds:  # a column of several types, which `datasets` keeps opaque
        for file in files:
            for number, problem in bad_json_rows(file, encoding):
                raise UserError(f"{file}:{number}: {problem}", "give the column one type")
    dated = any(pa.types.is_temporal(column.type) for column in rows.features.arrow_schema)
    if dated or loses_texts(rows.features):
        return read_json(files, encoding, field)  # Arrow takes text such as 2020-01-01 for a date
    return rows


def _holds_nan(file: DataFile) -> bool:
    with file.path.open("rb") as stream:
        return any(b"NaN" in line for line in stream)


def shape_of(file: DataFile, encoding: str, field: str | None) -> str:
    """How the rows lie in a JSON file, as `json_shape` says."""
    return json_shape(file, encoding, field, lines=file.ending in LINES)


def _stream_json(files: list[DataFile], encoding: str) -> Any:
    """Lines of objects, as they are needed."""
    if {shape_of(file, encoding, None) for file in files} != {"lines"}:
        raise UserError(f"{files[0]} is no file of JSON lines, and only those can be streamed", "remove data.streaming")
    for file in files:
        require_shallow_lines(file, encoding)
    return _load("json", files, streaming=True, encoding=encoding)


def _read_csv(source: Source, files: list[DataFile], encoding: str, separator: str, streaming: bool) -> Any:
    """Every column is read as text: a label 1 stays "1" whatever else is in the column, and "NA" stays "NA"."""
    quoted = source.quoting is not False
    names: list[str] = []
    for file in files:
        require_plain_bytes(file, encoding, separator)
        first = _first_rows(file, encoding, separator, quoted)
        if first and EXCEL_SIGN.match(first[0][0]):
            raise UserError(
                f"{file}:1: '{first[0][0][:60]}' tells Excel the separator, and names no column", "remove this line"
            )
        found = source.header or _named(first[0] if first else [])
        if not source.header and source.separator is None:
            _require_other_separator_absent(file, found, separator)
        _require_fitting_header(file, found, first, given=bool(source.header))
        if names and set(found) != set(names):
            raise UserError(f"{file}:1: the columns {', '.join(found)}, in {files[0]} {', '.join(names)}", "name each alone")
        names = names or found
        if source.quoting is None:
            require_closed_quotes(file, encoding, separator, len(names))
    options: dict[str, Any] = {"header": None, "names": names} if source.header else {}
    return _load(
        "csv",
        files,
        streaming,
        encoding=encoding,
        sep=separator,
        features=Features({name: Value("string") for name in names}),
        keep_default_na=False,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        **options,
    )


def _first_rows(file: DataFile, encoding: str, separator: str, quoted: bool) -> list[list[str]]:
    rows: list[list[str]] = []
    with file.path.open(encoding=encoding, newline="") as stream:
        lines = islice(stream, MOST_LINES)  # a quote that is never closed would take in the whole file
        reader = csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
        for row in reader:
            if len(row) > 1 or (row and row[0].strip()):
                rows.append(row)
            if len(rows) == 2:
                break
    return rows


def _named(header: list[str]) -> list[str]:
    """The header as pandas reads it: a column without a name, such as a written index, gets one."""
    return [name or f"Unnamed: {number}" for number, name in enumerate(header)]


def _require_other_separator_absent(file: DataFile, names: list[str], separator: str) -> None:
    other = next((sign for sign in SEPARATORS if sign != separator and len(names) == 1 and sign in names[0]), None)
    if other:
        shown = other.replace("\t", r"\t")
        raise UserError(
            f"{file}:1: one column, '{names[0][:60]}', which has {SEPARATORS[other]} in its name",
            f'if that separates the columns, say {{path: …, separator: "{shown}"}}, else give the separator that does',
        )


def _require_fitting_header(file: DataFile, names: list[str], rows: list[list[str]], *, given: bool) -> None:
    """Raises UserError for a repeated name, or a first row wider than the header, which pandas would take for a column of
    row names, shifting all others."""
    if given:
        if rows and len(rows[0]) != len(names):
            hint = f"name each column of the file once; the first row is {', '.join(rows[0])[:80]}"
            raise UserError(f"{file}:1: {len(rows[0])} fields where `header` names {len(names)}", hint)
        return
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        hint = f"give each column a name of its own; {NAME_COLUMNS}"
        raise UserError(f"{file}:1: the header names the column '{repeated[:60]}' twice", hint)
    if len(rows) > 1 and len(rows[1]) > len(names):
        raise UserError(f"{file}:2: {len(rows[1])} fields where the header has {len(names)}", "mend the header or the rows")


def header_hint(names: list[str]) -> str:
    """What to try where the columns of a csv file read like a row of data, else nothing; for messages on missing columns."""
    like_data = [name for name in names if not name.strip() or len(name) > 40 or is_number(name) or name[-1] in ".!?"]
    if not like_data:
        return ""
    return NAME_COLUMNS
