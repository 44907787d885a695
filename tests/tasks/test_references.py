"""Several right answers a row: each metric takes them as its own definition says, and training learns the first.

The kind: a list of answers means several references, in every task that writes, in every form of a row.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import evaluate as evaluate_package
import numpy as np
import pytest
import sacrebleu
from rouge_score import rouge_scorer

from ftkit import Recipe, UserError, check, evaluate, load_metric, train
from ftkit.metrics.text import health_scores, signatures, text_metrics, text_resamplers
from ftkit.reading import read_jsonl
from ftkit.recipe.load import load_values
from ftkit.run import resolved_values, write_jsonl
from ftkit.training.dispatcher import build

RecipeMaker = Callable[..., Recipe]
GENERATED = ["the cat sat on the mat", "a dog ran home", "nothing at all", "he said yes"]
TARGETS = [
    ["a cat sat there", "the cat sat on a mat", "cats sit"],
    ["a dog ran home"],
    ["something", "all"],
    ["He said: yes!", "no"],
]


def test_each_metric_is_that_of_its_own_package() -> None:
    found = text_metrics(GENERATED, TARGETS)
    streams = [[row[at] if at < len(row) else None for row in TARGETS] for at in range(3)]
    assert found["bleu"] == sacrebleu.BLEU().corpus_score(GENERATED, streams).score
    assert found["chrf"] == sacrebleu.CHRF().corpus_score(GENERATED, streams).score
    scorer = rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
    for name in ("rouge1", "rougeL"):
        rows = [scorer.score_multi(row, text)[name].fmeasure for row, text in zip(TARGETS, GENERATED, strict=True)]
        assert found[name] == pytest.approx(np.mean(rows))
    assert found["exact_match"] == 1 / 4
    assert found["token_f1"] == pytest.approx((1 + 1 + 1 / 2 + 1) / 4)
    assert health_scores(GENERATED, TARGETS, [True] * 4)["length_ratio"].value() == 16 / (6 + 4 + 1 + 3)
    assert "nrefs:var" in signatures(TARGETS)["bleu"]
    assert "nrefs:2" in signatures([["a", "b"], ["c", "d"]])["chrf"]
    for name, metric in text_resamplers(GENERATED, TARGETS).items():
        assert metric.value() == pytest.approx(found[name])


def test_lists_of_one_are_single_references() -> None:
    single = [row[0] for row in TARGETS]
    assert text_metrics(GENERATED, [[text] for text in single]) == text_metrics(GENERATED, single)
    assert signatures() == signatures(single)


@pytest.mark.parametrize("name", ["rougeL", "bleu", "exact_match"])
def test_modules_take_lists_as_evaluate_does(name: str) -> None:
    metric = load_metric(name)
    assert isinstance(metric, evaluate_package.Metric)
    assert metric.compute(predictions=GENERATED, references=TARGETS)[name] == pytest.approx(
        text_metrics(GENERATED, TARGETS)[name]
    )
    single = [row[0] for row in TARGETS]
    assert metric.compute(predictions=GENERATED, references=single)[name] == pytest.approx(
        text_metrics(GENERATED, single)[name]
    )


FORMS: dict[str, tuple[str, Callable[[int, Any], dict[str, Any]], dict[str, Any]]] = {
    "summarization": ("summarization", lambda n, answers: {"document": f"talk {n} of the house", "summary": answers}, {}),
    "alpaca": ("instruction", lambda n, answers: {"instruction": f"say {n} of the house", "output": answers}, {}),
    "prompts": ("instruction", lambda n, answers: {"prompt": f"say {n} of the house", "completion": answers}, {}),
    "templated": (
        "instruction", lambda n, answers: {"prompt": f"say {n} of the house", "completion": answers}, {"chat_template": "alpaca"},
    ),
}  # fmt: skip


def of_form(recipe: RecipeMaker, folder: Path, form: str, answers: Callable[[int], Any], **data: Any) -> Recipe:
    task, make, extra = FORMS[form]
    write_jsonl(folder / "rows.jsonl", [make(n, answers(n)) for n in range(30)])
    values = resolved_values(recipe("full", task=task, kind="gpt2", data={"train": str(folder / "rows.jsonl")}))
    values["data"] = {"train": str(folder / "rows.jsonl"), "eval_size": 8, "gate": {"overlap": 1.0}, **extra, **data}
    metrics = ["rouge1", "bleu", "exact_match", "token_f1"]
    values["evaluation"] = {"metrics": metrics, "generation": {"rows": 6, "max_new_tokens": 5}, "verify": False}
    return load_values(values)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.slow
def test_a_run_learns_the_first_and_is_measured_by_all(recipe: RecipeMaker, tmp_path: Path, form: str) -> None:
    made = of_form(recipe, tmp_path, form, lambda n: [f"red {n}", f"blue {n}", *["green"] * (n % 2)])
    result = train(made, output_dir=tmp_path / "run")
    assert result.record["data"]["train"]["rows with several answers"] == 22
    assert result.record["data"]["eval"]["rows with several answers"] == 8
    rows = [row for row in read_jsonl(tmp_path / "run/predictions.jsonl") if row["tuned"]["generated"] is not None]
    assert len(rows) == 6
    for row in rows:
        assert row["target"].startswith("red ")
        assert row["references"][:2] == [row["target"], row["target"].replace("red", "blue")]
    found = text_metrics([row["tuned"]["generated"] for row in rows], [row["references"] for row in rows])
    assert {name: result.metrics["tuned"][name] for name in made.evaluation.metrics or ()} == pytest.approx(
        {name: found[name] for name in made.evaluation.metrics or ()}
    )
    assert "nrefs:" in result.metrics["signatures"]["bleu"]
    assert "nrefs:1" not in result.metrics["signatures"]["bleu"]
    assert evaluate(tmp_path / "run").metrics == pytest.approx(result.metrics["tuned"])


@pytest.mark.parametrize("form", FORMS)
def test_what_is_learnt_is_that_of_the_first_alone(recipe: RecipeMaker, tmp_path: Path, form: str) -> None:
    learnt = []
    for answers in (
        lambda n: [f"red {n}", f"blue {n}"],
        lambda n: f"red {n}",
        lambda n: [f"red {n}"],
        lambda n: ["", f"red {n}", None],
    ):
        parts = build(of_form(recipe, tmp_path, form, answers), tmp_path / "out", [])
        learnt.append([parts.data.encoded[part].dataset["labels"][:] for part in ("train", "eval")])
    assert learnt[0] == learnt[1] == learnt[2] == learnt[3]


def test_answers_of_another_kind_and_none_at_all(recipe: RecipeMaker, tmp_path: Path) -> None:
    empty = of_form(recipe, tmp_path, "summarization", lambda n: [f"red {n}", "x"] if n else [])
    with pytest.raises(UserError, match="rows have an empty field"):
        check(empty)
    with pytest.raises(UserError, match=r"rows\.jsonl row 1: 'summary' is no text: 0"):
        check(of_form(recipe, tmp_path, "summarization", lambda n: [n, n + 1]))


def test_a_users_metric_gets_lists(recipe: RecipeMaker, tmp_path: Path) -> None:
    code = "def compute(predictions, references):\n    return {'most': max(len(row) for row in references)}\n"
    (tmp_path / "own.py").write_text(code)
    made = of_form(recipe, tmp_path, "prompts", lambda n: [f"red {n}", "blue", "green"])
    values = resolved_values(made)
    values["evaluation"]["metric_file"] = str(tmp_path / "own.py")
    assert train(load_values(values), output_dir=tmp_path / "run").metrics["tuned"]["most"] == 3


def test_streamed_answers(recipe: RecipeMaker, tmp_path: Path) -> None:
    made = of_form(recipe, tmp_path, "prompts", lambda n: [f"red {n}", f"blue {n}"])
    write_jsonl(
        tmp_path / "eval.jsonl", [{"prompt": f"ask {n} now", "completion": [f"red {n}", "blue"]} for n in range(40, 48)]
    )
    values = resolved_values(made)
    values["data"] = {"train": values["data"]["train"], "eval": str(tmp_path / "eval.jsonl"), "streaming": True}
    parts = build(load_values(values), tmp_path / "out", [])
    assert parts.data.stream is not None
    entry = next(iter(parts.data.stream))
    assert set(entry) == {"input_ids", "labels"}
    assert "red" in parts.tokenizer.decode([label for label in entry["labels"] if label >= 0])
