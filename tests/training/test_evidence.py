"""A run says how much better it is, how sure that is, where it fails and what it forgot."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from ftkit import Recipe, UserError, train
from ftkit.evaluation.measure import Measurement
from ftkit.recipe.load import load_values
from ftkit.run import write_jsonl
from ftkit.training.evidence import absent

RecipeMaker = Callable[..., Recipe]


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.parametrize(("strategy", "task"), [("full", "text-classification"), ("lora", "instruction")])
def test_nothing_learnt_is_no_change(recipe: RecipeMaker, tmp_path: Path, strategy: str, task: str) -> None:
    generation = {"generation": {"rows": 8, "max_new_tokens": 8}} if task == "instruction" else {}
    result = train(
        recipe(strategy, task=task, training={"learning_rate": 0.0, "weight_decay": 0.0}, evaluation=generation),
        output_dir=tmp_path / "run",
    )
    metrics = result.metrics
    assert metrics["baseline"] == metrics["tuned"]
    for name, (low, high) in metrics["intervals"]["difference"].items():  # of a share some rows more might tell
        assert low == high == 0 if name in ("loss", "length_ratio") else low < 0 < high
    state, sentence, against = (metrics["verdict"][key] for key in ("state", "sentence", "against"))
    if task == "instruction":
        assert (state, against) == ("no change", "baseline")
        assert sentence.startswith("No change")
    else:  # a head that was drawn at random, and is not the better of the two
        assert state in ("no better", "worse", "unsure")
        assert against.startswith("majority class (")
        assert "its head drawn at random, has accuracy" in sentence
        assert any(flag.startswith(f"no better than the {against}: accuracy") for flag in metrics["flags"])
    assert metrics["changes"]["fixed"] == metrics["changes"]["broken"] == []
    assert metrics["forgetting"]["difference"] == 0
    assert tuple(metrics["forgetting"]["interval"]) == (0, 0)


@pytest.mark.slow
def test_figures_follow_from_the_predictions(recipe: RecipeMaker, tmp_path: Path) -> None:
    result = train(recipe("full", training={"max_steps": 30}), output_dir=tmp_path / "run")
    metrics, analysis = result.metrics, read(result.folder, "analysis")
    rows = [json.loads(line) for line in (result.folder / "predictions.jsonl").read_text().splitlines()]
    right = {side: np.array([row[side]["predicted"] == row["label"] for row in rows]) for side in ("baseline", "tuned")}
    assert metrics["tuned"]["accuracy"] == right["tuned"].mean()
    assert len(metrics["changes"]["fixed"]) == (~right["baseline"] & right["tuned"]).sum()
    assert len(metrics["changes"]["broken"]) == (right["baseline"] & ~right["tuned"]).sum()
    low, high = metrics["intervals"]["difference"]["accuracy"]
    assert low <= metrics["tuned"]["accuracy"] - metrics["baseline"]["accuracy"] <= high
    random = np.random.default_rng(metrics["intervals"]["seed"])
    drawn = random.integers(0, len(rows), (1000, len(rows)))
    gaps = right["tuned"][drawn].mean(1) - right["baseline"][drawn].mean(1)
    assert abs(low - np.quantile(gaps, 0.025)) < 0.05
    assert abs(high - np.quantile(gaps, 0.975)) < 0.05
    assert np.trace(analysis["confusion"]["counts"]) == right["tuned"].sum()
    (name, majority), *_ = metrics["other_baselines"].items()
    assert name.startswith("majority class (")
    label = name.split("(")[1].rstrip(")")
    assert majority["accuracy"] == np.mean([row["label"] == label for row in rows])


@pytest.mark.slow
def test_a_resumed_run_has_the_same_evidence(recipe: RecipeMaker, tmp_path: Path) -> None:
    made = recipe("lora", training={"save_strategy": "steps", "save_steps": 2, "eval_strategy": "no"})
    whole = train(made, output_dir=tmp_path / "whole")
    again = train(made, output_dir=tmp_path / "again")
    record = read(again.folder, "run")
    (again.folder / "run.json").write_text(json.dumps(record | {"state": "interrupted"}))
    resumed = train(made, output_dir=tmp_path / "again", resume=True)
    assert resumed.metrics == whole.metrics


@pytest.mark.slow
def test_a_spoiled_slice_comes_out_first(shared: Path, tmp_path: Path) -> None:
    """Film reviews of two critics; the labels of one critic's eval rows are flipped."""
    texts = {
        label: (shared / "data" / "rt-polarity" / f"rt-polarity.{kind}").read_text(encoding="latin-1").splitlines()
        for kind, label in (("pos", "positive"), ("neg", "negative"))
    }
    other = {"positive": "negative", "negative": "positive"}
    kept = [(text, label, number) for label, lines in texts.items() for number, text in enumerate(lines[:340])]
    train_rows = [{"text": t, "label": y, "critic": "Ann"} for t, y, number in kept if number < 240]
    eval_rows = [
        {"text": t, "label": other[y] if number % 5 == 0 else y, "critic": "Bob" if number % 5 == 0 else "Ann"}
        for t, y, number in kept
        if number >= 240
    ]
    for name, rows in (("train", train_rows), ("eval", eval_rows)):
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    values = {
        "task": "text-classification",
        "model": {"name": str(shared / "models" / "minilm-l6"), "max_length": 64},
        "strategy": {"name": "lora", "target_modules": ["query", "value"], "r": 8},
        "data": {
            "train": str(tmp_path / "train.jsonl"),
            "eval": str(tmp_path / "eval.jsonl"),
            "slice_by": ["critic"],
            "drop_overlap": True,
        },
        "training": {"learning_rate": 2e-3, "num_train_epochs": 2, "per_device_train_batch_size": 16},
    }
    result = train(load_values(values), output_dir=tmp_path / "run")
    worst = read(result.folder, "analysis")["slices"][0]
    assert (worst["by"], worst["value"], worst["rows"]) == ("critic", "Bob", 40)
    assert worst["difference_interval"][1] < -0.2
    assert all(row["row"].startswith("eval.jsonl row ") for row in read(result.folder, "analysis")["worst"])


@pytest.mark.slow
def test_what_a_decoder_forgets_is_a_loss_and_a_new_heads_body_drifts(recipe: RecipeMaker, tmp_path: Path) -> None:
    lossy = train(recipe("full", task="instruction", training={"learning_rate": 0.01}), output_dir=tmp_path / "a").metrics
    found = lossy["forgetting"]
    assert found["kind"] == "loss"
    assert found["tuned"] - found["baseline"] == pytest.approx(found["difference"])
    assert found["interval"][0] < found["difference"] < found["interval"][1]
    frozen = train(recipe("transfer"), output_dir=tmp_path / "b").metrics["forgetting"]
    assert (frozen["kind"], frozen["tuned"]) == ("drift", 0)
    moved = train(recipe("full", training={"learning_rate": 0.01}), output_dir=tmp_path / "c").metrics["forgetting"]
    assert moved["tuned"] > 0.001


@pytest.mark.slow
def test_general_text_may_be_named_or_left_out(recipe: RecipeMaker, tmp_path: Path) -> None:
    text = tmp_path / "general.txt"
    text.write_text("The river runs to the sea.\n\nA second paragraph of plain words.\n")
    named = train(recipe(evaluation={"general_text": str(text)}), output_dir=tmp_path / "a").metrics["forgetting"]
    assert (named["text"], named["rows"]) == (str(text), 2)
    assert train(recipe(evaluation={"general_text": False}), output_dir=tmp_path / "b").metrics["forgetting"] is None
    with pytest.raises(UserError, match=r"no file nowhere\.txt"):
        train(recipe(evaluation={"general_text": "nowhere.txt"}), output_dir=tmp_path / "c")


def test_few_shot_prompts_are_a_second_baseline(recipe: RecipeMaker, tmp_path: Path) -> None:
    block = {"few_shot": 2, "generation": {"rows": 4, "max_new_tokens": 4}}
    made = recipe("lora", task="instruction", model={"max_length": 128}, evaluation=block)
    result = train(made, output_dir=tmp_path / "run")
    few = result.metrics["other_baselines"]["few-shot (2 examples)"]
    assert few["loss"] != result.metrics["baseline"]["loss"]
    answers = [json.loads(line) for line in (result.folder / "outputs" / "few_shot.jsonl").read_text().splitlines()]
    plain = [json.loads(line) for line in (result.folder / "outputs" / "baseline.jsonl").read_text().splitlines()]
    for shot, alone in zip(answers, plain, strict=True):
        assert shot["prompt"].endswith(alone["prompt"])
        assert shot["prompt"].count("### Response:") == 3
        assert shot["target"] == alone["target"]


METRIC_FILES = {
    "a function": "def compute(predictions, references):\n    return {'shorter': sum(len(p) < len(r) for p, r in zip(predictions, references))}\n",
    "an evaluate.Metric": """
import datasets, evaluate
class Shorter(evaluate.Metric):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(description="", citation="", features=features)
    def _compute(self, predictions, references):
        return {"shorter": sum(len(p) < len(r) for p, r in zip(predictions, references))}
""",
}


@pytest.mark.parametrize("kind", METRIC_FILES)
@pytest.mark.slow
def test_a_users_own_metric(recipe: RecipeMaker, tmp_path: Path, kind: str) -> None:
    if "evaluate" in kind:
        pytest.importorskip("evaluate")
    file = tmp_path / "shorter.py"
    file.write_text(METRIC_FILES[kind])
    block = {"metric_file": str(file), "generation": {"rows": 6, "max_new_tokens": 3}}
    result = train(recipe("lora", task="instruction", evaluation=block), output_dir=tmp_path / "run")
    rows = [json.loads(line) for line in (result.folder / "predictions.jsonl").read_text().splitlines()]
    expected = sum(
        len(row["tuned"]["generated"]) < len(row["target"]) for row in rows if row["tuned"]["generated"] is not None
    )
    assert result.metrics["tuned"]["shorter"] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no file"),
        ("x = 1\n", "has no function compute"),
        ("raise OSError('gone')\n", "cannot be imported: OSError: gone"),
        ("def compute(predictions, references):\n    return 0.5\n", "fails"),
    ],
)
def test_a_broken_metric_file_is_one_line_before_training(
    recipe: RecipeMaker, tmp_path: Path, text: str | None, message: str
) -> None:
    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=message):
        train(recipe(evaluation={"metric_file": str(file), "baseline": False}), output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_generated_text_does_not_depend_on_the_batch(shared: Path, tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "task": "instruction",
        "model": str(shared / "models" / "stories260K"),
        "strategy": "full",
        "data": {
            "train": str(shared / "data" / "rasbt-instruct" / "instruction-data.json"),
            "eval_size": 40,
            "drop_overlap": True,
            "gate": {"dropped": 1.0},
        },
        "training": {"max_steps": 1, "learning_rate": 1e-3, "per_device_train_batch_size": 4},
        "evaluation": {"generation": {"rows": 24, "max_new_tokens": 24}, "general_text": False},
    }
    texts = []
    for size in (1, 16):
        values["training"]["per_device_eval_batch_size"] = size
        result = train(load_values(values), output_dir=tmp_path / str(size))
        rows = [json.loads(line) for line in (result.folder / "predictions.jsonl").read_text().splitlines()]
        texts.append([row["tuned"]["generated"] for row in rows if row["tuned"]["generated"] is not None])
    assert texts[0] == texts[1]
    assert any(texts[0])
    assert AutoTokenizer.from_pretrained(result.folder / "model").eos_token_id is not None


@pytest.mark.parametrize(
    ("asked", "given", "said"),
    [
        (["accuracy", "roc_auc"], {"accuracy": 1.0}, "roc_auc"),
        (["mse", "pearson", "spearman"], {"mse": 1.0}, "pearson, spearman"),
        (["pearson"], {"loss": 1.0}, "pearson"),
        (["mse"], {"mse": 1.0}, ""),
        (None, {"mse": 1.0}, ""),
    ],
)
def test_a_metric_that_was_asked_for_is_not_absent_in_silence(
    asked: list[str] | None, given: dict[str, float], said: str
) -> None:
    """Kind: what rows of one label, or predictions that are all alike, do not define."""
    flags = absent(asked, Measurement(given, [{"row": at} for at in range(3)]))
    assert [flag.partition(" cannot be had from 3 eval rows")[0] for flag in flags] == ([said] if said else [])
