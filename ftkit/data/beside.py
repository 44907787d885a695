"""Columns beside a row's own that would change what it means, and that the task does not read: they are refused by name."""

from typing import Any

from datasets import Dataset

from ftkit.errors import UserError
from ftkit.recipe.tasks import Format

PREFERENCE = "these rows are preference data"
HINT = "ftkit learns wanted answers only: keep those, and leave the column out"


def require_meaning(rows: Dataset, form: Format, taken: set[str], source: str) -> None:
    """Raises UserError where a column that is not taken says that a row is not what its format says.

    Args:
        taken: the columns that are read under some role.
        source: where the rows come from, for messages.
    """
    for name in form.foreign:
        if name in rows.column_names and name not in taken and (message := FOREIGN[name](rows, name)):
            raise UserError(f"{source}: {message}", HINTS.get(name, HINT), key="data")


def _of_label(rows: Dataset, name: str) -> str:
    """A label that is false says that an answer is not wanted; other labels say something of a row, as its topic."""
    if getattr(rows.features[name], "dtype", "") != "bool":
        return ""
    unwanted = next((number for number, label in enumerate(_values(rows, name), 1) if label is False), None)
    place = f"in row {unwanted} " if unwanted is not None else ""
    is_stream = not isinstance(rows, Dataset)
    return (
        f"{PREFERENCE} (KTO): {place}'{name}' says false, of an answer that is not wanted" if unwanted or is_stream else ""
    )


def _of_pair(rows: Dataset, name: str) -> str:
    return f"{PREFERENCE} (DPO): the column '{name}' stands beside the answers"


def _of_weight(rows: Dataset, name: str) -> str:
    values = {value for value in _values(rows, name) if value is not None} - {1, "1", "1.0"}
    different = values or not isinstance(rows, Dataset)
    return f"the column '{name}' gives rows a weight of their own, which is not read" if different else ""


def _values(rows: Dataset, name: str) -> list[Any]:
    """A held column's values; of streamed rows none are known yet."""
    return list(rows[name]) if isinstance(rows, Dataset) else []


FOREIGN = {"label": _of_label, "chosen": _of_pair, "rejected": _of_pair, "weight": _of_weight}
HINTS = {
    "weight": "leave the column out, give sources a weight (data.train), or mark turns with weight: 0 or 1",
}
