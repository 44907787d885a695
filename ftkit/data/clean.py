"""Empty fields: found before anything is tokenized, and either refused or dropped with a count."""

from collections import Counter
from typing import Any

from datasets import Dataset

from ftkit.errors import UserError

TEXTS = ("text", "text_pair", "document", "summary", "instruction", "input", "output", "prompt", "completion")


def is_empty(value: Any) -> bool:
    """Whether a field says nothing: null, white space, or an empty list."""
    return value is None or (isinstance(value, str) and not value.strip()) or (isinstance(value, list) and not value)


def require_filled(rows: Dataset, columns: list[str], *, drop: bool) -> tuple[Dataset, list[int], Counter[str]]:
    """Rows in which none of the columns is empty.

    Args:
        drop: drop the others and count them, instead of refusing.

    Returns:
        The rows, the number of each in the input, and the counts of kept and dropped rows.

    Raises:
        UserError: a field is empty and `drop` is off, or no row is left.
    """
    bad: dict[int, str] = {}
    for column in columns:
        for number, value in enumerate(rows[column]):
            if column in TEXTS and value is not None and not isinstance(value, str):
                message = f"'{column}' is no text in row {number + 1}: {str(value)[:60]}"
                raise UserError(message, "is the right column mapped?", key=f"data.columns.{column}")
            if is_empty(value):
                bad.setdefault(number, column)
    if bad and not drop:
        number, column = min(bad.items())
        message = f"'{column}' is empty in {len(bad)} of {len(rows)} rows, first in row {number + 1}"
        raise UserError(
            message,
            "mend the data, or drop and count such rows with data.drop_empty: true",
            key=f"data.columns.{column}",
        )
    kept = [number for number in range(len(rows)) if number not in bad]
    if not kept:
        raise UserError("no row is left: each has an empty field", "is the right column mapped?", key="data.columns")
    counts = Counter({"kept": len(kept)}) + Counter(f"dropped: empty {column}" for column in bad.values())
    return rows.select(kept) if bad else rows, kept, counts
