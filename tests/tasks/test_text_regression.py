"""Text regression: which labels are numbers, what the rows' gate says of others, and a run from its rows to its page."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, EvalPrediction

from ftkit import Recipe, UserError, predict, preview, train
from ftkit.data.samples.table import generate
from ftkit.recipe.schema import Data, Source
from ftkit.run import write_jsonl
from ftkit.tasks.text_regression import TextRegression, as_number

RecipeMaker = Callable[..., Recipe]
TASK = "text-regression"


def ratings_file(tmp_path: Path, rows: int = 80, **changed: Any) -> str:
    """Ratings, of which row 5 may have something else."""
    made = generate("ratings", rows=rows, split="train", seed=1)
    made[4] |= changed
    write_jsonl(tmp_path / "ratings.jsonl", made)
    return str(tmp_path / "ratings.jsonl")


def regression(
    recipe: RecipeMaker, tmp_path: Path, strategy: str = "full", kind: str = "distilbert", **blocks: Any
) -> Recipe:
    data = {"train": ratings_file(tmp_path, **blocks.pop("changed", {})), **blocks.pop("data", {})}
    return recipe(strategy, task=TASK, kind=kind, data=data, **blocks)


def task() -> TextRegression:
    return TextRegression(Data(train=[Source(path="sample:ratings")]))


def rows_of(labels: list[Any], kind: Any) -> Dataset:
    texts = [f"text {row}" for row in range(len(labels))]
    return Dataset.from_dict({"text": texts, "label": labels}, Features({"text": Value("string"), "label": kind}))


@pytest.mark.parametrize(
    ("label", "number"),
    [
        ("3.5", 3.5), (" -2 ", -2.0), ("1e3", 1000.0), (4, 4.0), (0, 0.0), (0.1, float(np.float32(0.1))),
        ("3,5", None), ("1_000", None), ("four", None), ("", None), (None, None), ("nan", None), (float("inf"), None),
        (1e300, None), ("1e300", None), ([1.0], None), (["a"], None), ({"a": 1}, None),
    ],
)  # fmt: skip
def test_what_is_a_number(label: Any, number: float | None) -> None:
    assert as_number(label) == number


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("good", " rows have a label that is no number: 'good' (ratings.jsonl row 5); mend the labels"),
        ("NaN", "no number: 'NaN' (ratings.jsonl row 5)"),
        ("-inf", "no number: '-inf' (ratings.jsonl row 5)"),
        ("", " rows have an empty field (ratings.jsonl row 5)"),
    ],
)
def test_a_row_without_a_number_is_named(recipe: RecipeMaker, tmp_path: Path, label: str, words: str) -> None:
    made = regression(recipe, tmp_path, changed={"label": label})
    with pytest.raises(UserError) as raised:
        train(made, output_dir=tmp_path / "run")
    assert words in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_such_rows_can_be_allowed_and_are_counted(recipe: RecipeMaker, tmp_path: Path) -> None:
    made = regression(recipe, tmp_path, changed={"label": "good"}, data={"gate": {"no_number": 0.1}})
    report = json.loads((train(made, output_dir=tmp_path / "run").folder / "data_report.json").read_text())
    assert sum(count for fate, count in report["fates"].items() if fate.endswith("label is no number")) == 1
    assert report["sum_of_fates"] == 80


@pytest.mark.parametrize(
    ("labels", "kind", "words"),
    [
        (["good", "bad"], Value("string"), "the labels of the training rows are no number: 'bad'"),
        ([2.0, 2.0, None], Value("float64"), "the labels of the training rows are one number only, 2"),
        ([[1.0], [2.0]], List(Value("float64")), "the label of a row is a list"),
        ([0, 1], ClassLabel(names=["neg", "pos"]), "the label of a row is a class, as 'neg'"),
    ],
)
def test_a_column_of_other_things_is_refused(labels: list[Any], kind: Any, words: str) -> None:
    with pytest.raises(UserError) as raised:
        task().fit(rows_of(labels, kind), AutoConfig.for_model("distilbert"))
    assert words in str(raised.value)
    assert raised.value.key == "data.columns.label"


def test_the_trivial_baseline_is_the_mean() -> None:
    made = task()
    made.fit(rows_of(["1", "2", "2", "4.08", "x"], Value("string")), AutoConfig.for_model("distilbert"))
    name, prediction = made.trivial_baseline(EvalPrediction(np.zeros((3, 1)), np.array([1.0, 2.0, 3.0])), "mse") or (
        "",
        None,
    )
    assert name == "mean of the training labels (2.27)"
    assert prediction.predictions.tolist() == [[pytest.approx(2.27)]] * 3
    assert "pearson" not in made.score(prediction)  # one number for all has none


def test_a_rows_quality_is_its_negative_error() -> None:
    prediction = EvalPrediction(np.array([[1.0], [2.5]]), np.array([3.0, 2.0], dtype=np.float32))
    assert task().quality(prediction).tolist() == [-2.0, -0.5]
    assert -task().quality(prediction).mean() == task().score(prediction)["mae"]
    assert task().right(prediction) is None
    assert task().describe(prediction, 1) == {"predicted": 2.5}


def test_a_model_with_a_head_for_classes_is_refused() -> None:
    with pytest.raises(UserError, match="a head for 3 labels"):
        task().recall(AutoConfig.for_model("distilbert", num_labels=3))


def test_a_run_and_what_is_read_from_it(recipe: RecipeMaker, tmp_path: Path) -> None:
    result = train(regression(recipe, tmp_path, training={"max_steps": 8}), output_dir=tmp_path / "run")
    config = json.loads((result.folder / "model/config.json").read_text())
    assert (config["problem_type"], len(config["id2label"])) == ("regression", 1)
    rows = [json.loads(line) for line in (result.folder / "predictions.jsonl").read_text().splitlines()]
    errors = [abs(row["tuned"]["predicted"] - float(row["label"])) for row in rows]
    assert np.mean(errors) == pytest.approx(result.metrics["tuned"]["mae"], abs=1e-5)
    analysis = json.loads((result.folder / "analysis.json").read_text())
    assert (analysis["confusion"], analysis["per_label"]) == (None, None)
    assert {entry["metric"] for entry in analysis["slices"]} == {"mae"}
    worst = [entry["score"] for entry in analysis["worst"]]
    assert worst == pytest.approx(sorted(errors, reverse=True)[: len(worst)], abs=1e-5)
    (mean,) = result.metrics["other_baselines"]
    assert mean.startswith("mean of the training labels (")
    found = list(predict(result.folder, [{"text": row["text"]} for row in rows]))
    assert [row["predicted"] for row in found] == pytest.approx([row["tuned"]["predicted"] for row in rows], abs=1e-5)
    page = (result.folder / "report.html").read_text()
    assert "mean of the training labels" in page


def test_pairs_of_texts(recipe: RecipeMaker, tmp_path: Path) -> None:
    rows = [{"one": f"text {i}", "two": f"text {i % 7}", "score": (i % 7) / 6} for i in range(60)]
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    data = {"train": str(tmp_path / "pairs.jsonl"), "columns": {"text": "one", "text_pair": "two", "label": "score"}}
    result = train(recipe("full", task=TASK, kind="bert", data=data), output_dir=tmp_path / "run")
    assert result.metrics["rows"] == 20
    shown = preview(recipe("full", task=TASK, kind="bert", data=data), rows=2, split="train")
    assert all(float(row.label or "nan") in [i / 6 for i in range(7)] or len(row.label or "") > 3 for row in shown.rows)


def test_the_labels_reach_the_loss_as_they_are(recipe: RecipeMaker, tmp_path: Path) -> None:
    """The mean squared error of one batch, by hand from the model's numbers."""
    from ftkit.training.dispatcher import build

    parts = build(regression(recipe, tmp_path), tmp_path / "out", [])
    entries = [parts.data.encoded["train"].dataset[row] for row in range(6)]
    batch = parts.trainer.data_collator(entries)
    rows = [json.loads(line) for line in (tmp_path / "ratings.jsonl").read_text().splitlines()]
    assert set(batch["labels"].tolist()) <= {float(row["label"]) for row in rows}
    with torch.no_grad():
        found = parts.model.eval()(**batch)
    assert float(found.loss) == pytest.approx(float(((found.logits[:, 0] - batch["labels"]) ** 2).mean()), rel=1e-5)


def test_a_correlation_that_cannot_be_had_ends_no_run(
    recipe: RecipeMaker, stand_in: Callable[[str], Path], tmp_path: Path
) -> None:
    """A head of noughts says the same of all rows, and so low a rate leaves it as it is."""
    model = AutoModelForSequenceClassification.from_pretrained(stand_in("distilbert"), num_labels=1)
    torch.nn.init.zeros_(model.classifier.weight)
    model.save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(stand_in("distilbert")).save_pretrained(tmp_path / "model")
    made = regression(
        recipe,
        tmp_path,
        model={"name": str(tmp_path / "model")},
        training={"learning_rate": 1e-60, "eval_strategy": "no", "save_strategy": "no"},
        evaluation={"metrics": ["pearson"], "general_text": False},
    )
    metrics = train(made, output_dir=tmp_path / "run").metrics
    assert list(metrics["baseline"]) == list(metrics["tuned"]) == ["loss"]
    assert metrics["verdict"]["state"] == "worse"  # than the mean: nought is far from all of them
    assert any(flag.startswith("the tuned model predicts one number only, ") for flag in metrics["flags"])
