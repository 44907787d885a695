"""The steps of `data.clean`, in their order, over one split's rows; what each drops and changes is counted."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from datasets import Dataset, Features

from ftkit.data import steps
from ftkit.data.columns import given_rows
from ftkit.data.ledger import ROW, row_numbers
from ftkit.errors import UserError
from ftkit.recipe.schema import Clean

# The rows left, the positions of those dropped by reason, and how many rows were changed.
Cleaned = tuple[Dataset, dict[str, np.ndarray], dict[str, int]]


@dataclass(frozen=True)
class Settings:
    """What the steps go by beside the rows; see `clean_rows`."""

    block: Clean
    seed: int
    thin_out: bool
    helpers: list[str]


def clean_rows(
    rows: Dataset, block: Clean, *, seed: int, thin_out: bool, helpers: list[str]
) -> tuple[Dataset, dict[str, np.ndarray], dict[str, int]]:
    """Apply the steps.

    Args:
        helpers: columns that are no part of a row's content.
        thin_out: also remove duplicates, as in training rows.

    Returns:
        The rows left, the ledger's numbers of the rows dropped by reason, and how many rows a step changed.

    Raises:
        UserError: a step is about labels or texts and there are none, or a label of `label_map` does not occur.
    """
    require_labels(rows.features, block)
    require_texts(text_columns(rows.features), block)
    return _take_steps(rows, STEPS | THINNING if thin_out else STEPS, Settings(block, seed, thin_out, helpers))


def thin_labels(rows: Dataset, block: Clean, *, seed: int) -> tuple[Dataset, dict[str, np.ndarray]]:
    """Training rows without those of labels that have more than their share, and the ledger's numbers of these by reason."""
    rows, dropped, _ = _take_steps(rows, LEARNT, Settings(block, seed, thin_out=True, helpers=[]))
    return rows, dropped


def _take_steps(
    rows: Dataset, taken: dict[str, Callable[[Dataset, Settings], Cleaned]], settings: Settings
) -> tuple[Dataset, dict[str, np.ndarray], dict[str, int]]:
    dropped, changed = dict[str, np.ndarray](), dict[str, int]()
    for key, step in taken.items():
        if getattr(settings.block, key):
            numbers = row_numbers(rows)
            rows, positions, counts = step(rows, settings)
            dropped |= {reason: numbers[found] for reason, found in positions.items() if len(found)}
            changed |= {what: count for what, count in counts.items() if count}
    return rows, dropped, changed


def _bring_to_form(rows: Dataset, settings: Settings) -> Cleaned:
    form = settings.block.unicode
    assert form is not None
    rows, count = steps.normalise_unicode(rows, text_columns(rows.features), form)
    return rows, {}, {f"texts brought to {form}": count}


def _strip(rows: Dataset, settings: Settings) -> Cleaned:
    rows, count = steps.strip_texts(rows, text_columns(rows.features))
    return rows, {}, {"texts stripped": count}


def _rename_labels(rows: Dataset, settings: Settings) -> Cleaned:
    names = settings.block.label_map
    if not settings.thin_out:  # eval rows need not have every label
        names = {old: new for old, new in names.items() if old in steps.label_names(rows, "label")}
    rows, counts = steps.map_labels(rows, "label", names)
    return rows, {}, {f"label {old} → {names[old]}": count for old, count in counts.items()}


def _filter_length(rows: Dataset, settings: Settings) -> Cleaned:
    """Run for either limit; where both are set, the second run finds nothing left to drop."""
    block, text = settings.block, text_columns(rows.features)[0]
    limits = {"min_characters": block.min_characters, "max_characters": block.max_characters}
    return *steps.filter_length(rows, text, **limits), {}


def _drop_duplicates(rows: Dataset, settings: Settings) -> Cleaned:
    kind = settings.block.duplicates
    assert kind is not None
    compared = rows if kind == "exact" else given_rows(rows)
    names = [name for name in compared.column_names if name not in (ROW, *settings.helpers)]
    return *steps.drop_duplicates(rows, compared.select_columns(names), kind), {}


def _cap_labels(rows: Dataset, settings: Settings) -> Cleaned:
    most = settings.block.max_rows_per_label
    assert most is not None
    return *steps.cap_labels(rows, "label", most, settings.seed), {}


def _balance_labels(rows: Dataset, settings: Settings) -> Cleaned:
    return *steps.balance_labels(rows, "label", settings.seed), {}


# The steps in their order, under their key in `data.clean`.
STEPS: dict[str, Callable[[Dataset, Settings], Cleaned]] = {
    "unicode": _bring_to_form,
    "strip": _strip,
    "label_map": _rename_labels,
    "min_characters": _filter_length,
    "max_characters": _filter_length,
}
THINNING: dict[str, Callable[[Dataset, Settings], Cleaned]] = {
    "duplicates": _drop_duplicates,
}
# Of rows to learn from, once no row of them is to be measured on any more.
LEARNT: dict[str, Callable[[Dataset, Settings], Cleaned]] = {
    "max_rows_per_label": _cap_labels,
    "balance": _balance_labels,
}


def clean_batch(
    batch: dict[str, list[Any]], features: Features, block: Clean
) -> tuple[dict[str, list[Any]], dict[str, np.ndarray], dict[str, int]]:
    """Apply the steps that look at one row at a time to a batch of streamed rows.

    Args:
        features: of the rows.

    Returns:
        The batch, the positions in it of the rows to drop by reason, and how many rows a step changed.

    Raises:
        UserError: a step is about labels or texts and there are none.
    """
    dropped: dict[str, np.ndarray] = {}
    changed: dict[str, int] = {}
    texts = text_columns(features)
    require_labels(features, block)
    require_texts(texts, block)
    changes: dict[str, Callable[[str], str]] = {}
    if block.unicode:
        changes[f"texts brought to {block.unicode}"] = partial(unicodedata.normalize, block.unicode)
    if block.strip:
        changes["texts stripped"] = str.strip
    for name, change in changes.items():
        made = steps.change_batch({column: batch[column] for column in texts}, change)
        changed[name] = sum(made.pop(steps.CHANGED))
        batch = batch | made
    if block.label_map:
        classes = steps.class_names(features["label"])
        before = steps.rename_batch(batch, column="label", names={}, classes=classes)["label"]
        names = [name for label in before for name in (label if isinstance(label, list) else [label])]
        changed |= {f"label {old} → {new}": names.count(old) for old, new in block.label_map.items()}
        batch = batch | steps.rename_batch(batch, column="label", names=block.label_map, classes=classes)
    if block.min_characters or block.max_characters:
        lengths = np.array([len(text or "") for text in batch[texts[0]]])
        if block.min_characters:
            dropped[f"under {block.min_characters} characters"] = np.flatnonzero(lengths < block.min_characters)
        if block.max_characters:
            dropped[f"over {block.max_characters} characters"] = np.flatnonzero(lengths > block.max_characters)
    return batch, dropped, changed


def cleaned_features(features: Features, block: Clean) -> Features:
    """The columns' types after the steps: a renamed label is text."""
    return steps.with_named_labels(features, "label") if block.label_map and "label" in features else features


def require_labels(columns: Features, block: Clean) -> None:
    """Raises UserError where a step is about labels and the rows have none."""
    for key in ("label_map", "max_rows_per_label", "balance"):
        if getattr(block, key) and "label" not in columns:
            raise UserError("the rows have no label", "remove this step", key=f"data.clean.{key}")


def require_texts(texts: list[str], block: Clean) -> None:
    """Raises UserError where a step is about texts and the rows have none, as lists of words."""
    for key in ("unicode", "strip", "min_characters", "max_characters"):
        if getattr(block, key) and not texts:
            raise UserError("the rows have no column of texts", "remove this step", key=f"data.clean.{key}")


def text_columns(columns: Features) -> list[str]:
    """The columns of the rows that hold texts, labels and lists aside."""
    return [name for name, kind in columns.items() if name != "label" and getattr(kind, "dtype", "") == "string"]
