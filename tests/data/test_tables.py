"""Whole columns in the order of the rows, whatever rows were chosen, and a fingerprint of what they say."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets

from ftkit.data.tables import column_values, fingerprint, iterate_tables, number_column, value_codes

COUNT = 5000
ORDERS = {
    "all": range(COUNT),
    "ascending": [row for row in range(COUNT) if row % 7],
    "far apart": range(0, COUNT, 100),
    "shuffled": np.random.default_rng(1).permutation(COUNT)[:900].tolist(),
    "none": [],
}
VALUES: list[Any] = [None, "", "ä", "long text"]

each_order = pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)


def make_rows() -> Dataset:
    rows = [
        {"text": f"row {row}", "label": VALUES[row % 4], "turns": [{"said": str(row)}] * (row % 3), "_row": row}
        for row in range(COUNT)
    ]
    return concatenate_datasets([Dataset.from_list(rows[at : at + 1000]) for at in range(0, COUNT, 1000)])


@each_order
def test_columns_come_in_the_order_of_the_rows(order: Sequence[int]) -> None:
    rows = make_rows().select(order)
    assert number_column(rows, "_row").tolist() == list(order)
    assert column_values(rows, "label") == rows["label"][:]
    tables = list(iterate_tables(rows, ["text", "turns"], 64))
    found = [row for table in tables for row in table.to_pylist()]
    assert found == [{"text": row["text"], "turns": row["turns"]} for row in rows]
    assert all(len(table) <= 64 for table in tables)


def test_codes_count_the_values_that_are_left_in_the_order_of_their_words() -> None:
    rows = Dataset.from_dict({"label": ["gone", "b", "a", "b", "c"]}).select([1, 2, 3, 4])
    codes, values = value_codes(rows, "label")
    assert (codes.tolist(), values) == ([1, 0, 1, 2], ["a", "b", "c"])
    numbers = Dataset.from_dict({"label": [{"x": 2}, {"x": 1}, None]})  # what Arrow cannot number
    assert value_codes(numbers, "label")[0].tolist() == [2, 1, 0]


@each_order
def test_the_fingerprint_says_what_the_rows_say_however_they_are_stored(order: Sequence[int]) -> None:
    rows, columns = make_rows().select(order), ["text", "label", "turns"]
    stored = Dataset.from_dict({name: rows[name][:] for name in columns}, features=rows.select_columns(columns).features)
    assert fingerprint(rows, columns) == fingerprint(stored, columns)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["ab", "c"], ["a", "bc"]),
        ([None, "a"], ["", "a"]),
        (["a", "b"], ["b", "a"]),
        ([1, 2], ["1", "2"]),
        ([[1], [2, 3]], [[1, 2], [3]]),
        ([None, [1]], [[], [1]]),
        ([{"a": "x", "b": None}], [{"a": None, "b": "x"}]),
    ],
)
def test_other_values_have_another_fingerprint(one: list[Any], other: list[Any]) -> None:
    first, second = (fingerprint(Dataset.from_dict({"x": values}), ["x"]) for values in (one, other))
    assert first != second
