"""Forms of files that people have: labels in lines and names, rows that are lists, CoNLL-U, comments, half characters.

The kind: a file that is read as something else than it is, or refused without a word on what to do.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftkit.api import check
from ftkit.data.paths import find_files
from ftkit.data.sources import read_source
from ftkit.data.splits import read_splits
from ftkit.errors import RecipeError, UserError
from ftkit.prediction.fields import matched
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Recipe, Source
from ftkit.recipe.tasks import TASK_SPECS
from ftkit.run import resolved_values

RecipeMaker = Callable[..., Recipe]
UNIVERSAL = "\n".join(
    [
        "# sent_id = 1",
        "# text = Don't go",
        "1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_",
        "1\tDo\tdo\tAUX\t_\t_\t3\taux\t_\t_",
        "2\tn't\tnot\tPART\t_\t_\t3\tadvmod\t_\t_",
        "3\tgo\tgo\tVERB\t_\t_\t0\troot\t_\t_",
        "3.1\tthere\tthere\tADV\t_\t_\t_\t_\t3:advmod\t_",
        "",
        "# newdoc",
        "1\tYes\tyes\tINTJ\t_\t_\t0\troot\t_\t_",
        "",
    ]
)


def read(path: Path | str, **options: Any) -> list[dict[str, Any]]:
    return list(read_source(Source(path=str(path), **options), split="train", sample_by="line", seed=1, key="data.train"))


def columns_of(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


@pytest.mark.parametrize("name", ["a.conllu", "a.conll"])
def test_conll_u_has_its_columns_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(UNIVERSAL)
    rows = read(tmp_path / name)
    assert columns_of(rows, "tokens", "upos", "text") == [
        (["Do", "n't", "go"], ["AUX", "PART", "VERB"], "Do n't go"), (["Yes"], ["INTJ"], "Yes"),
    ]  # fmt: skip
    assert "tags" not in rows[0]


def test_conll_u_needs_the_column_of_the_tags(tmp_path: Path) -> None:
    (tmp_path / "a.conllu").write_text(UNIVERSAL)
    values = {
        "task": "token-classification",
        "model": "x",
        "strategy": "full",
        "data": {"train": str(tmp_path / "a.conllu")},
    }
    spec = TASK_SPECS["token-classification"]
    with pytest.raises(UserError, match=r"has no column 'tags'; it has .*upos.*map it with data.columns: \{tags: …\}"):
        read_splits(load_values(values).data, spec, lambda _: None)
    made = load_values(values | {"data": {**values["data"], "columns": {"tags": "upos"}, "eval_size": 1}})
    assert read_splits(made.data, spec, lambda _: None).rows["train"].column_names[:2] == ["tokens", "tags"]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("# id = 1\na O\n\n# a longer comment\nb B\n", [(["a"], ["O"]), (["b"], ["B"])]),
        ("a\tO\n\n# text = x y\n#\tB\nb\tO\n", [(["a"], ["O"]), (["#", "b"], ["B", "O"])]),
        ("# O\n1 B\n", [(["#", "1"], ["O", "B"])]),
        ("a O\n# B\n", [(["a", "#"], ["O", "B"])]),
    ],
)
def test_comments_are_passed_over_and_words_are_not(tmp_path: Path, content: str, rows: list[Any]) -> None:
    (tmp_path / "a.conll").write_text(content)
    assert columns_of(read(tmp_path / "a.conll"), "tokens", "tags") == rows


def test_the_fields_of_conll_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("a DT O\nb NN B-X\n")
    rows = read(tmp_path / "a.conll", header=["tokens", "pos", "tags"])
    assert columns_of(rows, "tokens", "pos", "tags") == [(["a", "b"], ["DT", "NN"], ["O", "B-X"])]
    with pytest.raises(UserError, match="3 fields where `header` names 2"):
        read(tmp_path / "a.conll", header=["tokens", "tags"])


@pytest.mark.parametrize("form", ["lines", "list"])
def test_rows_that_are_lists(tmp_path: Path, form: str) -> None:
    rows = [["a", "x"], ["b", "y"]]
    file = tmp_path / ("a.jsonl" if form == "lines" else "a.json")
    file.write_text("\n".join(map(json.dumps, rows)) if form == "lines" else json.dumps(rows))
    assert columns_of(read(file, header=["text", "label"]), "text", "label") == [("a", "x"), ("b", "y")]
    with pytest.raises(
        UserError, match=r'its rows are lists, as \["a", "x"\]; name their columns, as .*header: \[text, label\]'
    ):
        read(file)
    with pytest.raises(UserError, match="row 1: 2 items where `header` names 3"):
        read(file, header=["text", "label", "id"])
    file.write_text('{"text": "a"}\n{"text": "b"}')
    with pytest.raises(UserError, match="'header' has no effect on"):
        read(file, header=["text", "label"])


def test_a_label_from_the_name_of_a_folder_or_a_file(tmp_path: Path) -> None:
    for label in ("pos", "neg"):
        (tmp_path / "texts" / label).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "texts" / label / f"{number}.txt").write_text(f"{label}\n\nsecond {number}\n")
        (tmp_path / f"{label}.txt").write_text(f"{label} 1\n{label} 2\n")
    rows = columns_of(read(tmp_path / "texts", label_from="folder"), "text", "label")
    assert rows == [(f"{label}\n\nsecond {number}\n", label) for label in ("neg", "pos") for number in range(2)]
    rows = columns_of(read(tmp_path / "*.txt", label_from="file"), "text", "label")
    assert rows == [("neg 1", "neg"), ("neg 2", "neg"), ("pos 1", "pos"), ("pos 2", "pos")]
    (tmp_path / "a.csv").write_text("text,label\na,b\n")
    with pytest.raises(UserError, match="has a column 'label' already; remove label_from"):
        read(tmp_path / "a.csv", label_from="file")
    with pytest.raises(UserError, match="'label_from' has no effect on sample:sentiment"):
        read("sample:sentiment", label_from="file")


def lines(count: int = 60) -> list[str]:
    return [f"__label__{'ab'[number % 2]} text number {number}" for number in range(count)]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_label_within_the_line(recipe: RecipeMaker, tmp_path: Path, streaming: bool) -> None:
    (tmp_path / "rows.txt").write_text("\n".join(lines()))
    (tmp_path / "eval.txt").write_text("\n".join(f"__label__{label} other words of {label}" for label in "ab"))
    data = {"train": str(tmp_path / "rows.txt"), "eval": str(tmp_path / "eval.txt"), "streaming": streaming}
    pattern = r"__label__(?P<label>\S+) (?P<text>.*)"
    values = resolved_values(recipe()) | {"data": data | {"pattern": pattern}}
    assert check(load_values(values)).facts
    (tmp_path / "rows.txt").write_text("\n".join([*lines(), "no label here", *lines(9)]))
    with pytest.raises(UserError, match=r"data.pattern: rows.txt row 61: the pattern does not fit 'no label here'"):
        check(load_values(values))


def test_a_pattern_has_named_groups(recipe: RecipeMaker) -> None:
    with pytest.raises(RecipeError, match=r"data.pattern: must have named groups"):
        recipe(data={"pattern": "(.*)"})
    with pytest.raises(RecipeError, match=r"data.pattern: must be a regular expression"):
        recipe(data={"pattern": "(?P<label>"})
    assert matched({"text": "x: y"}, r"(?P<label>\w): (?P<text>.*)") == {"label": "x", "text": "y"}
    assert matched({"text": "y"}, r"(?P<label>\w): (?P<text>.*)") == {"text": "y"}


def test_columns_of_a_source(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,1\nb,2\n")
    (tmp_path / "b.csv").write_text("review,stars\nc,1\nd,2\n")
    data = {
        "train": [
            str(tmp_path / "a.csv"),
            {"path": str(tmp_path / "b.csv"), "columns": {"text": "review", "label": "stars"}},
        ],
        "eval_size": 1,
    }
    made = load_values({"task": "text-classification", "model": "x", "strategy": "full", "data": data})
    rows = read_splits(made.data, TASK_SPECS["text-classification"], lambda _: None).rows
    assert sorted(text for part in rows.values() for text in part["text"]) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("a.xlsx", "save it as csv"), ("a.feather", "save it as parquet"), ("a.sqlite", "save the table as csv"),
     ("a.docx", "save its text as .txt"), ("a.tar", "unpack it")],
)  # fmt: skip
def test_what_cannot_be_read_is_said_to_be_saved_as_something_else(tmp_path: Path, name: str, hint: str) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / name).write_bytes(b"x")
    for path in (tmp_path / "rows" / name, tmp_path / "rows"):
        with pytest.raises(UserError, match=hint):
            find_files(str(path), "data.train")


@pytest.mark.parametrize("form", ["lines", "list"])
def test_half_a_character_is_told_by_its_line(tmp_path: Path, form: str) -> None:
    rows = [f'{{"text": "row {number}", "label": "a"}}' for number in range(9)]
    rows[4] = '{"text": "row \\ud83d 4", "label": "a"}'
    file = tmp_path / ("a.jsonl" if form == "lines" else "a.json")
    file.write_text("\n".join(rows) if form == "lines" else f"[{','.join(rows)}]")
    place = r"a\.jsonl:5: " if form == "lines" else r"a\.json:1: row 5: "
    with pytest.raises(UserError, match=place + r"\\ud83d alone is half a character"):
        read(file)
