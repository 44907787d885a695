"""Small inputs that once came out wrong, through the whole pipeline with real models; skipped where ../shared is not.

The kind: each step is right by itself, and a figure, a unit or a sentence is lost between two of them.
"""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_fscore_support

from ftkit import load_metric, predict, train
from ftkit.api import Result
from ftkit.reading import read_jsonl
from ftkit.recipe.load import load_values


@pytest.fixture
def cases(shared: Path) -> Path:
    if not (shared / "cases").is_dir():
        pytest.skip("the cases (../shared/cases) are not here")
    return shared / "cases"


def trained(cases: Path, task: str, model: str, data: dict[str, Any], training: dict[str, Any], **evaluation: Any) -> Result:
    """A run in this test's folder; nothing is measured that the case is not about."""
    values = {
        "task": task,
        "model": {"name": str(cases.parent / "models" / model), "max_length": 128},
        "strategy": "full",
        "data": {"eval_size": 0.2, **data} if "eval" not in data else data,
        "training": {"per_device_train_batch_size": 16, "bf16": False, **training},
        "evaluation": {"verify": False, "general_text": False, **evaluation},
    }
    return train(load_values(values), output_dir="run")


def views(result: Result) -> list[str]:
    """The report and the card of a run, whose spaces may hold words together."""
    return [(result.folder / name).read_text().replace("\xa0", " ") for name in ("report.html", "README.md")]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_prices_are_told_in_their_own_units_and_held_against_the_better_baseline(cases: Path) -> None:
    file = cases / "price.csv"
    result = trained(cases, "text-regression", "minilm-l6", {"train": str(file)}, {"max_steps": 4})
    metrics = result.metrics
    ((mean, trivial),) = metrics["other_baselines"].items()
    assert mean.startswith("mean of the training labels (1")
    for measured in (metrics["baseline"], trivial, metrics["tuned"]):
        assert measured["mse"] < 20_000  # of numbers about 1: 1,441,753
    better = "baseline" if metrics["baseline"]["mse"] < trivial["mse"] else mean
    judged = metrics["verdict"]
    assert judged["against"] == better
    assert ("the untrained model" if better == "baseline" else mean) in judged["sentence"]
    assert "its head" in judged["sentence"].lower()  # was drawn at random; which of the two is better is said
    assert all(judged["sentence"] in view for view in views(result))
    prices = [float(row["label"]) for row in rows_of(file)]
    told = [row["predicted"] for row in predict(result.folder, [{"text": row["text"]} for row in rows_of(file)[:40]])]
    assert all(min(prices) <= price <= max(prices) for price in told)
    assert np.mean(told) == pytest.approx(np.mean(prices), rel=0.05)


@pytest.mark.slow
def test_one_label_for_all_is_no_better_than_the_majority(cases: Path) -> None:
    data = {"train": str(cases / "c29.csv")}
    result = trained(cases, "text-classification", "minilm-l6", data, {"max_steps": 3, "learning_rate": 1e-4})
    metrics = result.metrics
    said = Counter(row["tuned"]["predicted"] for row in read_jsonl(result.folder / "predictions.jsonl"))
    assert set(said) == {"legit"}  # as in the case: nothing was learnt but which label is frequent
    assert (metrics["verdict"]["state"], metrics["verdict"]["against"]) == ("no better", "majority class (legit)")
    assert metrics["verdict"]["sentence"].startswith("No better than the majority class (legit): accuracy 0.9000")
    assert "the tuned model predicts one label only, 'legit'" in metrics["flags"]
    assert any(flag.startswith("no better than the majority class (legit)") for flag in metrics["flags"])
    assert metrics["details"]["f1"] == "class legit"
    for view in views(result):
        assert "f1 (class legit)" in view
        assert "one label only" in view
        assert "Fine-tuning helped" not in view


@pytest.mark.slow
def test_f1_is_over_the_labels_that_occur_in_every_view(cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four labels are learnt and two of them asked for; all right is 1.0 wherever it is shown."""
    data = {name: str(cases / f"m_{name}.csv") for name in ("train", "eval")}
    steps = {"max_steps": 24, "learning_rate": 3e-4, "eval_strategy": "steps", "eval_steps": 12}
    result = trained(cases, "text-classification", "minilm-l6", data, steps, metrics=["f1", "accuracy"])
    assert result.metrics["tuned"] == {"f1": 1.0, "accuracy": 1.0}
    curve = [event["eval_f1"] for event in read_jsonl(result.folder / "log.jsonl") if "eval_f1" in event]
    assert len(curve) == 2
    assert curve[-1] == 1.0
    assert "eval f1 (macro) 1 " in capsys.readouterr().err
    report, card = views(result)
    assert "| f1 (macro) | majority class (food) | 0.3333 | 1.0000 |" in card
    assert "type: f1\n      value: 1.0\n      name: f1 (macro)" in card
    assert "Fine-tuning helped: f1 (macro) 1.0000, where the majority class (food) has 0.3333" in report
    found = read_jsonl(result.folder / "predictions.jsonl")
    names = sorted({row["label"] for row in rows_of(cases / "m_train.csv")})
    said, wanted = ([names.index(name) for name in column] for column in zip(
        *((row["tuned"]["predicted"], row["label"]) for row in found), strict=True
    ))  # fmt: skip
    assert load_metric("f1").compute(predictions=said, references=wanted, num_labels=4) == {"f1": 1.0}
    assert f1_score(wanted, said, average="macro") == 1.0


@pytest.mark.parametrize("wrong", [0, 1, 7, 20, 40])
@pytest.mark.parametrize("name", ["f1", "precision", "recall", "f1_macro", "f1_weighted", "f1_micro"])
def test_load_metric_is_scikit_learn_where_learnt_labels_are_not_asked_for(cases: Path, wrong: int, name: str) -> None:
    """So many rows get another label, one that the eval rows have or one that they have not."""
    names = sorted({row["label"] for row in rows_of(cases / "m_train.csv")})
    wanted = [names.index(row["label"]) for row in rows_of(cases / "m_eval.csv")]
    said = [(label + 1 + row % 3) % 4 if row < wrong else label for row, label in enumerate(wanted)]
    metric, _, average = name.partition("_")
    place = ["precision", "recall", "f1"].index(metric)
    right = precision_recall_fscore_support(wanted, said, average=average or "macro", zero_division=0)[place]
    found = load_metric(name, "text-classification").compute(predictions=said, references=wanted, num_labels=4)
    assert found[name] == pytest.approx(right, abs=1e-12)


@pytest.mark.slow
def test_russian_answers_that_are_right_score_1(cases: Path) -> None:
    steps = {"max_steps": 250, "learning_rate": 5e-3, "per_device_train_batch_size": 8, "eval_strategy": "no"}
    data = {"train": str(cases / "c18_ru.jsonl")}
    result = trained(
        cases, "summarization", "stories260K", data, {**steps, "save_strategy": "no"},
        generation={"max_new_tokens": 48}, metrics=["rouge1", "rougeL", "exact_match"],
    )  # fmt: skip
    tuned = result.metrics["tuned"]
    pairs = [(row["tuned"]["generated"], row["summary"]) for row in read_jsonl(result.folder / "predictions.jsonl")]
    right = [text == target for text, target in pairs]
    assert tuned["exact_match"] == np.mean(right) >= 0.25  # so that there is something to score
    shared_words = [
        2 * sum((Counter(text.lower().split()) & Counter(target.lower().split())).values())
        / len([*text.split(), *target.split()])
        for text, target in pairs
    ]  # fmt: skip
    assert {share for share, same in zip(shared_words, right, strict=True) if same} == {1.0}
    assert tuned["rouge1"] == pytest.approx(np.mean(shared_words), abs=1e-6)
    assert result.metrics["details"]["rouge1"] == "Unicode words"
    assert result.metrics["verdict"]["state"] == "better"
    for view in views(result):
        assert "rouge1 (Unicode words)" in view
    text, target = next(pair for pair, same in zip(pairs, right, strict=True) if same)
    for metric in ("rouge1", "rouge2", "rougeL"):
        assert load_metric(metric).compute(predictions=[text], references=[target]) == {metric: 1.0}
