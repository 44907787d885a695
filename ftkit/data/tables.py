"""Columns of many rows as Arrow arrays: `datasets` gathers chosen rows one at a time, a hundred times as slow."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from datasets import Dataset

BATCH = 10_000
MOST_SPREAD = 20  # rows that are read for one that is wanted; chosen ones that lie farther apart are gathered singly


def iterate_tables(rows: Dataset, columns: list[str], batch_size: int = BATCH) -> Iterator[Any]:
    """The columns as Arrow tables of so many rows, in the order of the rows; only one of them is held."""
    if rows._indices is None:
        yield from rows.select_columns(columns).with_format("arrow").iter(batch_size)
        return
    places = rows._indices.column(0)
    for start in range(0, len(rows), batch_size):
        wanted = places.slice(start, batch_size).to_numpy()
        low, spread = int(wanted.min()), int(np.ptp(wanted)) + 1
        if spread <= MOST_SPREAD * batch_size:
            yield rows.data.fast_slice(low, spread).select(columns).take(pa.array(wanted - low))
        else:
            yield rows.select_columns(columns).with_format("arrow")[start : start + batch_size]


def number_column(rows: Dataset, column: str) -> np.ndarray:
    """A column of numbers, shape (rows,)."""
    values: np.ndarray = rows.data.column(column).to_numpy()
    return values if rows._indices is None else values[rows._indices.column(0).to_numpy()]


def value_codes(rows: Dataset, column: str) -> tuple[np.ndarray, list[Any]]:
    """For each row the number of its value, shape (rows,), and the values, in the order of their words; not for lists."""
    stored = rows.data.column(column)
    try:
        encoded = pc.dictionary_encode(stored).unify_dictionaries()
    except pa.ArrowNotImplementedError:  # values with fields of their own
        words = pa.chunked_array([[None if value is None else str(value) for value in stored.to_pylist()]])
        encoded = pc.dictionary_encode(words).unify_dictionaries()
    known = encoded.chunk(0).dictionary.to_pylist() if encoded.num_chunks else []
    indices = [np.zeros(0, np.int64), *(pc.fill_null(chunk.indices, len(known)).to_numpy() for chunk in encoded.chunks)]
    codes = np.concatenate(indices, dtype=np.int64)
    if rows._indices is not None:
        codes = codes[rows._indices.column(0).to_numpy()]
    present, codes = np.unique(codes, return_inverse=True)  # a value may stand in rows that were dropped alone
    values = [[*known, None][code] for code in present.tolist()]
    order = sorted(range(len(values)), key=lambda number: str(values[number]))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks[codes], [values[number] for number in order]


def list_codes(rows: Dataset, column: str) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    """Of a column of lists each item's row and the number of its value, both of shape (items,), and the values."""
    places, items, start = [np.zeros(0, np.int64)], [], 0
    for table in iterate_tables(rows, [column]):
        cells = table.column(column).combine_chunks()
        cells = cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
        places.append(pc.list_parent_indices(cells).to_numpy() + start)
        items.append(pc.list_flatten(cells))
        start += len(cells)
    encoded = (
        pc.dictionary_encode(pa.chunked_array(items)).unify_dictionaries() if items else pa.chunked_array([], pa.null())
    )
    values = encoded.chunk(0).dictionary.to_pylist() if encoded.num_chunks else []
    codes = [np.zeros(0, np.int64), *(pc.fill_null(chunk.indices, len(values)).to_numpy() for chunk in encoded.chunks)]
    return np.concatenate(places), np.concatenate(codes, dtype=np.int64), [*values, None]


def column_values(rows: Dataset, column: str) -> list[Any]:
    """The values of a column in which many are alike, such as groups."""
    codes, values = value_codes(rows, column)
    return [values[code] for code in codes.tolist()]


def fingerprint(rows: Dataset, columns: list[str]) -> str:
    """SHA-256 of the columns and their values in the order of the rows, however they are stored."""
    digest = hashlib.sha256(",".join(columns).encode())
    for table in iterate_tables(rows, columns):
        for column in table.select(columns).combine_chunks().columns:
            _update(digest, column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column)
    return digest.hexdigest()


def _update(digest: Any, values: Any) -> None:
    """Hash an array by what it says: which values are null, how long each is, and the values one after another."""
    kind = values.type
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], kind)
    digest.update(np.packbits(values.is_valid().to_numpy(zero_copy_only=False)).tobytes())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        filled = pc.fill_null(values, "").cast(pa.large_string())
        digest.update(b"text" + pc.binary_length(filled).to_numpy().tobytes())
        offsets = np.frombuffer(filled.buffers()[1], np.int64)[filled.offset : filled.offset + len(filled) + 1]
        if len(filled) and offsets[-1] > offsets[0]:
            digest.update(memoryview(filled.buffers()[2])[offsets[0] : offsets[-1]])
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        whole = pa.types.is_integer(kind)
        filled = pc.fill_null(values, pa.scalar(0, kind))
        digest.update((b"whole" if whole else b"real") + filled.to_numpy().astype("<i8" if whole else "<f8").tobytes())
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        digest.update(b"list" + pc.fill_null(pc.list_value_length(values), 0).to_numpy().astype("<i8").tobytes())
        _update(digest, pc.list_flatten(values))
    elif pa.types.is_struct(kind):
        digest.update(",".join(field.name for field in kind).encode())
        for field in range(kind.num_fields):
            _update(digest, pc.struct_field(values, field))
    else:
        digest.update(repr(values.to_pylist()).encode())
