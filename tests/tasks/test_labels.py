"""Labels as their writer meant them: one in several spellings, vectors, rare ones; and how often each occurs is said.

The kind: labels that `check` calls sound and that are other classes than the writer's.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftkit.api import check, train
from ftkit.errors import UserError
from ftkit.recipe.schema import Recipe
from ftkit.run import write_jsonl
from ftkit.tasks.labels import require_one_spelling

RecipeMaker = Callable[..., Recipe]


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (
            {"bad": 5, "Bad": 2, "bad ": 1, "good": 9},
            r"'bad' \(5\), 'Bad' \(2\), 'bad ' \(1\); .*: \{Bad: bad, \"bad \": bad\},",
        ),
        ({"1": 5, "1.0": 6, "2": 1}, r"'1.0' \(6\), '1' \(5\); say data.clean.label_map: \{\"1\": \"1.0\"\},"),
        ({"a b": 3, "a  b": 1, "c": 1}, r"\"a  b\": \"a b\""),
        ({"ﬁsh": 1, "fish": 2, "no": 4, "NO": 1}, r"and 1 more so; say .*\"ﬁsh\": fish, NO: no"),
    ],
)
def test_one_label_in_several_spellings_is_refused_with_the_map_to_write(counts: dict[str, int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        require_one_spelling(counts, "data.columns.label", mapped=True)
    with pytest.raises(UserError, match="write each label in one way, or name all"):
        require_one_spelling(counts, "data.columns.tags", mapped=False)


def test_labels_that_differ_are_let_pass() -> None:
    require_one_spelling({"1": 1, "01": 1, "10": 1, "1.5": 2, "a-b": 1, "a b": 1, "é": 1, "e": 1}, "x", mapped=True)


def rows_of(labels: list[Any]) -> list[dict[str, Any]]:
    return [
        {"text": f"row number {number} says {hash(str(label)) % 97}", "label": label} for number, label in enumerate(labels)
    ]


def test_spellings_in_rows_and_the_two_ways_out(recipe: RecipeMaker, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", rows_of(["bad", "good", "Bad", "bad"] * 20))
    data = {"train": str(tmp_path / "rows.jsonl")}
    with pytest.raises(UserError, match="one label in several spellings: 'bad'") as raised:
        check(recipe(data=data))
    assert raised.value.key == "data.columns.label"
    assert check(recipe(data=data | {"clean": {"label_map": {"Bad": "bad"}}})).facts
    assert check(recipe(data=data | {"labels": ["bad", "Bad", "good"]})).facts


def test_spellings_in_lists_of_labels_and_in_tags(recipe: RecipeMaker, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", rows_of([["a"], ["b", "A"], ["b"], ["a", "b"]] * 20))
    data = {"train": str(tmp_path / "rows.jsonl")}
    with pytest.raises(UserError, match=r"'a' \(\d+\), 'A' \(\d+\); say data.clean.label_map: \{A: a\}"):
        check(recipe(data=data))
    assert check(recipe(data=data | {"clean": {"label_map": {"A": "a"}}})).facts
    words = [{"tokens": [f"w{number}", "b"], "tags": ["B-X" if number % 2 else "B-x", "O"]} for number in range(40)]
    write_jsonl(tmp_path / "tags.jsonl", words)
    with pytest.raises(UserError, match=r"'B-X' \(\d+\), 'B-x' \(\d+\); write each label in one way"):
        check(recipe(task="token-classification", kind="distilbert", data={"train": str(tmp_path / "tags.jsonl")}))


def test_vectors_need_the_names_of_their_places(recipe: RecipeMaker, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", rows_of([[1, 0, 0], [0, 1, 1], [0, 1, 0], [0, 0, 0]] * 20))
    data = {"train": str(tmp_path / "rows.jsonl")}
    with pytest.raises(UserError, match="the labels are vectors of 0 and 1, of 3 places; name what the 3 places"):
        check(recipe(data=data))
    run = train(recipe(data=data | {"labels": ["x", "y", "z"]}, training={"max_steps": 1}), output_dir=tmp_path / "run")
    report = json.loads((run.folder / "data_report.json").read_text())
    counts = {name: sum(split[name] for split in report["labels"].values()) for name in "xyz"}
    assert counts == {"x": 20, "y": 40, "z": 20}
    assert "| label | train | eval |" in (run.folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([[True, False], [False, True], [True, True]], "the labels are vectors of 0 and 1, of 2 places"),
        ([{"a": 1, "b": 0}, {"a": 0, "b": 1}], "the labels are objects of several fields"),
        ([[{"name": "a"}], [{"name": "b"}]], "the labels are objects of several fields"),
        (["0", "1", "0", "nan"], r"'nan' \(\d+\) stands among labels that are numbers: 0, 1"),
        (["1", "2", "3", "N/A"], r"'N/A' \(\d+\) stands among labels that are numbers: 1, 2, 3"),
    ],
)
def test_what_is_no_name_of_a_class_is_refused(recipe: RecipeMaker, tmp_path: Path, labels: list[Any], words: str) -> None:
    write_jsonl(tmp_path / "rows.jsonl", rows_of(labels * 20))
    with pytest.raises(UserError, match=words):
        check(recipe(data={"train": str(tmp_path / "rows.jsonl")}))


def test_tags_that_are_objects_are_refused(recipe: RecipeMaker, tmp_path: Path) -> None:
    rows = [{"tokens": ["a", "b"], "tags": [{"name": "O"}, {"name": "B-X"}]} for _ in range(40)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(UserError, match="the labels are objects of several fields"):
        check(recipe(task="token-classification", kind="distilbert", data={"train": str(tmp_path / "rows.jsonl")}))


def test_a_nan_that_is_named_or_stands_among_words_is_a_label(recipe: RecipeMaker, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "named.jsonl", rows_of(["0", "1", "nan"] * 20))
    write_jsonl(tmp_path / "words.jsonl", rows_of(["naan", "nan"] * 20))
    assert check(recipe(data={"train": str(tmp_path / "named.jsonl"), "labels": ["0", "1", "nan"]})).facts
    assert check(recipe(data={"train": str(tmp_path / "words.jsonl")})).facts


def test_a_column_a_label_that_is_empty_where_it_says_no_is_told(recipe: RecipeMaker, tmp_path: Path) -> None:
    rows = [{"text": f"row {n}", "a": 1 if n % 2 else None, "b": None if n % 2 else 1} for n in range(40)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(UserError, match=r"no training row has a label; .*each cell says 0 or 1") as raised:
        check(recipe(data={"train": str(tmp_path / "rows.jsonl"), "columns": {"labels": ["a", "b"]}}))
    assert raised.value.key == "data.columns.label"


def test_a_rare_tag_is_learnt_and_not_only_measured(recipe: RecipeMaker, tmp_path: Path) -> None:
    words = [{"tokens": [f"w{number}", "b"], "tags": ["B-X", "O"]} for number in range(60)]
    for number in range(0, 60, 6):  # ten tags that stand once: some of them fall into eval
        words[number]["tags"] = [f"B-T{number}", "O"]
    write_jsonl(tmp_path / "tags.jsonl", words)
    data = {"train": str(tmp_path / "tags.jsonl"), "eval_size": 20}
    found = check(recipe(task="token-classification", kind="distilbert", data=data))
    assert found.facts


@pytest.mark.parametrize("value", [float("nan"), None])
def test_a_label_that_is_no_number_is_an_empty_field(recipe: RecipeMaker, tmp_path: Path, value: Any) -> None:
    rows = rows_of([0.0, 1.0] * 30)
    rows[7]["label"] = value
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "list.json").write_text(json.dumps(rows))
    for name in ("lines.jsonl", "list.json"):
        with pytest.raises(UserError, match=rf"rows have an empty field \({name} row 8\)"):
            check(recipe(data={"train": str(tmp_path / name)}))
        assert check(recipe(data={"train": str(tmp_path / name), "drop_empty": True})).facts


def test_a_text_that_is_no_number_is_an_empty_field(recipe: RecipeMaker, tmp_path: Path) -> None:
    rows = rows_of(["a", "b"] * 30)
    rows[11]["text"] = float("nan")  # as pandas writes what is missing
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=r"rows have an empty field \(rows.jsonl row 12\)"):
        check(recipe(data={"train": str(tmp_path / "rows.jsonl")}))
