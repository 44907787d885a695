"""Texts of rows as they are compared: a row's columns, batch by batch, and a form without case and punctuation."""

import json
import unicodedata
from collections.abc import Iterator
from typing import Any

from datasets import Dataset

from ftkit.data.tables import iterate_tables

BATCH = 10_000


class _Separators(dict[int, str]):
    """A table for `str.translate`, filled as characters turn up: apostrophes vanish, other punctuation parts words."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kept = "" if character in "'’" else " " if unicodedata.category(character).startswith("P") else character
        return self.setdefault(code, kept)


_SEPARATORS = _Separators()


def normalise(text: str) -> str:
    """The text under NFKC and case folding, without punctuation, its words parted by one space.

    Symbols such as + and € stay. A text of punctuation alone (":)", "?!") stays too, so that ":)" never equals ":(".
    """
    if text.isascii():
        folded = text.lower()
    else:
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.translate(_SEPARATORS).split()) or " ".join(folded.split())


def as_text(value: Any) -> str:
    """A value to be compared: a null is an empty text, another value than a text is JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def texts_of(rows: Dataset, columns: list[str]) -> Iterator[list[tuple[str, ...]]]:
    """The texts of the columns, a tuple a row, in batches; a null is an empty text, other values are read as JSON."""
    for table in iterate_tables(rows, columns, BATCH):
        values = [map(as_text, table.column(column).to_pylist()) for column in columns]
        yield list(zip(*values, strict=True))


def is_number(text: str) -> bool:
    """Whether a text is a number, as Python writes one."""
    try:
        float(text)
    except ValueError:
        return False
    return True
