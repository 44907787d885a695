"""The splits of a recipe's data, under the task's column names."""

import hashlib
from collections.abc import Callable, Sequence

from datasets import Dataset

from ftkit.data.columns import map_columns
from ftkit.data.sources import read_sources
from ftkit.data.split import split_rows
from ftkit.recipe.schema import Data, Source
from ftkit.recipe.tasks import TaskSpec


def read_splits(
    data: Data,
    spec: TaskSpec,
    strata: Callable[[Dataset], Sequence[str] | None],
    parts: tuple[str, ...] = ("train", "eval"),
) -> dict[str, Dataset]:
    """The wanted splits as the recipe says: from sources of their own, or split off the training rows.

    Args:
        strata: gives one label a row for a stratified split, or None.
        parts: which of train, eval and test are wanted.

    Raises:
        UserError: a source or column is missing, or there are too few rows.
    """

    def read(sources: list[Source], part: str) -> Dataset:
        rows = read_sources(sources, split=part, sample_by=spec.sample_by, seed=data.seed, key=f"data.{part}")
        return map_columns(rows, spec, data.columns, sources[0].path)[1]

    own = {"eval": data.eval, "test": data.test}
    splits = {part: read(sources, part) for part, sources in own.items() if sources and part in parts}
    sizes = {
        "eval": data.eval_size if data.eval is None else None,
        "test": data.test_size if data.test is None else None,
    }
    split_off = {part: size for part, size in sizes.items() if size is not None}
    if "train" in parts or set(split_off) & set(parts):
        rows = read(data.train, "train")
        if split_off:
            numbers = split_rows(len(rows), split_off, seed=data.seed, labels=strata(rows))
            splits |= {part: rows.select(chosen) for part, chosen in numbers.items() if part in parts}
        else:
            splits["train"] = rows
    return splits


def fingerprint(rows: Dataset) -> str:
    """SHA-256 of the rows' columns and values, in their order."""
    digest = hashlib.sha256(",".join(rows.column_names).encode())
    for table in rows.with_format("arrow").iter(batch_size=10_000):
        for column in table.combine_chunks().columns:
            digest.update(repr(column.to_pylist()).encode())
    return digest.hexdigest()
