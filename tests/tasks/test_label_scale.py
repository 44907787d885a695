"""The kind: numbers that a model cannot reach, or gives in units that are nobody's. Labels are learnt in standard units by every
strategy, and whatever reads the saved model gets its owner's numbers: plain transformers, eval, predict, merge, a resumed run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ftkit import Recipe, evaluate, predict, train
from ftkit.data.samples.table import generate
from ftkit.delivery.merge import merge
from ftkit.models.label_scale import OWN, LabelScale, Scale, answer_in_float32, put_in, settle_scale, take_out
from ftkit.reading import read_jsonl
from ftkit.run import write_jsonl

RecipeMaker = Callable[..., Recipe]
FAR = Scale(20_000.0, 400.0)
# Of each: is the head able to hold mean and deviation? A decoder's has no bias, and under a base in half precision it is
# loaded in that.
MODELS = {
    "full": ("distilbert", "full", "float32", True),
    "transfer": ("bert", "transfer", "float32", True),
    "lora": ("bert", "lora", "float32", True),
    "lora, no bias": ("llama", "lora", "float32", False),
    "lora, bfloat16": ("bert", "lora", "bfloat16", False),
    "qlora": ("distilbert", "qlora", "float32", True),
}


def prices(folder: Path) -> str:
    rows = [
        row | {"label": FAR.mean + FAR.deviation * float(row["label"])}
        for row in generate("ratings", rows=80, split="train", seed=1)
    ]
    write_jsonl(folder / "prices.jsonl", rows)
    return str(folder / "prices.jsonl")


def priced(recipe: RecipeMaker, folder: Path, case: str, **blocks: Any) -> Recipe:
    kind, strategy, dtype, _ = MODELS[case]
    training = {"max_steps": 12, "learning_rate": 5e-4, "eval_strategy": "steps", "eval_steps": 6}
    training |= {"save_strategy": "steps", "save_steps": 6, "save_total_limit": 2}
    evaluation = {"verify": True, "general_text": False, "metrics": ["mse", "mae", "loss"], **blocks.get("evaluation", {})}
    model = {"max_length": 32, **({"dtype": dtype} if dtype != "float32" else {})}
    return recipe(
        strategy, task="text-regression", kind=kind, data={"train": prices(folder)}, model=model,
        training=training, evaluation=evaluation,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", MODELS)
def test_whoever_reads_the_model_gets_the_owners_numbers(recipe: RecipeMaker, tmp_path: Path, case: str) -> None:
    result = train(priced(recipe, tmp_path, case), output_dir=tmp_path / "run")
    record, rows = result.record, read_jsonl(result.folder / "predictions.jsonl")
    scale, spread = record["label_scale"], np.std([row["label"] for row in rows])
    assert scale["in_head"] == MODELS[case][3]
    assert record["verified"]["failures"] == []
    assert record["verified"]["loss"] is not None  # that of plain transformers is the reported one
    told = np.array([row["tuned"]["predicted"] for row in rows])
    assert np.abs(told - np.mean([row["label"] for row in rows])).max() < 5 * spread
    assert len(set(told.tolist())) == len({row["text"] for row in rows})  # bfloat16 has steps of 128 here
    metrics = result.metrics["tuned"]
    assert metrics["mae"] == pytest.approx(np.abs(told - [row["label"] for row in rows]).mean(), rel=1e-4)
    assert metrics["loss"] == pytest.approx(metrics["mse"] / scale["deviation"] ** 2)
    logged = [event for event in read_jsonl(result.folder / "log.jsonl") if "eval_mse" in event]
    last = next(event for event in reversed(logged) if event["step"] == 12)
    assert (last["eval_mse"], last["eval_loss"]) == pytest.approx((metrics["mse"], metrics["loss"]), rel=0.03)
    assert evaluate(result.folder).metrics == pytest.approx(metrics, rel=1e-2)
    said = [row["predicted"] for row in predict(result.folder, [{"text": row["text"]} for row in rows])]
    assert said == pytest.approx(told.tolist(), abs=spread / 20)
    card = (result.folder / "README.md").read_text()
    assert ("print((logits * " in card) == (not scale["in_head"])
    if "lora" in MODELS[case][1]:
        merge(result.folder, tmp_path / "merged")
        said = plainly(tmp_path / "merged", scale, [row["text"] for row in rows])
        assert said == pytest.approx(told.tolist(), abs=spread / 5)
    else:
        said = plainly(result.folder / "model", scale, [row["text"] for row in rows])
        assert said == pytest.approx(told.tolist(), abs=spread / 20)  # training computes in bfloat16


def plainly(folder: Path, scale: dict[str, Any], texts: list[str]) -> list[float]:
    """What plain transformers gives, by what the card says."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        found = [
            float(model(**tokenizer(text, return_tensors="pt", truncation=True, max_length=32)).logits) for text in texts
        ]
    return found if scale["in_head"] else [number * scale["deviation"] + scale["mean"] for number in found]


@pytest.mark.slow
def test_a_run_goes_on_and_a_run_after_it_begins_in_the_right_units(recipe: RecipeMaker, tmp_path: Path) -> None:
    """A checkpoint is in standard units, ended or not; a head that is kept has its owner's."""
    made = priced(recipe, tmp_path, "full", evaluation={"verify": False})
    whole = train(made, output_dir=tmp_path / "whole")
    checkpoint = json.loads((whole.folder / "checkpoints" / "checkpoint-6" / "config.json").read_text())
    assert not checkpoint["label_scale"]["in_head"]
    assert json.loads((whole.folder / "model" / "config.json").read_text())["label_scale"]["in_head"]
    for step in (12, 6):
        again = shutil.copytree(whole.folder, tmp_path / f"again_{step}")
        for number in [number for number in (6, 12) if number > step]:
            for file in (again / "checkpoints" / f"checkpoint-{number}").iterdir():
                file.unlink()
        (again / "run.json").write_text(json.dumps(json.loads((again / "run.json").read_text()) | {"state": "interrupted"}))
        resumed = train(made, output_dir=again, resume=True)
        assert resumed.metrics["tuned"] == pytest.approx(whole.metrics["tuned"], rel=1e-4)
    after = made.model_copy(update={"model": made.model.model_copy(update={"name": str(whole.folder / "model")})})
    kept = train(after, output_dir=tmp_path / "after")
    assert kept.record["head"]["kept"]
    assert kept.metrics["baseline"]["mse"] == pytest.approx(whole.metrics["tuned"]["mse"], rel=1e-2)


def test_what_is_put_in_is_taken_out() -> None:
    layer = nn.Linear(8, 1)
    hidden, before = torch.randn(5, 8), [layer.weight.clone(), layer.bias.clone()]
    standard = layer(hidden)
    put_in(layer, FAR)
    assert layer(hidden).flatten().tolist() == pytest.approx(FAR.own(standard).flatten().tolist(), rel=1e-6)
    scale = LabelScale(FAR, layer, in_head=True)
    assert (scale.of_labels, scale.of_outputs) == (OWN, OWN)
    with scale.in_steps(), scale.in_steps():
        assert (scale.of_labels, scale.of_outputs) == (FAR, FAR)
        assert torch.allclose(layer(hidden), standard, atol=1e-5)
    assert layer(hidden).flatten().tolist() == pytest.approx(FAR.own(standard).flatten().tolist(), rel=1e-6)
    take_out(layer, FAR)
    assert torch.allclose(layer.weight, before[0], rtol=1e-6)
    assert torch.allclose(layer.bias, before[1], atol=1e-4)


@pytest.mark.parametrize(("kind", "holds"), [("distilbert", True), ("roberta", True), ("t5", True), ("llama", False)])
def test_the_layer_is_found_by_what_it_does(stand_in: Callable[[str], Path], kind: str, holds: bool) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(stand_in(kind), num_labels=1, dtype=torch.float32)
    answer_in_float32(model)
    found = settle_scale(model, FAR, new=True, kept=None, may_fold=True)
    assert (found.layer is not None, found.in_head) == (holds, holds)
    assert model.config.to_dict()["label_scale"] == {"mean": 20000.0, "deviation": 400.0, "in_head": holds}
    ids = torch.tensor([[5, 6, 7, model.config.eos_token_id or 1]])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        said = model.eval()(input_ids=ids).logits
    assert said.dtype == torch.float32
    assert (abs(float(said) - FAR.mean) < 5 * FAR.deviation) == holds
