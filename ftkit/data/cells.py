"""Cells that stand for lists: the text of a list, and labels that have a column each, with 0 or 1."""

import ast
import json
import re
from collections.abc import Sequence
from itertools import islice
from typing import Any

from datasets import Dataset, Features, List, Value

from ftkit.data.encode import is_empty
from ftkit.data.tables import value_codes
from ftkit.errors import RowError, UserError

PEEKED = 100  # rows of a stream that are looked at
ITEM = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?"""
ITEMS = re.compile(ITEM)
LIST = re.compile(rf"\s*\[\s*(?:(?:{ITEM})(?:[\s,]+(?:{ITEM}))*)?[\s,]*\]\s*", re.S)
YES_AND_NO = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
HOW_TO_WRITE = 'write every cell as a list, as ["a", "b"], or none; several plain labels in a cell need data.label_separator'


def list_of(text: Any) -> list[str] | None:
    """The items of a list that was written as text, by Python, JSON or NumPy: quoted texts or numbers; else None."""
    if not isinstance(text, str) or not LIST.fullmatch(text):
        return None
    return [_item(found) for found in ITEMS.findall(text)]


def _item(text: str) -> str:
    if text[0] not in "'\"":
        return text
    try:
        return str(json.loads(text)) if text[0] == '"' else str(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        return text[1:-1]


def read_lists(rows: Any, columns: Sequence[str], first: int = 0) -> Any:
    """The rows, or stream of rows, with those of the columns as lists that hold the texts of lists.

    Args:
        first: what is added to a row's position where it is named.

    Raises:
        RowError: a column has texts of lists and other texts; in a stream, once the row is reached.
    """
    chosen = [name for name in columns if getattr(rows.features.get(name), "dtype", "") == "string"]
    chosen = [name for name in chosen if any(list_of(value) is not None for value in _values(rows, name))]
    if not chosen:
        return rows
    features = Features({**rows.features, **{name: List(Value("string")) for name in chosen}})
    options = {"batched": True, "with_indices": True, "features": features}
    return rows.map(_as_lists, fn_kwargs={"columns": chosen, "first": first}, **options)


def _values(rows: Any, column: str) -> list[Any]:
    if isinstance(rows, Dataset):
        return value_codes(rows, column)[1]
    return [row[column] for row in islice(rows.select_columns([column]), PEEKED)]


def _as_lists(batch: dict[str, list[Any]], positions: list[int], columns: list[str], first: int) -> dict[str, list[Any]]:
    return {
        name: [_listed(name, cell, first + row) for cell, row in zip(batch[name], positions, strict=True)]
        for name in columns
    }


def _listed(column: str, cell: Any, position: int) -> list[str] | None:
    if is_empty(cell):
        return None
    found = list_of(cell)
    if found is None:
        message = f"'{column}' is '{str(cell)[:60]}', where other rows have a list written as text"
        raise RowError(position, message, HOW_TO_WRITE, key=f"data.columns.{column}")
    return found


def join_columns(rows: Any, names: Sequence[str], column: str, first: int = 0) -> Any:
    """The rows, or stream of rows, with a list of the names of those columns that say 1; none where one is empty.

    Raises:
        RowError: a cell is neither 0 nor 1; in a stream, once the row is reached.
    """
    features = Features(
        {name: kind for name, kind in rows.features.items() if name not in names} | {column: List(Value("string"))}
    )
    return rows.map(
        _joined, batched=True, with_indices=True, features=features, remove_columns=list(names),
        fn_kwargs={"names": list(names), "column": column, "first": first},
    )  # fmt: skip


def _joined(
    batch: dict[str, list[Any]], positions: list[int], names: list[str], column: str, first: int
) -> dict[str, list[Any]]:
    cells = zip(*(batch[name] for name in names), strict=True)
    return {column: [_said(names, row, first + position) for row, position in zip(cells, positions, strict=True)]}


def _said(names: list[str], cells: tuple[Any, ...], position: int) -> list[str] | None:
    if any(map(is_empty, cells)):
        return None
    said = [YES_AND_NO.get(str(cell).strip().lower()) for cell in cells]
    if None in said:
        place = said.index(None)
        message = f"'{names[place]}' is '{str(cells[place])[:60]}', where a column a label says 0 or 1"
        raise RowError(position, message, "name columns of 0 and 1 alone", key="data.columns.labels")
    return [name for name, yes in zip(names, said, strict=True) if yes]


def match_texts(rows: Any, pattern: str, first: int = 0) -> Any:
    """The rows, or stream of rows, with the named groups of a regular expression that fits their text in place of it.

    Raises:
        UserError: the rows have no `text`.
        RowError: it does not fit a text; in a stream, once the row is reached.
    """
    if "text" not in rows.column_names:
        hint = "it is for files of lines, as .txt; remove data.pattern"
        raise UserError(f"the rows have no lines, they have {', '.join(rows.column_names)}", hint, key="data.pattern")
    groups = list(re.compile(pattern).groupindex)
    kept = {name: kind for name, kind in rows.features.items() if name != "text"}
    features = Features(kept | dict.fromkeys(groups, Value("string")))
    options = {"batched": True, "with_indices": True, "features": features, "input_columns": ["text"]}
    return rows.map(_matched, remove_columns=["text"], fn_kwargs={"pattern": pattern, "first": first}, **options)


def _matched(texts: list[Any], positions: list[int], pattern: str, first: int) -> dict[str, list[Any]]:
    form = re.compile(pattern, re.S)
    found = [form.fullmatch(text or "") for text in texts]
    for text, position, match in zip(texts, positions, found, strict=True):
        if match is None:
            message = f"the pattern does not fit '{str(text)[:60]}'"
            raise RowError(first + position, message, "mend the row or the pattern", key="data.pattern")
    return {name: [match[name] if match else None for match in found] for name in form.groupindex}


def are_vectors(lists: Sequence[Any]) -> bool:
    """Whether lists of labels are vectors of 0 and 1, a place a label: of one length, and of nothing else."""
    filled = [cells for cells in lists if cells]
    sizes = {len(cells) for cells in filled}
    return len(sizes) == 1 and min(sizes) > 1 and all(str(cell).lower() in YES_AND_NO for cells in filled for cell in cells)


def named_by(cells: Sequence[Any], names: Sequence[str]) -> list[str] | None:
    """The names whose places in a vector of 0 and 1 say 1; None of what is no such vector."""
    if len(cells) != len(names) or set(names) & {"0", "1"}:
        return None
    said = [YES_AND_NO.get(str(cell).lower()) for cell in cells]
    return None if None in said else [name for name, yes in zip(names, said, strict=True) if yes]
