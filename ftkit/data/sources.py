"""Rows from wherever a recipe says: hub ids (hub_rows.py), local files (files.py) and samples, each as a Dataset."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, IterableDataset, Value

from ftkit.data.archives import data_files
from ftkit.data.files import read_files
from ftkit.data.hub_rows import read_hub
from ftkit.data.ledger import Ledger
from ftkit.data.nested import with_messages
from ftkit.data.paths import SAMPLE_PREFIX, find_files, require_effect
from ftkit.data.places import Places
from ftkit.data.samples.table import SAMPLES, generate
from ftkit.errors import UserError, rows_named
from ftkit.recipe.schema import Source

MAX_SAMPLE_ROWS = 1_000_000  # held in memory: about 1 GB


def read_source(source: Source, *, split: str, sample_by: str, seed: int, key: str) -> Dataset:
    """The rows of one source.

    Args:
        split: "train", "eval" or "test": which part of a sample or hub data set is meant where the source names none.
        sample_by: what a row of a text file is where the source does not say.
        key: the recipe key of the source, for messages.

    Raises:
        UserError: the source cannot be found or read, or has no rows.
    """
    if source.path.startswith(SAMPLE_PREFIX):
        require_effect(source, False, key)
        return _read_sample(source, split, seed, key)
    local = find_files(source.path, key, source.format)
    require_effect(source, bool(local), key)
    rows = read_files(source, local, row_of(source, sample_by), key) if local else read_hub(source, split, key)
    with rows_named(lambda position: _name_row(source, sample_by, key, position), key):
        rows = with_messages(rows)
    if source.label_from:
        rows = _labelled_by_name(rows, source, sample_by, key)
    for column, value in source.values.items():
        if column in rows.column_names:
            raise UserError(f"{source.path} has a column '{column}' already", f"remove values.{column}", key=key)
        rows = rows.add_column(column, [value] * len(rows))
    if not len(rows):
        raise UserError(f"{source.path} has no rows", "check the file", key=key)
    if source.rows is not None and source.rows < len(rows):
        rows = rows.shuffle(seed=seed).select(range(source.rows))
    return rows


def stream_source(source: Source, *, sample_by: str, key: str) -> IterableDataset:
    """The training rows of one source, read as they are needed.

    Raises:
        UserError: the source cannot be found, or its format cannot be streamed.
    """
    if source.path.startswith(SAMPLE_PREFIX):
        rows = _read_sample(source, "train", 0, key).to_iterable_dataset()
    elif paths := find_files(source.path, key, source.format):
        if source.label_from:
            raise UserError(f"{source.path}: labels from names cannot be streamed", "remove data.streaming", key=key)
        rows = read_files(source, paths, sample_by, key, streaming=True)
    else:
        rows = read_hub(source, "train", key, streaming=True)
    rows = rows if rows.features is not None else rows._resolve_features()
    if source.values:
        rows = rows.map(add_values, fn_kwargs={"values": source.values}, features=_with_texts(rows.features, source.values))
    return rows if source.rows is None else rows.take(source.rows)


def places_of(source: Source, sample_by: str, key: str) -> Places | None:
    """Where the rows of a source stand; nothing for what is no file."""
    if source.path.startswith(SAMPLE_PREFIX) or not (paths := find_files(source.path, key, source.format)):
        return None
    return Places(source, lambda: data_files(source, paths), row_of(source, sample_by))


def row_of(source: Source, sample_by: str) -> str:
    """What a row of a text file is where the source does not say: of files that lie in folders of a label, the file."""
    return "document" if source.label_from == "folder" else sample_by


def _labelled_by_name(rows: Dataset, source: Source, sample_by: str, key: str) -> Dataset:
    """The rows with a label that is the name of their file, or of the folder that it lies in."""
    if "label" in rows.column_names:
        raise UserError(f"{source.path} has a column 'label' already", "remove label_from", key=key)
    places = places_of(source, sample_by, key)
    assert places is not None
    files = places.locate(np.arange(len(rows)))[0]
    paths = [Path(name) for name in places.names]
    names = [path.parent.name if source.label_from == "folder" else path.name.split(".")[0] for path in paths]
    return rows.add_column("label", [names[file] for file in files.tolist()])


def _name_row(source: Source, sample_by: str, key: str, position: int) -> str:
    """A row that was read, by its file."""
    places = places_of(source, sample_by, key)
    ledger = Ledger()
    ledger.enter(source.path, "", position + 1, places)
    return ledger.name([position], lines=True)


def add_values(row: dict[str, Any], values: dict[str, str]) -> dict[str, Any]:
    return row | values


def _with_texts(features: Features, names: Iterable[str]) -> Features:
    return Features({**features, **{name: Value("string") for name in names}})


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
