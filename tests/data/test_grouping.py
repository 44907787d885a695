"""Splits by a group and by a column that names the split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftkit.data.grouping import split_by_column, split_by_group
from ftkit.errors import UserError


@given(st.lists(st.integers(0, 30), min_size=60, max_size=200), st.integers(0, 5))
def test_a_group_stands_on_one_side_and_every_row_once(groups: list[int], seed: int) -> None:
    if len(set(groups)) < 3:
        return
    parts = split_by_group(groups, {"eval": 0.1, "test": 0.2}, seed)
    assert sorted(row for rows in parts.values() for row in rows) == list(range(len(groups)))
    sides = [{groups[row] for row in rows} for rows in parts.values()]
    assert all(sides)
    assert sum(map(len, sides)) == len(set(groups))


def test_parts_come_as_near_to_their_sizes_as_groups_allow() -> None:
    groups = [f"patient {row // 10}" for row in range(1000)]
    parts = split_by_group(groups, {"eval": 0.1, "test": 50}, seed=1)
    assert {part: len(rows) for part, rows in parts.items()} == {"eval": 100, "test": 50, "train": 850}
    assert parts == split_by_group(groups, {"eval": 0.1, "test": 50}, seed=1)
    assert parts != split_by_group(groups, {"eval": 0.1, "test": 50}, seed=2)
    assert parts["eval"] == sorted(parts["eval"])


def test_one_giant_group_goes_to_train() -> None:
    parts = split_by_group(["big"] * 90 + ["a", "b"] * 5, {"eval": 0.1}, seed=1)
    assert parts["eval"] == list(range(90, 100))


def test_fewer_groups_than_parts() -> None:
    with pytest.raises(UserError, match="2 groups are too few for 3 parts"):
        split_by_group(["a", "b"] * 50, {"eval": 0.1, "test": 0.1}, seed=1)
    with pytest.raises(UserError, match=r"too few to split off data\.eval_size 0\.01"):
        split_by_group(["a", "b"], {"eval": 0.01}, seed=1)


def test_a_column_names_the_split() -> None:
    values = ["train", "Training", "dev", "validation", "valid", "val", "eval", " test "]
    assert split_by_column(values) == {"train": [0, 1], "eval": [2, 3, 4, 5, 6], "test": [7]}


def test_a_column_with_other_values_lists_them() -> None:
    with pytest.raises(UserError, match=r"in 3 of 4 rows: 'holdout' \(2\), 'None' \(1\)"):
        split_by_column(["train", "holdout", "holdout", None])  # type: ignore[list-item]
