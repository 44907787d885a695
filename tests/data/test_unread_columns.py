"""Columns that are not read are named, and refused where their name says that a row means something else without them.

The kind: a column that is dropped without a word, so that an unwanted answer is learnt as a wanted one.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from ftkit.api import check, train
from ftkit.data.columns import read_columns
from ftkit.data.unread import require_unmeaning
from ftkit.errors import UserError
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Recipe
from ftkit.recipe.tasks import TASK_SPECS
from ftkit.run import resolved_values, write_jsonl

RecipeMaker = Callable[..., Recipe]
CHAT = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
ALPACA = {"instruction": "a", "output": "b"}
LABELLED = {"text": "a", "label": "b"}


def unread(task: str, rows: list[dict[str, Any]], part: str = "train", **options: Any) -> list[str]:
    """The unread columns, looked at as a table and as a stream, of which only names are known."""
    data, columns = Dataset.from_list(rows), options.pop("columns", {})
    read = read_columns(data.column_names, TASK_SPECS[task], columns, "rows.jsonl", options.pop("helpers", ()))
    return require_unmeaning(data, read, part, "rows.jsonl", **options)


@pytest.mark.parametrize(
    ("task", "row", "column", "words"),
    [
        ("instruction", {"messages": CHAT, "label": False}, "label", "preference data"),
        ("instruction", {"prompt": "a", "completion": "b", "label": "0"}, "label", "preference data"),
        ("instruction", {"prompt": "a", "completion": "b", "rejected": "c"}, "rejected", "preference data"),
        ("instruction", {"messages": CHAT, "chosen": CHAT}, "chosen", "say columns: {completion: chosen}"),
        ("instruction", {"messages": CHAT, "weight": 0.5}, "weight", "all rows would count alike"),
        ("instruction", {**ALPACA, "score": 3}, "score", "rows of any score"),
        ("text-classification", {**LABELLED, "Weight": 2}, "Weight", "all rows would count alike"),
        ("text-classification", {**LABELLED, "split": "test"}, "split", "say data.split_column: split"),
        ("summarization", {"document": "a", "summary": "b", "split": "dev"}, "split", "rows of another split"),
        ("summarization", {"document": "a", "summary": "b", "score": 1}, "score", "rows of any score"),
        ("language-modeling", {"text": "a", "rejected": "b"}, "rejected", "preference data"),
    ],
)
def test_columns_that_change_a_row_are_refused_and_can_be_left_out_knowingly(
    task: str, row: dict[str, Any], column: str, words: str
) -> None:
    with pytest.raises(UserError) as raised:
        unread(task, [row, row])
    message = str(raised.value)
    assert f"rows.jsonl has a column '{column}' that is not read: " in message
    assert words in message
    assert f"data.ignore_columns: [{column}]" in message
    assert column in unread(task, [row, row], ignored=[column])


@pytest.mark.parametrize(
    ("task", "row", "found"),
    [
        ("instruction", {"messages": CHAT, "label": True, "id": 1}, ["label", "id"]),
        ("instruction", {"messages": CHAT, "label": "sport"}, ["label"]),
        ("instruction", {"messages": CHAT, "weight": 1.0}, ["weight"]),
        ("text-classification", {**LABELLED, "split": "train", "date": "x"}, ["split", "date"]),
        ("text-classification", {**LABELLED, "system": "x", "history": "y"}, ["system", "history"]),
        ("text-classification", {**LABELLED, "score": 0.9, "chosen": "x"}, ["score", "chosen"]),
        ("text-regression", {"text": "a", "label": 2, "score": 1}, ["score"]),
        ("token-classification", {"tokens": ["a"], "tags": ["O"], "score": 0.9}, ["score"]),
    ],
)
def test_other_columns_are_named(task: str, row: dict[str, Any], found: list[str]) -> None:
    assert unread(task, [row]) == found


def test_a_column_that_is_read_is_none_of_them() -> None:
    pair = {"text": "a", "score": 2.5}
    assert unread("text-regression", [pair], columns={"label": "score"}) == []
    assert unread("text-classification", [{**LABELLED, "split": "test"}], helpers=["split"]) == []
    preferred = {"prompt": "a", "chosen": "b", "rejected": "c"}
    assert unread("instruction", [preferred], columns={"completion": "chosen"}) == ["rejected"]
    assert unread("text-classification", [{**LABELLED, "split": "test"}], part="test") == ["split"]
    columns = {"labels": ["x", "y"]}
    assert unread("text-classification", [{"text": "a", "x": 1, "y": 0, "id": 1}], columns=columns) == ["id"]


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"tokens": ["a", "b"], "tags": ["O", "O"], "text": "a b"}, []),  # as reading CoNLL puts it together
        ({"tokens": ["a", "b"], "tags": ["O", "O"], "text": "of another file"}, ["text"]),
    ],
)
def test_a_text_that_was_made_of_the_words_is_no_column_of_the_file(row: dict[str, Any], found: list[str]) -> None:
    assert unread("token-classification", [row]) == found


def test_they_stand_in_the_report_and_on_the_screen(
    recipe: RecipeMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": f"row {number}", "label": "ab"[number % 2], "id": number, "date": "x"} for number in range(60)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    made = recipe(data={"train": str(tmp_path / "rows.jsonl")}, training={"max_steps": 1})
    report = json.loads((train(made, output_dir=tmp_path / "run").folder / "data_report.json").read_text())
    assert report["unread_columns"] == {str(tmp_path / "rows.jsonl"): ["id", "date"]}
    assert "columns that are not read: id, date (rows.jsonl)" in capsys.readouterr().err


def test_a_stream_refuses_them_by_name(recipe: RecipeMaker, tmp_path: Path) -> None:
    rows = [{"text": f"row {number}", "label": "ab"[number % 2], "weight": 1} for number in range(60)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    write_jsonl(tmp_path / "eval.jsonl", [{"text": f"other {row['text']}", "label": row["label"]} for row in rows[:10]])
    data = {"train": str(tmp_path / "rows.jsonl"), "eval": str(tmp_path / "eval.jsonl"), "streaming": True}
    values = resolved_values(recipe()) | {"data": data}
    with pytest.raises(UserError, match="has a column 'weight' that is not read"):
        check(load_values(values))
    assert check(load_values(values | {"data": {**data, "ignore_columns": ["weight"]}})).facts
