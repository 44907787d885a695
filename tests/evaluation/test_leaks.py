"""Rows that the model was trained on among those that it is measured on.

The kind: a score on what was learnt by heart is never shown without a word, whatever turns the rows took to get there.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftkit import Recipe, RecipeError, check, evaluate, train
from ftkit.data.samples.table import generate
from ftkit.reading import read_jsonl
from ftkit.recipe.load import load_values
from ftkit.run import resolved_values, write_jsonl

RecipeMaker = Callable[..., Recipe]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def sentence(number: int) -> str:
    """Six words, no two sentences alike."""
    return " ".join(LETTERS[(number * step + step) % 26] + in_letters(number * step) for step in range(3, 9))


def in_letters(number: int) -> str:
    """A number in letters, which the small models' tokenizers know."""
    return "".join(LETTERS[int(digit)] for digit in str(number))


def pairs(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"text": sentence(2 * n), "text_pair": sentence(2 * n + 1), "label": "ab"[n % 2]}
        for n in range(start, start + count)
    ]


def swapped(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"text": row["text_pair"], "text_pair": row["text"]}


def of_pairs(recipe: RecipeMaker, folder: Path, evals: list[dict[str, Any]], **data: Any) -> Recipe:
    write_jsonl(folder / "train.jsonl", pairs(30))
    write_jsonl(folder / "eval.jsonl", evals)
    values = resolved_values(recipe("full"))
    values["data"] = {"train": str(folder / "train.jsonl"), "eval": str(folder / "eval.jsonl"), **data}
    return load_values(values)


@pytest.mark.slow
def test_pairs_that_are_swapped_are_found_and_named(recipe: RecipeMaker, tmp_path: Path) -> None:
    shouted = {key: value.upper() + "!" if key != "label" else value for key, value in swapped(pairs(30)[9]).items()}
    crossed = pairs(30)[3] | {"text_pair": pairs(30)[4]["text"]}  # shares a half with two rows, and is none of them
    made = of_pairs(recipe, tmp_path, [*pairs(10, 50), swapped(pairs(30)[7]), shouted, crossed, pairs(30)[2]])
    with pytest.raises(RecipeError) as refused:
        check(made)
    message = str(refused.value)
    assert "eval: 3/14 rows are also training rows: 1 equal, 2 equal with their texts swapped" in message
    report = train(
        of_pairs(recipe, tmp_path, [*pairs(10, 50), swapped(pairs(30)[7])], gate={"overlap": 0.2}), output_dir=tmp_path / "r"
    )
    assert (
        "1 of 11 eval rows are also training rows: 1 equal with their texts swapped; eval.jsonl row 11 to train.jsonl row 8"
        in (report.metrics["caveats"][0])
    )
    made.data.drop_overlap = True
    assert check(made)


def test_streamed_pairs_that_are_swapped_are_dropped(recipe: RecipeMaker, tmp_path: Path) -> None:
    made = of_pairs(recipe, tmp_path, [*pairs(10, 50), swapped(pairs(30)[7])], streaming=True)
    result = train(made, output_dir=tmp_path / "run")
    assert result.metrics["caveats"] == ["1 of 30 streamed train rows were removed: among the eval rows too"]


@pytest.fixture
def classified(recipe: RecipeMaker, reviews: Path, tmp_path: Path) -> Path:
    """A finished run on rows of its own file."""
    return train(recipe("full", data={"drop_overlap": True}), output_dir=tmp_path / "run").folder


def test_a_runs_training_file_is_known_to_eval(classified: Path, reviews: Path, tmp_path: Path) -> None:
    rows, new = read_jsonl(reviews), generate("sentiment", rows=40, split="eval", seed=9)
    score = evaluate(classified, data=str(reviews))
    assert len(score.caveats) == 1
    assert "are training rows of the run: " in score.caveats[0]
    assert "reviews.jsonl row" in score.caveats[0]
    assert score.as_json()["caveats"] == score.caveats
    few = [*new, rows[0] | {"text": rows[0]["text"].upper() + " !!"}]
    write_jsonl(tmp_path / "few.jsonl", few)
    found = evaluate(classified, data=str(tmp_path / "few.jsonl")).caveats
    copied = [caveat for caveat in found if "1 equal but for case and punctuation" in caveat]
    is_trained = rows[0]["text"] not in {row["text"] for row in read_jsonl(classified / "predictions.jsonl")}
    assert bool(copied) == is_trained
    assert evaluate(classified).caveats == []
    assert evaluate(classified, split="train").caveats == ["these are rows that the run was trained on"]
    by_folder = evaluate(classified / "model", task="text-classification", data=str(reviews))
    assert "are training rows of the run" in by_folder.caveats[0]


def test_new_rows_are_no_training_rows(classified: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "new.jsonl", [{"text": sentence(n), "label": ["negative", "positive"][n % 2]} for n in range(12)])
    assert evaluate(classified, data=str(tmp_path / "new.jsonl")).caveats == []


def test_data_that_are_gone_or_changed_are_said(classified: Path, reviews: Path, tmp_path: Path) -> None:
    new = [{"text": sentence(n), "label": ["negative", "positive"][n % 2]} for n in range(12)]
    write_jsonl(tmp_path / "new.jsonl", new)
    kept = reviews.read_bytes()
    try:
        write_jsonl(reviews, [*read_jsonl(reviews)[:-1], new[0]])
        found = evaluate(classified, data=str(tmp_path / "new.jsonl")).caveats
        assert found[-1] == "the run's training data changed since: these rows were looked for in what is there now"
        reviews.unlink()
        found = evaluate(classified, data=str(tmp_path / "new.jsonl")).caveats
        assert len(found) == 1
        assert found[0].startswith("the run's training rows could not be looked for among these rows: ")
    finally:
        reviews.write_bytes(kept)


def chat(question: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": "Another answer."}]}


@pytest.mark.parametrize("kind", ["prompts", "alpaca", "chats"])
def test_instructions_are_known_whatever_their_form_and_answer(recipe: RecipeMaker, tmp_path: Path, kind: str) -> None:
    template = {"chat_template": "chatml"} if kind == "chats" else {}
    asked = [f"Say it: {sentence(n)}" for n in range(40)]
    forms: dict[str, Callable[[str], dict[str, Any]]] = {
        "prompts": lambda text: {"prompt": text, "completion": "yes"},
        "alpaca": lambda text: {"instruction": text, "output": "yes"},
        "chats": chat,
    }
    write_jsonl(tmp_path / "train.jsonl", map(forms[kind], asked[:30]))
    values = resolved_values(recipe("full", task="instruction"))
    values["data"] = {"train": str(tmp_path / "train.jsonl"), "eval_size": 5, **template}
    values["evaluation"]["generation"] = {"rows": 0}
    folder = train(load_values(values), output_dir=tmp_path / "run").folder
    for other in forms if kind != "chats" else ["chats"]:
        if other == "chats" and kind != "chats":
            continue  # without a template such a run reads no chats
        write_jsonl(tmp_path / "other.jsonl", map(forms[other], asked))
        caveat = evaluate(folder, data=str(tmp_path / "other.jsonl")).caveats[0]
        assert caveat.startswith("25 of 40 rows (62 %) are training rows of the run: 25 equal; ")


def test_a_streamed_runs_training_rows_are_known(recipe: RecipeMaker, tmp_path: Path) -> None:
    made = of_pairs(recipe, tmp_path, pairs(10, 50), streaming=True)
    folder = train(made, output_dir=tmp_path / "run").folder
    write_jsonl(tmp_path / "new.jsonl", [*pairs(8, 80), pairs(30)[3], swapped(pairs(30)[4])])
    found = evaluate(folder, data=str(tmp_path / "new.jsonl")).caveats
    assert any(
        caveat.startswith("2 of 10 rows (20 %) are training rows of the run: 1 equal, 1 equal with their texts swapped; "
                          "new.jsonl row 9 to train.jsonl row 4")
        for caveat in found
    )  # fmt: skip
    assert json.loads((folder / "data_report.json").read_text())["streamed"]["read"] == 30


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_are_looked_for_as_the_recipe_reads_them(recipe: RecipeMaker, tmp_path: Path, streaming: bool) -> None:
    """Lines by a pattern, columns left out knowingly, and a label that the split keeps in train."""
    labels = ["a", "b"] * 14 + ["rare", "odd"]
    lines = [f"{label} | 2 | {sentence(n)}" for n, label in enumerate(labels)]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    write_jsonl(tmp_path / "eval.jsonl", [{"text": sentence(n), "label": "ab"[n % 2]} for n in range(60, 70)])
    values = resolved_values(recipe("full"))
    pattern = r"(?P<label>\w+) \| (?P<weight>\d) \| (?P<text>.*)"
    values["data"] = {"train": str(tmp_path / "train.txt"), "pattern": pattern, "ignore_columns": ["weight"]}
    if streaming:
        other = [f"a | 2 | {sentence(n)}" for n in range(60, 70)]
        (tmp_path / "eval.txt").write_text("\n".join(other))
        values["data"] |= {"eval": str(tmp_path / "eval.txt"), "streaming": True}
    folder = train(load_values(values), output_dir=tmp_path / "run").folder
    evaluated = [line for line in lines if line.split(" ")[0] in ("rare", "odd")]
    (tmp_path / "again.txt").write_text("\n".join(evaluated))
    found = evaluate(folder, data=str(tmp_path / "again.txt")).caveats
    assert [caveat[:52] for caveat in found if "training rows" in caveat] == [
        "2 of 2 rows (100 %) are training rows of the run: 2 "
    ]
