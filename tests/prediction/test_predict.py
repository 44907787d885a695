"""Predictions of a run: those of its own evaluation, whatever the batch, from rows without answers, in order."""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftkit import UserError, predict
from ftkit.api import predictor
from ftkit.data.columns import ANSWERS
from ftkit.prediction.rows import given_rows
from ftkit.prediction.trained import load_run
from ftkit.reading import read_jsonl
from ftkit.run import Run

Trained = Callable[[str], Path]
GENERATING = ["alpaca", "completion", "chat", "summary", "pairs"]


def eval_rows(run: Path, *, answers: bool) -> list[dict[str, Any]]:
    """The run's eval rows; without answers, a chat ends with the question."""
    rows = read_jsonl(run.parent / "eval.jsonl")
    if answers:
        return rows
    asked = [{name: value for name, value in row.items() if name not in (*ANSWERS, "y")} for row in rows]
    return [row | ({"messages": row["messages"][:-1]} if "messages" in row else {}) for row in asked]


@pytest.mark.parametrize("kind", ["labels", "mapped", "several", "numbers", "tags", *GENERATING])
@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.slow
def test_predictions_are_those_of_the_runs_evaluation(trained: Trained, kind: str, answers: bool) -> None:
    run = trained(kind)
    found = list(predict(run, eval_rows(run, answers=answers)))
    known = [row["tuned"] for row in read_jsonl(run / "predictions.jsonl")]
    assert [row["row"] for row in found] == list(range(len(known)))
    if kind in GENERATING:
        assert [(row["generated"], row["stopped"]) for row in found] == [(row["generated"], row["stopped"]) for row in known]
    elif kind == "tags":
        spans = [[[e["kind"], e["first"], e["last"]] for e in row["entities"]] for row in found]
        assert spans == [row["predicted"] for row in known]
        assert all(len(row["predicted"]) == len(row["tokens"]) for row in found)
    elif kind == "numbers":
        assert [row["predicted"] for row in found] == pytest.approx([row["predicted"] for row in known], abs=2e-6)
    else:
        assert [row["predicted"] for row in found] == [row["predicted"] for row in known]
    if kind == "labels":
        assert [row["probability"] for row in found] == pytest.approx([row["probability"] for row in known], abs=1e-6)
        assert all(sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5) for row in found)
    if kind == "several":
        assert list(found[0]["probabilities"].values()) == pytest.approx(known[0]["probabilities"], abs=1e-6)


@pytest.mark.parametrize("kind", ["alpaca", "chat", "summary"])
def test_the_batch_size_does_not_change_the_text(trained: Trained, kind: str) -> None:
    run = trained(kind)
    rows = eval_rows(run, answers=False)
    one, many = (list(predict(run, rows, batch_size=size)) for size in (1, 16))
    assert len({len(str(row)) for row in rows}) > 3
    assert one == many
    assert len({row["generated"] for row in one}) > 1


@pytest.mark.parametrize("kind", GENERATING)
def test_prompts_have_the_token_ids_of_training(trained: Trained, kind: str) -> None:
    """The ids are those that training wrote down, of rows that are asked without their answers here."""
    run = trained(kind)
    entries = [e for e in json.loads((run / "data_report.json").read_text())["prompts"] if e["row"].startswith("eval")]
    model, rows = load_run(Run(run)), eval_rows(run, answers=False)
    assert len(entries) >= 5
    for entry in entries:
        row = rows[int(entry["row"].removeprefix("eval.jsonl row ")) - 1]
        assert model.prompt(model.ask(row))[0] == entry["ids"]


def test_rows_are_read_no_further_than_the_batch_at_hand(trained: Trained) -> None:
    taken = 0

    def endless() -> Iterator[dict[str, Any]]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield {"text": f"film {number}", "id": number}

    found = predict(trained("labels"), endless(), batch_size=4)
    assert [next(found)["id"] for _ in range(10)] == list(range(10))
    assert taken == 12


def test_a_long_text_is_cut_as_in_training_and_said_so(trained: Trained) -> None:
    long, short = predict(trained("labels"), [{"text": "good film " * 1000}, {"text": "good film"}])
    assert long["cut"] is True
    assert "cut" not in short
    (alone,) = predict(trained("labels"), [{"text": "good film " * 500}])
    assert alone["probabilities"] == long["probabilities"]


def test_a_cut_prompt_leaves_room_for_its_answer(trained: Trained) -> None:
    model = load_run(Run(trained("summary")))
    question = model.ask({"dialogue": "A: the ship sails at noon. " * 300})
    assert question.cut
    assert 128 - 24 - 8 < len(model.prompt(question)[0]) <= 128 - 24
    (found,) = predict(trained("summary"), [{"dialogue": "A: the ship sails at noon. " * 300}])
    assert found["cut"] is True
    assert "generated" in found


def test_each_word_of_a_long_row_has_a_tag(trained: Trained) -> None:
    rows = [{"tokens": ["Anna"] * 500}, {"tokens": ["Anna", "came"]}, {"tokens": ["Anna", "came", "to", "Oslo"] * 90}]
    found = list(predict(trained("tags"), rows, batch_size=2))
    assert [len(row["predicted"]) for row in found] == [500, 2, 360]
    assert all(None not in row["predicted"] and "cut" not in row for row in found)
    assert found[1]["predicted"] == next(predict(trained("tags"), rows[1:2]))["predicted"]


def test_rows_that_cannot_be_answered_keep_their_line(trained: Trained) -> None:
    made = predictor(Run(trained("alpaca")), batch_size=2)
    rows = [{"instruction": "Go on."}, {"instruction": " "}, {"instruction": "word " * 1000}, {"instruction": "Stop."}]
    found = [row for batch in made.batches(given_rows(iter(rows))) for row in batch]
    assert [row.get("problem", "") for row in found] == [
        "", "a field is empty", "too long: the prompt is never cut in this task", "",
    ]  # fmt: skip
    assert [row["instruction"] for row in found] == [row["instruction"] for row in rows]
    assert (made.counts["rows"], made.counts["not answered"]) == (4, 2)


def test_rows_of_a_batch_need_not_have_the_same_fields(trained: Trained) -> None:
    rows = [{"instruction": "Repeat.", "input": "a b"}, {"instruction": "Repeat."}, {"instruction": "Repeat.", "input": ""}]
    found = list(predict(trained("alpaca"), rows))
    alone = [next(predict(trained("alpaca"), [row])) for row in rows]
    assert [row["generated"] for row in found] == [row["generated"] for row in alone]
    assert found[1]["generated"] == found[2]["generated"]


def test_mapped_and_unmapped_names_are_known(trained: Trained) -> None:
    mapped, plain = predict(trained("mapped"), [{"a": "text 3", "b": "other 1"}, {"text": "text 3", "text_pair": "other 1"}])
    assert mapped["probabilities"] == plain["probabilities"]
    (half,) = predict(trained("mapped"), [{"a": "text 3"}])  # trained on pairs, and this is none
    assert half["problem"] == "a field is empty"


@pytest.mark.parametrize(
    ("kind", "as_row"),
    [
        ("labels", {"text": "a good film"}),
        ("tags", {"tokens": ["a", "good", "film"]}),
        ("alpaca", {"instruction": "a good film"}),
        ("completion", {"prompt": "a good film"}),
        ("chat", {"messages": [{"role": "user", "content": "a good film"}]}),
        ("summary", {"document": "a good film"}),
    ],
)
def test_a_line_of_text_is_what_the_run_was_trained_on(trained: Trained, tmp_path: Path, kind: str, as_row: Any) -> None:
    (tmp_path / "lines.txt").write_text("a good film\n")
    model = load_run(Run(trained(kind)))
    assert model.ask({"text": "a good film"}).entries == model.ask(as_row).entries
    (found,) = predict(trained(kind), tmp_path / "lines.txt")
    assert found["text"] == "a good film"


@pytest.mark.parametrize(
    ("kind", "row", "words"),
    [
        ("labels", {"review": "x"}, "no field 'text'; it has review"),
        ("mapped", {"words": "x"}, "no field 'a'"),
        ("labels", {"text": 3}, "'text' is no text: 3"),
        ("tags", {"tokens": 7}, "'tokens' is no list: 7"),
        ("alpaca", {"question": "x"}, "no field 'instruction'; or 'prompt'; or 'messages'"),
        ("chat", {"messages": [{"role": "assistant", "content": "hello"}]}, "the chat has no turn to be answered"),
        ("chat", {"messages": [{"role": "stranger", "content": "hello"}]}, "turn 1 has the role 'stranger'"),
    ],
)
def test_a_bad_row_is_named(trained: Trained, kind: str, row: dict[str, Any], words: str) -> None:
    good = eval_rows(trained(kind), answers=False)[:3]
    found = predict(trained(kind), [*good, row], batch_size=2)
    assert len([next(found) for _ in good]) == 3
    with pytest.raises(UserError) as raised:
        next(found)
    assert str(raised.value).startswith("row 4: ")
    assert words in str(raised.value)


def test_a_task_without_predictions_says_so(trained: Trained) -> None:
    with pytest.raises(UserError, match="nothing to predict"):
        next(predict(trained("plain"), [{"text": "x"}]))
