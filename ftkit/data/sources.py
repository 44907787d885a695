"""Rows from wherever a recipe says: hub ids, local files, globs, folders and packaged samples, as one Dataset.

The reading itself is done by `datasets`. When it fails, the file is read a second time, slowly, to say which line is wrong.
"""

import csv
import difflib
import glob
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Value, concatenate_datasets, load_dataset
from datasets import exceptions as datasets_errors

from ftkit.data.samples.table import SAMPLES, generate
from ftkit.errors import UserError
from ftkit.hub import is_hub_id
from ftkit.recipe.schema import Source

BUILDERS = {
    ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet",
    ".txt": "text", ".text": "text",
}  # fmt: skip
SAMPLE_PREFIX = "sample:"
MAX_SAMPLE_ROWS = 1_000_000  # held in memory: about 1 GB
GLOB_CHARACTERS = frozenset("*?[")
csv.field_size_limit(2**31 - 1)


def read_sources(sources: list[Source], *, split: str, sample_by: str, seed: int, key: str) -> Dataset:
    """All rows of the sources, one after another.

    Args:
        split: "train", "eval" or "test": which part of a sample or hub data set is meant where the source names none.
        sample_by: what a row of a text file is where the source does not say.
        key: the recipe key of these sources, for messages.

    Raises:
        UserError: a source cannot be found or read, has no rows, or the sources' columns differ.
    """
    parts = [_read_source(source, split, sample_by, seed, key) for source in sources]
    for source, part in zip(sources[1:], parts[1:], strict=True):
        if set(part.column_names) != set(parts[0].column_names):
            message = f"{source.path} has the columns {_listed(part)}, {sources[0].path} has {_listed(parts[0])}"
            raise UserError(message, "sources of one list need the same columns", key=key)
    return parts[0] if len(parts) == 1 else concatenate_datasets(parts)


def _listed(rows: Dataset) -> str:
    return ", ".join(rows.column_names)


def _read_source(source: Source, split: str, sample_by: str, seed: int, key: str) -> Dataset:
    if source.path.startswith(SAMPLE_PREFIX):
        return _read_sample(source, split, seed, key)
    local = find_files(source.path, key, source.format)
    rows = _read_files(source, local, sample_by, key) if local else _read_hub(source, split, key)
    for column, value in source.values.items():
        if column in rows.column_names:
            raise UserError(f"{source.path} has a column '{column}' already", f"remove values.{column}", key=key)
        rows = rows.add_column(column, [value] * len(rows))
    if not len(rows):
        raise UserError(f"{source.path} has no rows", "check the file", key=key)
    if source.rows is not None and source.rows < len(rows):
        rows = rows.shuffle(seed=seed).select(range(source.rows))
    return rows


def _read_sample(source: Source, split: str, seed: int, key: str) -> Dataset:
    name = source.path.removeprefix(SAMPLE_PREFIX)
    if name not in SAMPLES:
        near = difflib.get_close_matches(name, SAMPLES, n=1)
        hint = f"did you mean sample:{near[0]}?" if near else f"there are {', '.join(f'sample:{n}' for n in SAMPLES)}"
        raise UserError(f"no sample '{name}'", hint, key=key)
    part = source.split or split
    if part not in ("train", "eval"):
        raise UserError(f"a sample has no split '{part}'", "it has train and eval", key=key)
    sizes = SAMPLES[name]
    rows = source.rows or (sizes.train_rows if part == "train" else sizes.eval_rows)
    if rows > MAX_SAMPLE_ROWS:
        raise UserError(f"{rows:,} rows of a sample", f"at most {MAX_SAMPLE_ROWS:,} are made", key=key)
    try:
        return Dataset.from_list(generate(name, rows=rows, split=part, seed=seed))  # type: ignore[arg-type]
    except ValueError as error:  # more rows asked for than the sample can make
        raise UserError(str(error), key=key) from None


def find_files(path: str, key: str, format: str | None = None) -> list[Path]:
    """The local files a path means: itself, a glob's matches, or a folder's data files; empty for a hub id.

    Raises:
        UserError: it is no hub id and there are no such files, or files of several kinds.
    """
    place = Path(path).expanduser()
    if place.is_file():
        files = [place]
    elif place.is_dir():
        found = sorted(file for file in place.rglob("*") if file.is_file())
        files = found if format else [file for file in found if file.suffix.lower() in BUILDERS]
        if not files:
            raise UserError(f"the folder {path} holds no data files", f"readable are {', '.join(BUILDERS)}", key=key)
    elif GLOB_CHARACTERS & set(path):
        files = sorted(Path(match) for match in glob.glob(str(place), recursive=True) if Path(match).is_file())
        if not files:
            raise UserError(f"nothing matches {path}", "check the pattern; it starts from the current folder", key=key)
    elif is_hub_id(path) and place.suffix.lower() not in BUILDERS:
        return []
    else:
        raise UserError(f"no such file: {path}", _nearest_file(place), key=key)
    if format:
        return files
    kinds = {BUILDERS.get(file.suffix.lower(), file.suffix) for file in files}
    unknown = kinds - set(BUILDERS.values())
    if unknown:
        raise UserError(
            f"{path}: files of kind '{unknown.pop()}' cannot be read",
            f"say what it is, as {{path: …, format: text}}; known are {', '.join(BUILDERS)}",
            key=key,
        )
    if len(kinds) > 1:
        raise UserError(
            f"{path} holds files of several kinds: {', '.join(sorted(kinds))}",
            "name one kind by a glob, as folder/*.csv",
            key=key,
        )
    return files


def _nearest_file(path: Path) -> str:
    names = [str(file) for file in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(str(path), names, n=1)
    return f"did you mean {near[0]}?" if near else "paths start from the current folder"


def _read_files(source: Source, files: list[Path], sample_by: str, key: str) -> Dataset:
    kind = source.format or BUILDERS[files[0].suffix.lower()]
    builder = "csv" if kind == "tsv" else kind
    separator = "\t" if kind == "tsv" or files[0].suffix.lower() == ".tsv" else ","
    encoding = "utf-8-sig" if source.encoding.lower() in ("utf-8", "utf8") else source.encoding
    _check_encoding_name(encoding, key)
    for file in files:
        if file.stat().st_size == 0:
            raise UserError(f"{file} is empty", "check the file", key=key)
        if builder == "json":
            _require_json_rows(file, encoding, key)
    options: dict[str, Any] = {"encoding": encoding} if builder != "parquet" else {}
    try:
        if builder == "csv":
            options |= _csv_options(files, encoding, separator)
        if builder == "text":
            options["sample_by"] = source.sample_by or sample_by
        rows = load_dataset(builder, data_files=[glob.escape(str(file)) for file in files], split="train", **options)
    except (datasets_errors.DatasetsError, ValueError, OSError, UnicodeError, csv.Error, TypeError) as error:
        if isinstance(error, OSError) and error.errno:  # a full disk or a lost file is no fault of the data
            raise
        if "corresponds to no data" in str(error):
            raise UserError(f"{source.path} has no rows", "check the file", key=key) from None
        message, hint = diagnose(builder, files, encoding, separator, error)
        raise UserError(message, hint, key=key) from error
    if builder == "json":
        _refuse_mixed_types(rows, files, encoding, key)
    return (
        rows.filter(lambda batch: [bool(text.strip()) for text in batch["text"]], batched=True)
        if builder == "text"
        else rows
    )


def _require_json_rows(file: Path, encoding: str, key: str) -> None:
    """Raises UserError where a file of one JSON value is no list and no object: reading such a one kills the process."""
    with file.open(encoding=encoding, errors="replace") as stream:
        first = stream.read(1000).lstrip()
    if first and first[0] not in "[{":
        shown = first.splitlines()[0][:40]
        raise UserError(f"{file}:1: begins with '{shown}'", "JSON data is a list of objects, or an object a line", key=key)


def _refuse_mixed_types(rows: Dataset, files: list[Path], encoding: str, key: str) -> None:
    """`datasets` keeps a column of several types as opaque JSON; a text that is a number in one row is a mistake."""
    if any(type(feature).__name__ == "Json" for feature in rows.features.values()):
        for file in files:
            for number, problem in _bad_lines("json", file, encoding, ""):
                raise UserError(f"{file}:{number}: {problem}", "give the column one type", key=key)


def _check_encoding_name(encoding: str, key: str) -> None:
    try:
        "".encode(encoding)
    except LookupError:
        raise UserError(f"unknown encoding '{encoding}'", "common are utf-8, latin-1, cp1252, utf-16", key=key) from None


def _csv_options(files: list[Path], encoding: str, separator: str) -> dict[str, Any]:
    """Every column is read as text: a label 1 stays "1" whatever else is in the column, and "NA" stays "NA".

    Raises:
        UserError: a header has an empty or repeated name, the headers differ, or a first row is longer than its header,
            which pandas would take for a column of row names and shift all others.
    """
    header: list[str] = []
    for file in files:
        with file.open(encoding=encoding, newline="") as stream:
            lines = csv.reader(stream, delimiter=separator)
            names, first = next(lines, []), next(lines, [])
        repeated = next((name for name in names if names.count(name) > 1 or not name.strip()), None)
        if repeated is not None:
            what = f"names the column '{repeated}' twice" if repeated.strip() else "has a column without a name"
            raise UserError(f"{file}:1: the header {what}", "give each column a name of its own")
        if len(first) > len(names):
            raise UserError(
                f"{file}:2: {len(first)} fields where the header has {len(names)}", "mend the header or the rows"
            )
        if header and set(names) != set(header):
            raise UserError(
                f"{file}:1: the columns {', '.join(names)}, in {files[0]} {', '.join(header)}", "name each alone"
            )
        header = header or names
    return {"sep": separator, "features": Features({name: Value("string") for name in header}), "keep_default_na": False}


def diagnose(builder: str, files: list[Path], encoding: str, separator: str, error: Exception) -> tuple[str, str]:
    """What is wrong with a file that `datasets` could not read: (message, hint)."""
    for file in files:
        try:
            if builder == "parquet":
                continue
            for number, problem in _bad_lines(builder, file, encoding, separator):
                return f"{file}:{number}: {problem}", "mend or remove this line"
        except UnicodeDecodeError as decode_error:
            line = file.read_bytes()[: decode_error.start].count(b"\n") + 1
            byte = decode_error.object[decode_error.start]
            likely = "utf-16" if file.open("rb").read(2) in (b"\xff\xfe", b"\xfe\xff") else "latin-1"
            hint = f"say its encoding, as {{path: …, encoding: {likely}}}"
            return f"{file}:{line}: not {encoding.removesuffix('-sig')} (byte 0x{byte:02x})", hint
    cause = error.__cause__ or error
    return f"{files[0]} cannot be read as {builder}: {' '.join(str(cause).split())[:200]}", "check the file"


def _bad_lines(builder: str, file: Path, encoding: str, separator: str) -> Iterator[tuple[int, str]]:
    text = file.read_bytes().decode(encoding)
    if builder == "csv":
        reader = csv.reader(text.splitlines(keepends=True), delimiter=separator)
        header = next(reader, [])
        for row in reader:
            if len(row) > len(header):
                yield reader.line_num, f"{len(row)} fields where the header has {len(header)}"
    elif builder == "json" and not text.lstrip().startswith("["):
        yield from _bad_json_lines(text)
    elif builder == "json":
        try:
            json.loads(text)
        except json.JSONDecodeError as error:
            yield error.lineno, f"not JSON: {error.msg}"


def _bad_json_lines(text: str) -> Iterator[tuple[int, str]]:
    keys: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):  # U+2028 may stand within a line
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            cut = error.pos >= len(line.rstrip()) or "Unterminated" in error.msg
            yield number, "a truncated JSON line" if cut else f"not JSON: {error.msg}"
            continue
        if not isinstance(row, dict):
            yield number, f"a JSON {type(row).__name__} where an object is needed"
            continue
        for name, value in row.items():
            kind = type(value).__name__
            if value is not None and keys.setdefault(name, kind) != kind:
                yield number, f"'{name}' is of type {kind}, in earlier lines {keys[name]}"


def _read_hub(source: Source, split: str, key: str) -> Dataset:
    part = source.split or ("train" if split == "train" else "test")
    try:
        return load_dataset(source.path, source.name, split=part, revision=source.revision)
    except datasets_errors.DatasetNotFoundError:
        raise UserError(
            f"no data set '{source.path}' on the hub, or no access to it",
            "check the id; for a gated one run `hf auth login`",
            key=key,
        ) from None
    except ValueError as error:  # an unknown split or configuration; the library's message lists those there are
        raise UserError(f"{source.path}: {' '.join(str(error).split())[:300]}", key=key) from None
    except (ConnectionError, datasets_errors.DatasetsError) as error:
        hint = "name a local file or folder, or try the recipe with --smoke"
        raise UserError(f"{source.path} cannot be had: {' '.join(str(error).split())[:200]}", hint, key=key) from error
