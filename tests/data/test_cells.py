"""Cells that stand for lists: texts of lists and a column a label, in tables and in streams.

The kind: a cell that is taken for something else than its writer meant, as a class that is named `['a', 'b']`.
"""

from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from ftkit.data.cells import are_vectors, list_of, named_by
from ftkit.data.columns import map_columns
from ftkit.data.encode import is_empty
from ftkit.data.split import keep_in_train
from ftkit.data.tables import list_codes
from ftkit.errors import RowError, UserError
from ftkit.recipe.tasks import TASK_SPECS

CLASSES, TAGS = TASK_SPECS["text-classification"], TASK_SPECS["token-classification"]


def mapped(rows: list[dict[str, Any]], columns: Any = None, spec: Any = CLASSES, *, streamed: bool = False) -> list[Any]:
    data = Dataset.from_list(rows)
    found = map_columns(data.to_iterable_dataset() if streamed else data, spec, columns or {}, "rows.csv")[1]
    return list(found)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("['a', 'b']", ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ("['a' 'b'\n 'c']", ["a", "b", "c"]),  # as NumPy writes it
        ("['it\\'s', \"so, [so]\"]", ["it's", "so, [so]"]),
        ('["caf\\u00e9"]', ["café"]),
        (" [0, 1, 0] ", ["0", "1", "0"]),
        ("[0 1.0]", ["0", "1.0"]),
        ("[]", []),
        ("[NEG]", None),
        ("['a'", None),
        ("['a'] ['b']", None),
        ("a, b", None),
        ("", None),
        (None, None),
        (3, None),
    ],
)
def test_texts_of_lists(text: Any, items: list[str] | None) -> None:
    assert list_of(text) == items


@pytest.mark.parametrize("streamed", [False, True])
def test_a_column_of_texts_of_lists_is_one_of_lists(streamed: bool) -> None:
    rows = [{"text": "x", "label": "['a']"}, {"text": "y", "label": "['a', 'b']"}, {"text": "z", "label": ""}]
    assert [row["label"] for row in mapped(rows, streamed=streamed)] == [["a"], ["a", "b"], None]
    words = [{"tokens": "['New', 'York']", "tags": '["B-P", "I-P"]'}]
    assert mapped(words, spec=TAGS, streamed=streamed) == [{"tokens": ["New", "York"], "tags": ["B-P", "I-P"]}]
    mixed = [*rows, {"text": "w", "label": "a"}]
    with pytest.raises(RowError, match="'label' is 'a', where other rows have a list written as text") as raised:
        mapped(mixed, streamed=streamed)
    assert raised.value.position == 3
    plain = [{"text": "x", "label": "[NEG]"}, {"text": "y", "label": "[POS]"}]
    assert mapped(plain, streamed=streamed) == plain


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("cells", [("1", "0"), (1, 0), (1.0, 0.0), (True, False), ("True", "false")])
def test_a_column_a_label(cells: tuple[Any, Any], streamed: bool) -> None:
    yes, no = cells
    rows = [
        {"text": "x", "b": yes, "a": no, "id": 1},
        {"text": "y", "b": yes, "a": yes, "id": 2},
        {"text": "z", "b": no, "a": no, "id": 3},
    ]
    found = mapped(rows, {"labels": ["a", "b"]}, streamed=streamed)
    assert [row["label"] for row in found] == [["b"], ["a", "b"], []]
    assert set(found[0]) == {"text", "label"}


def test_a_column_a_label_says_0_or_1_or_nothing() -> None:
    rows = [{"text": "x", "a": "1", "b": "0"}, {"text": "y", "a": "", "b": "0"}]
    assert [row["label"] for row in mapped(rows, {"labels": ["a", "b"]})] == [["a"], None]
    with pytest.raises(RowError, match="'b' is '2', where a column a label says 0 or 1") as raised:
        mapped([*rows, {"text": "z", "a": "1", "b": "2"}], {"labels": ["a", "b"]})
    assert raised.value.position == 2
    with pytest.raises(UserError, match="has no column 'c'; it has text, a, b"):
        mapped(rows, {"labels": ["a", "c"]})
    with pytest.raises(UserError, match="'labels' takes a list of columns"):
        mapped(rows, {"labels": "a"})
    with pytest.raises(UserError, match="'text' takes one column"):
        mapped(rows, {"text": ["a", "b"]})
    with pytest.raises(UserError, match=r"or, of one 0/1 column a label, data.columns: \{labels: \[a, b\]\}"):
        mapped(rows)


def test_vectors_of_0_and_1() -> None:
    assert are_vectors([[0, 1, 0], [1, 1, 0]])
    assert are_vectors([["0", "1"], ["1", "0"], None])
    assert are_vectors([[True, False], [False, False]])
    assert not are_vectors([[0, 1], [0]])
    assert not are_vectors([[0, 2], [1, 0]])
    assert not are_vectors([["a"], ["b"]])
    assert not are_vectors([])
    assert named_by([1, 0, 1], ["a", "b", "c"]) == ["a", "c"]
    assert named_by([1, 0], ["a", "b", "c"]) is None
    assert named_by(["0", "1"], ["0", "1"]) is None


def test_nothing_is_said_by_a_nan() -> None:
    assert all(map(is_empty, [float("nan"), np.float32("nan"), None]))
    assert not any(map(is_empty, [0.0, "nan"]))


def test_items_of_lists_by_row() -> None:
    rows = Dataset.from_dict({"x": [["a"], [], None, ["b", "a"]]}).select([3, 0, 1])
    places, codes, values = list_codes(rows, "x")
    assert [(int(place), values[code]) for place, code in zip(places, codes, strict=True)] == [(0, "b"), (0, "a"), (1, "a")]


def test_every_label_stays_in_train_in_exchange_for_another_row() -> None:
    parts = {"train": np.arange(6), "eval": np.array([6, 7]), "test": np.array([8, 9])}
    rows = np.array([*range(10), 7, 8, 9])
    codes = np.array([0, 0, 0, 1, 1, 1, 0, 1, 0, 1, 2, 3, 3])  # 2 in row 7 alone, 3 in rows 8 and 9
    kept = keep_in_train(parts, rows, codes, seed=1)
    assert {part: len(found) for part, found in kept.items()} == {"train": 6, "eval": 2, "test": 2}
    assert sorted(np.concatenate(list(kept.values()))) == list(range(10))
    assert set(codes[np.isin(rows, kept["train"])]) == {0, 1, 2, 3}
    assert 9 in kept["test"]
    same = keep_in_train(parts, rows[:10], codes[:10], seed=1)
    assert all((same[part] == parts[part]).all() for part in parts)
