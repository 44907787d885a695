"""The steps of `data.clean`, in their order, over one split's rows; what each drops and changes is counted."""

import numpy as np
from datasets import Dataset

from ftkit.data import steps
from ftkit.data.columns import given_columns
from ftkit.data.ledger import ROW, row_numbers
from ftkit.errors import UserError
from ftkit.recipe.schema import Clean


def clean_rows(
    rows: Dataset, block: Clean, *, seed: int, thin_out: bool, helpers: list[str]
) -> tuple[Dataset, dict[str, np.ndarray], dict[str, int]]:
    """Apply the steps.

    Args:
        helpers: columns that are no part of a row's content.
        thin_out: also remove duplicates and rows of labels that have more than their share, as in training rows.

    Returns:
        The rows left, the ledger's numbers of the rows dropped by reason, and how many rows a step changed.

    Raises:
        UserError: a step is about labels or texts and there are none, or a label of `label_map` does not occur.
    """
    dropped: dict[str, np.ndarray] = {}
    changed: dict[str, int] = {}
    texts = text_columns(rows)
    require_labels(rows, block)
    require_texts(texts, block)

    def drop(made: tuple[Dataset, dict[str, np.ndarray]]) -> None:
        nonlocal rows
        numbers = row_numbers(rows)
        for reason, positions in made[1].items():
            if len(positions):
                dropped[reason] = numbers[positions]
        rows = made[0]

    if block.unicode:
        rows, changed[f"texts brought to {block.unicode}"] = steps.normalise_unicode(rows, texts, block.unicode)
    if block.strip:
        rows, changed["texts stripped"] = steps.strip_texts(rows, texts)
    if block.label_map:
        names = block.label_map
        if not thin_out:  # eval rows need not have every label
            found = {str(label) for label in rows.unique("label")}
            names = {old: new for old, new in names.items() if old in found}
        rows, counts = steps.map_labels(rows, "label", names)
        changed |= {f"label {old} → {block.label_map[old]}": count for old, count in counts.items()}
    if block.min_characters or block.max_characters:
        drop(steps.filter_length(rows, texts[0], min_characters=block.min_characters, max_characters=block.max_characters))
    if thin_out and block.duplicates:
        content = rows.column_names if block.duplicates == "exact" else given_columns(rows)
        columns = [name for name in content if name not in (ROW, *helpers)]
        drop(steps.drop_duplicates(rows, columns, block.duplicates))
    if thin_out and block.max_rows_per_label:
        drop(steps.cap_labels(rows, "label", block.max_rows_per_label, seed))
    if thin_out and block.balance:
        drop(steps.balance_labels(rows, "label", seed))
    return rows, dropped, {step: count for step, count in changed.items() if count}


def require_labels(rows: Dataset, block: Clean) -> None:
    """Raises UserError where a step is about labels and the rows have none."""
    for key in ("label_map", "max_rows_per_label", "balance"):
        if getattr(block, key) and "label" not in rows.column_names:
            raise UserError("the rows have no label", "remove this step", key=f"data.clean.{key}")


def require_texts(texts: list[str], block: Clean) -> None:
    """Raises UserError where a step is about texts and the rows have none, as lists of words."""
    for key in ("unicode", "strip", "min_characters", "max_characters"):
        if getattr(block, key) and not texts:
            raise UserError("the rows have no column of texts", "remove this step", key=f"data.clean.{key}")


def text_columns(rows: Dataset) -> list[str]:
    """The columns of the rows that hold texts, labels and lists aside."""
    return [name for name, kind in rows.features.items() if name != "label" and getattr(kind, "dtype", "") == "string"]
