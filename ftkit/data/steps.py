"""The cleaning steps: each takes rows, and returns rows with what it changed or dropped.

Texts are changed by `Dataset.map` with module-level functions, so that a second start finds the result in its cache.
"""

import difflib
import os
import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Features, List, Value

from ftkit.data.duplicates import exact_duplicates, near_duplicates, normalised_duplicates
from ftkit.data.encode import beside_cache, code, digest, is_empty
from ftkit.errors import UserError

Numbers = npt.NDArray[np.int64]
Dropped = dict[str, Numbers]
Form = Literal["NFC", "NFKC", "NFD", "NFKD"]
Kind = Literal["exact", "normalised", "near"]

BATCH = 10_000
CHANGED = "__changed"


def normalise_unicode(rows: Dataset, columns: list[str], form: Form) -> tuple[Dataset, int]:
    """The rows with the columns' texts in a Unicode normalisation form, and how many rows that changed."""
    return _change_texts(rows, columns, _normalise_batch, {"form": form})


def strip_texts(rows: Dataset, columns: list[str]) -> tuple[Dataset, int]:
    """The rows with the columns' texts without white space at both ends, and how many rows that changed."""
    return _change_texts(rows, columns, _strip_batch, {})


def filter_length(
    rows: Dataset, column: str, *, min_characters: int | None = None, max_characters: int | None = None
) -> tuple[Dataset, Dropped]:
    """The rows whose text has so many characters (Unicode code points); a null has none."""
    lengths = _lengths(rows, column)
    dropped = {}
    if min_characters is not None:
        dropped[f"under {min_characters} characters"] = np.flatnonzero(lengths < min_characters)
    if max_characters is not None:
        dropped[f"over {max_characters} characters"] = np.flatnonzero(lengths > max_characters)
    return _drop(rows, dropped)


def drop_duplicates(rows: Dataset, content: Dataset, kind: Kind, threshold: float = 0.8) -> tuple[Dataset, Dropped]:
    """The rows without those that repeat an earlier one; each kind includes the stricter ones, counted by themselves.

    What was found is kept beside the content in the cache of `datasets`.

    Args:
        content: what is compared of the rows, in their order.
    """
    key = digest(content._fingerprint, kind, str(threshold), code())
    file = beside_cache(content, f"duplicates-{key}.npz")
    if file is not None and file.is_file():
        with np.load(file) as found:
            return _drop(rows, dict(found))
    dropped = _find_duplicates(content, kind, threshold)
    if file is not None:
        made = file.with_name(f".{os.getpid()}-{file.name}")  # whole, or not there
        np.savez(made, **dropped)  # type: ignore[arg-type]  # the reasons are names of arrays
        made.replace(file)
    return _drop(rows, dropped)


def _find_duplicates(content: Dataset, kind: Kind, threshold: float) -> Dropped:
    columns = content.column_names
    exact = exact_duplicates(content, columns)
    dropped = {"exact duplicate": exact}
    if kind in ("normalised", "near"):
        normalised = normalised_duplicates(content, columns)
        dropped["normalised duplicate"] = np.setdiff1d(normalised, exact)
    if kind == "near":
        near = np.array([row for row, _ in near_duplicates(content, columns, threshold)], dtype=np.int64)
        dropped["near duplicate"] = np.setdiff1d(near, normalised)
    return dropped


def cap_labels(rows: Dataset, column: str, max_rows: int, seed: int) -> tuple[Dataset, Dropped]:
    """The rows with at most `max_rows` of each label, drawn at random, in their order."""
    return _drop(rows, {f"over {max_rows} rows of its label": _surplus(_label_codes(rows, column)[0], max_rows, seed)})


def balance_labels(rows: Dataset, column: str, seed: int) -> tuple[Dataset, Dropped]:
    """The rows with as many of each label as the rarest has, drawn at random, in their order."""
    codes = _label_codes(rows, column)[0]
    fewest = int(np.bincount(codes).min()) if len(codes) else 0
    return _drop(rows, {f"balanced to {fewest} rows a label": _surplus(codes, fewest, seed)})


def map_labels(rows: Dataset, column: str, names: dict[str, str]) -> tuple[Dataset, Counter[str]]:
    """The rows with their labels renamed, others as they are, and how many rows each entry of `names` renamed.

    Labels are compared as text, so that "1" names the label 1 as well; the column then holds text.

    Raises:
        UserError: an entry matches no label.
    """
    found = label_names(rows, column)
    for old in names:
        if old not in found:
            near = difflib.get_close_matches(old, found, n=1, cutoff=0.0)
            shown = f"; the nearest is '{near[0]}'" if near else ""
            raise UserError(
                f"no row has the label '{old}'{shown}", "rename a label that is there", key="data.clean.label_map"
            )
    feature = rows.features[column]
    renamed = rows.map(
        rename_batch,
        batched=True,
        fn_kwargs={"column": column, "names": names, "classes": class_names(feature)},
        features=with_named_labels(rows.features, column),
    )
    return renamed, Counter({old: found[old] for old in names})


def label_names(rows: Dataset, column: str) -> Counter[str]:
    """How many rows have each label, alone or in a list."""
    codes, labels = _label_codes(rows, column)
    found: Counter[str] = Counter()
    for label, count in zip(labels, np.bincount(codes, minlength=len(labels)).tolist(), strict=True):
        for name in label if isinstance(label, tuple) else [label]:
            found[str(name)] += count
    return found


def class_names(feature: Any) -> list[str] | None:
    """The names of a column of labels, or of lists of labels, that brings them along."""
    inner = getattr(feature, "feature", feature)
    return list(inner.names) if isinstance(inner, ClassLabel) else None


def with_named_labels(features: Features, column: str) -> Features:
    """The columns' types once the labels are texts, alone or in lists."""
    several = hasattr(features[column], "feature")
    return Features({**features, column: List(Value("string")) if several else Value("string")})


def _change_texts(
    rows: Dataset, columns: list[str], function: Callable[..., dict[str, list[Any]]], options: dict[str, Any]
) -> tuple[Dataset, int]:
    changed = rows.with_format(None).map(
        function,
        batched=True,
        input_columns=columns,
        fn_kwargs={"columns": columns, **options},
        features=Features({**rows.features, CHANGED: Value("bool")}),
    )
    tables = changed.select_columns(CHANGED).with_format("arrow").iter(batch_size=BATCH)
    count = sum(pc.sum(table.column(CHANGED)).as_py() or 0 for table in tables)
    return (changed.remove_columns(CHANGED) if count else rows), count


def change_batch(batch: dict[str, list[Any]], change: Callable[[str], str]) -> dict[str, list[Any]]:
    made = {name: [change(text) if isinstance(text, str) else text for text in texts] for name, texts in batch.items()}
    pairs = zip(zip(*batch.values(), strict=True), zip(*made.values(), strict=True), strict=True)
    return {**made, CHANGED: [before != after for before, after in pairs]}


def _normalise_batch(*texts: list[Any], columns: list[str], form: Form) -> dict[str, list[Any]]:
    return change_batch(dict(zip(columns, texts, strict=True)), partial(unicodedata.normalize, form))


def _strip_batch(*texts: list[Any], columns: list[str]) -> dict[str, list[Any]]:
    return change_batch(dict(zip(columns, texts, strict=True)), str.strip)


def rename_batch(
    batch: dict[str, list[Any]], *, column: str, names: dict[str, str], classes: list[str] | None
) -> dict[str, list[Any]]:
    def renamed(label: Any) -> Any:
        if is_empty(label):
            return label if isinstance(label, list) else None
        if isinstance(label, list):
            return [renamed(item) for item in label]
        text = str(classes[label] if classes else label)
        return names.get(text, text)

    return {column: [renamed(label) for label in batch[column]]}


def _lengths(rows: Dataset, column: str) -> Numbers:
    lengths = np.zeros(len(rows), dtype=np.int64)
    start = 0
    for table in rows.select_columns(column).with_format("arrow").iter(batch_size=BATCH):
        counts = pc.fill_null(pc.utf8_length(table.column(column)), 0).to_numpy()
        lengths[start : start + len(counts)] = counts
        start += len(counts)
    return lengths


def _label_codes(rows: Dataset, column: str) -> tuple[npt.NDArray[np.int32], list[Any]]:
    """Each row's label as a number, and the labels in the order in which they first stand; a list of labels is one label."""
    feature = rows.features[column]
    numbers: dict[Any, int] = {}
    codes = np.empty(len(rows), dtype=np.int32)
    start = 0
    for table in rows.select_columns(column).with_format("arrow").iter(batch_size=BATCH):
        labels = [tuple(label) if isinstance(label, list) else label for label in table.column(column).to_pylist()]
        codes[start : start + len(labels)] = [numbers.setdefault(label, len(numbers)) for label in labels]
        start += len(labels)
    if isinstance(feature, ClassLabel):
        return codes, [None if number is None else feature.int2str(number) for number in numbers]
    return codes, list(numbers)


def _surplus(codes: npt.NDArray[np.int32], most: int, seed: int) -> Numbers:
    """Rows drawn at random, so that `most` of each label are left without them, ascending."""
    order = np.random.default_rng(seed).permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]
    sorted_codes = codes[order]
    ranks = np.arange(len(codes)) - np.searchsorted(sorted_codes, sorted_codes)
    return np.sort(order[ranks >= most])


def _drop(rows: Dataset, dropped: Dropped) -> tuple[Dataset, Dropped]:
    """The rows without the dropped ones, and the reasons that dropped any."""
    dropped = {reason: numbers for reason, numbers in dropped.items() if len(numbers)}
    if not dropped:
        return rows, dropped
    kept = np.ones(len(rows), dtype=bool)
    kept[np.concatenate(list(dropped.values()))] = False
    return rows.select(np.flatnonzero(kept)), dropped
