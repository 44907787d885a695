"""Columns that are not read: named, and refused where their name says that the row means something else without them."""

from collections.abc import Collection
from typing import Any

from datasets import Dataset

from ftkit.data.paths import PART_NAMES
from ftkit.data.tables import value_codes
from ftkit.errors import UserError
from ftkit.recipe.meanings import Meaning, meaning_of

FALSE = {"false", "0", "0.0", "no", "bad", "rejected"}
ONE = {"1", "1.0"}


def require_unmeaning(rows: Any, read: dict[str, str], part: str, source: str, ignored: Collection[str] = ()) -> list[str]:
    """The columns that are not read.

    Args:
        rows: a Dataset, or an IterableDataset, of which no value is looked at.
        read: the columns that are, by role or under their own name.
        part: which split the rows are read for.
        source: where they come from, for messages.
        ignored: columns that the recipe leaves out knowingly.

    Raises:
        UserError: one of them changes what a row means.
    """
    unread = [name for name in rows.column_names if name not in read.values() and not _repeats_tokens(rows, name)]
    for name in unread:
        meaning = None if name in ignored else meaning_of(name, set(read.values()), set(read))
        if meaning is not None and _says_so(rows, name, meaning, part):
            hint = f"{meaning.hint}; or leave it out all the same with data.ignore_columns: [{name}]"
            raise UserError(f"{source} has a column '{name}' that is not read: {meaning.says}", hint, key="data.columns")
    return unread


def _repeats_tokens(rows: Any, name: str) -> bool:
    """Whether it is the text that reading CoNLL put together of a row's words, and so no column of the file's."""
    if name != "text" or "tokens" not in rows.column_names or not isinstance(rows, Dataset) or not len(rows):
        return False
    return bool(rows[0]["text"] == " ".join(map(str, rows[0]["tokens"])))


def _says_so(rows: Any, name: str, meaning: Meaning, part: str) -> bool:
    if meaning.values == "any" or not isinstance(rows, Dataset):
        return True
    values = {str(value).strip().lower() for value in value_codes(rows, name)[1] if value is not None}
    if meaning.values == "false":
        return bool(values & FALSE)
    if meaning.values == "unequal":
        return bool(values - ONE)
    return any(PART_NAMES.get(value, part) != part for value in values)
