"""Is the loss that a run reports the one that anybody gets by plain transformers from what it saved?"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import EvalPrediction

from ftkit import Recipe, Unverified, api, train, verify
from ftkit.data.samples.table import generate
from ftkit.evaluation.measure import load_outputs, write_arrays
from ftkit.evaluation.reported import COARSE_ROW_TOLERANCE, COARSE_TOLERANCE, TOLERANCE, Measured, Pair
from ftkit.evaluation.verification import padded_places
from ftkit.models.precision import has_bf16
from ftkit.recipe.schema import Data
from ftkit.recipe.tasks import TASK_SPECS
from ftkit.run import Run, write_json, write_jsonl
from ftkit.tasks.text_regression import TextRegression
from ftkit.training.dispatcher import Parts
from ftkit.training.supervised_loss import Head

RecipeMaker = Callable[..., Recipe]
FLOAT32 = {"bf16": False}
QUICK: dict[str, Any] = {"generation": {"rows": 0}, "general_text": False}
DIALOGUES = {"train": "sample:dialogues", "columns": {"document": "dialogue"}}
# Each task in each form whose loss is computed in another way, and a kind of model for it.
TASKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "one label": ("text-classification", "distilbert", {}),
    "several labels": ("text-classification", "bert", {}),
    "a number": ("text-regression", "distilbert", {"train": "sample:ratings"}),
    "tags": ("token-classification", "bert", {"train": "sample:entities"}),
    "hidden tokens": ("masked-language-modeling", "distilbert", {"train": "sample:text"}),
    "blocks": ("language-modeling", "gpt2", {"train": "sample:text"}),
    "packed": ("language-modeling", "llama", {"train": "sample:text", "packing": True}),
    "answers": ("instruction", "llama", {}),
    "summaries": ("summarization", "gpt2", DIALOGUES),
    "summaries of pairs": ("summarization", "t5", DIALOGUES),
}
SWEEP = [(name, strategy) for name, (task, *_) in TASKS.items() for strategy in TASK_SPECS[task].strategies]


def of_task(verified_recipe: RecipeMaker, folder: Path, name: str, strategy: str, **training: Any) -> Recipe:
    """A small recipe for one of TASKS."""
    task, kind, data = TASKS[name]
    if name == "several labels":
        rows = generate("sentiment", rows=80, split="train", seed=2)
        marked = [row | {"label": [row["label"], *["long"] * (len(row["text"]) > 60)]} for row in rows]
        write_jsonl(folder / "rows.jsonl", marked)
        data = {"train": str(folder / "rows.jsonl")}
    if str(data.get("train", "")).startswith("sample:"):
        data = data | {"train": {"path": data["train"], "rows": 80}}
    evaluation = QUICK if TASK_SPECS[task].metrics and task in ("instruction", "summarization") else {"general_text": False}
    return verified_recipe(strategy, task=task, kind=kind, data=data, evaluation=evaluation, training=training)


# Kind: a measured loss that only ftkit's own code has checked. Every task's loss, by every strategy, is also the plain model's.
@pytest.mark.slow
@pytest.mark.swept
@pytest.mark.parametrize(("name", "strategy"), SWEEP, ids=lambda word: word.replace(" ", "-"))
def test_every_reported_loss_is_that_of_plain_transformers(
    verified_recipe: RecipeMaker, tmp_path: Path, name: str, strategy: str
) -> None:
    folder = train(of_task(verified_recipe, tmp_path, name, strategy, **FLOAT32), output_dir=tmp_path / "run").folder
    record, metrics = Run(folder).record["verified"], json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert record["failures"] == []
    found = record["loss"]
    assert found["rows"] == record["rows"] > 3
    assert found["coarse"] is (strategy == "qlora")
    if strategy != "qlora":
        assert found["of_row"]["plain"] == pytest.approx(found["of_row"]["reported"], rel=1e-5, abs=1e-5)
        assert found["padding"] < 1e-5
    if found["rows"] == metrics["rows"] and "loss" in metrics["tuned"]:
        assert found["over_rows"]["reported"] == pytest.approx(metrics["tuned"]["loss"], rel=1e-6)  # the report's figure


def model_with(stand_in: Callable[[str], Path], folder: Path, kind: str, **values: Any) -> Path:
    """A copy of a stand-in whose config has other values."""
    made = Path(shutil.copytree(stand_in(kind), folder / kind))
    config = json.loads((made / "config.json").read_text(encoding="utf-8"))
    assert values.keys() <= config.keys()
    write_json(made / "config.json", config | values)
    return made


# Kind: what stands between the head and the loss beside a linear layer, and terms of the loss that are no row's own.
ODD: dict[str, tuple[str, dict[str, Any]]] = {
    "granite": ("granite", {"logits_scaling": 8.0}),
    "cohere": ("cohere", {"logit_scale": 0.0625}),
    "mixtral": ("mixtral", {"output_router_logits": True, "router_aux_loss_coef": 0.5}),
}


def odd_recipe(
    verified_recipe: RecipeMaker, stand_in: Callable[[str], Path], folder: Path, name: str, strategy: str, **training: Any
) -> Recipe:
    kind, values = ODD[name]
    block = {"name": strategy} | ({"r": 4, "target_modules": ["q_proj", "v_proj"]} if strategy == "lora" else {})
    model = {"name": str(model_with(stand_in, folder, kind, **values))}
    return verified_recipe(block, task="instruction", model=model, evaluation=QUICK, training=training)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["full", "lora"])
@pytest.mark.parametrize("name", ODD)
def test_the_report_of_an_odd_architecture_has_the_loss_of_plain_transformers(
    verified_recipe: RecipeMaker, stand_in: Callable[[str], Path], tmp_path: Path, name: str, strategy: str
) -> None:
    made = odd_recipe(verified_recipe, stand_in, tmp_path, name, strategy, **FLOAT32)
    folder = train(made, output_dir=tmp_path / "run").folder
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["tuned"]
    said = verify(folder).facts["eval loss"]
    assert said.startswith(f"{metrics['loss']:.4f} over 20 rows by plain transformers, as reported to ")
    assert float(said.split("row by row to ")[1].split(";")[0]) <= 1e-4


# Kind: a lever that is believed where it is wrong. The verification is to catch it, whatever the lever's own trial says.
@pytest.mark.parametrize("strategy", ["full", pytest.param("lora", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["granite", pytest.param("cohere", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_measured_loss_that_is_wrong_is_not_verified(
    verified_recipe: RecipeMaker, stand_in: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], name: str, strategy: str,
) -> None:  # fmt: skip
    build = api.build

    def believe(*words: Any) -> Parts:
        """As built, with the logits made by the head alone, as if that had been tried and found right."""
        parts = build(*words)
        parts.trainer.head, parts.trainer.preprocess_logits_for_metrics = Head(parts.model), None
        return parts

    monkeypatch.setattr(api, "build", believe)
    made = odd_recipe(verified_recipe, stand_in, tmp_path, name, strategy, **FLOAT32)
    folder = train(made, output_dir=tmp_path / "run").folder
    said = " ".join(capsys.readouterr().err.split())
    assert "NOT VERIFIED: the reported eval loss is not the saved model's: " in said
    record = Run(folder).record
    assert (record["state"], record["verified"]["good"]) == ("finished", False)
    shown = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["tuned"]["loss"]
    assert record["verified"]["loss"]["over_rows"]["reported"] == pytest.approx(shown)
    with pytest.raises(Unverified) as caught:
        verify(folder)
    assert len(str(caught.value).splitlines()) == 1
    plain = record["verified"]["loss"]["over_rows"]["plain"]
    assert f"{shown:.6g} over 20 rows, where plain transformers has {plain:.6g}" in str(caught.value)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {}


@pytest.fixture
def finished(
    verified_recipe: RecipeMaker, made: dict[str, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A copy of a finished run, to be spoiled, without the seal, which finds each file that was changed."""
    if "run" not in made:
        folder = tmp_path_factory.mktemp("runs")
        made["run"] = train(
            of_task(verified_recipe, folder, "one label", "lora", **FLOAT32), output_dir=folder / "run"
        ).folder
    copy = Path(shutil.copytree(made["run"], tmp_path / "copy"))
    (copy / "seal.json").unlink()
    return copy


@pytest.mark.slow
def test_a_sound_run_says_which_loss_was_found(finished: Path) -> None:
    assert " over 20 rows by plain transformers, as reported to " in verify(finished).facts["eval loss"]
    told = "its eval loss is that of plain transformers"
    assert told in (finished / "README.md").read_text(encoding="utf-8")
    assert told in (finished / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_figures_that_were_changed_since_the_run_are_found(finished: Path) -> None:
    file = finished / "outputs/tuned.npz"
    kept = load_outputs(file).prediction
    changed = kept.predictions.copy()
    changed[7] += np.array([0.0, 0.002])  # of one row
    write_arrays(file, predictions=changed, labels=kept.label_ids)
    with pytest.raises(
        Unverified, match=r"the reported eval loss is not the saved model's: .* of eval row 8, where"
    ) as caught:
        verify(finished)
    assert len(str(caught.value).splitlines()) == 1
    write_arrays(file, predictions=kept.predictions[:5], labels=kept.label_ids[:5])
    with pytest.raises(Unverified, match=r"outputs/tuned.npz lacks eval row 20, it holds 5"):
        verify(finished)
    file.write_bytes(b"nothing")
    with pytest.raises(Unverified, match=r"tuned.npz: damaged: no arrays can be read from it"):
        verify(finished)
    write_arrays(file, predictions=kept.predictions, labels=kept.label_ids)
    metrics = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))
    metrics["tuned"]["accuracy"] += 0.05
    write_json(finished / "metrics.json", metrics)
    with pytest.raises(Unverified, match=r"metrics.json reports accuracy .*tuned.npz has .*one of them was changed"):
        verify(finished)


@pytest.mark.slow
def test_what_an_older_run_did_not_note_is_not_checked(finished: Path) -> None:
    facts = finished / "verification/facts.json"
    known = json.loads(facts.read_text(encoding="utf-8"))
    write_json(facts, {name: value for name, value in known.items() if name not in ("entries", "padded", "rough")})
    assert verify(finished).facts["eval loss"].startswith("not checked: the run is of a version that")
    write_json(facts, known)
    shutil.rmtree(finished / "outputs")
    assert verify(finished).facts["eval loss"].startswith("not checked: what the run measured")


# Kind: a base whose config says what it was trained for, by which its class chooses the loss.
@pytest.mark.slow
def test_an_adapter_for_another_kind_of_label_than_its_base_has_its_own_loss(
    verified_recipe: RecipeMaker, tmp_path: Path
) -> None:
    base = train(verified_recipe("full", evaluation={"verify": False}), output_dir=tmp_path / "base").folder / "model"
    rows = {"train": {"path": "sample:ratings", "rows": 80}}
    made = verified_recipe("lora", task="text-regression", kind="distilbert", data=rows, model={"name": str(base)})
    folder = train(made, output_dir=tmp_path / "run").folder
    assert Run(folder).record["verified"]["failures"] == []
    assert "problem_type='regression'" in (folder / "README.md").read_text(encoding="utf-8")


# Kind: an architecture whose outputs depend on padding. That is the model's own and no fault of what was measured.
@pytest.mark.slow
def test_a_model_that_sees_its_padding_is_verified_and_it_is_said(verified_recipe: RecipeMaker, tmp_path: Path) -> None:
    made = verified_recipe("full", kind="nystromformer", training=FLOAT32)
    folder = train(made, output_dir=tmp_path / "run").folder
    assert Run(folder).record["verified"]["failures"] == []
    assert "; padding alone changes a row's loss by " in verify(folder).facts["eval loss"]


# Kind: what is rounded to fewer digits differs further, and no further than is said.
@pytest.mark.slow
@pytest.mark.swept
@pytest.mark.parametrize("name", [*TASKS, *ODD])
def test_what_is_computed_in_bfloat16_is_verified_too(
    verified_recipe: RecipeMaker, stand_in: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    if not has_bf16():
        pytest.skip("this machine has no bfloat16")
    if name in ODD:
        recipe = odd_recipe(verified_recipe, stand_in, tmp_path, name, "full", bf16=True)
    else:
        recipe = of_task(verified_recipe, tmp_path, name, "full", bf16=True)
    found = Run(train(recipe, output_dir=tmp_path / "run").folder).record["verified"]
    assert found["failures"] == []
    assert found["loss"]["coarse"]
    assert Pair(**found["loss"]["of_row"]).share < COARSE_ROW_TOLERANCE / 2
    assert Pair(**found["loss"]["over_rows"]).share < COARSE_TOLERANCE / 2


def test_large_numbers_are_rounded_as_such() -> None:
    predictions = np.array([[20_000.0], [0.5]], dtype=np.float32)
    measured = Measured(
        TextRegression(Data(train=["sample:ratings"])),
        EvalPrediction(predictions, np.array([20_002.0, 1.0], np.float32)),
        [0, 1],
    )
    losses, over_rows = measured.losses([0, 1])
    assert losses.tolist() == [4.0, 0.25]
    assert over_rows == 2.125
    units = measured.units([0, 1], losses)
    assert units.tolist() == [80_000.0, 1.0]
    nearby = (np.nextafter(np.float32(20_000), np.float32(0)) - 20_002.0) ** 2
    assert Pair(nearby, 4.0, units[0]).share < TOLERANCE < abs(nearby - 4)
    assert Pair(float("nan"), 4.0, 1.0).share == float("inf")


def test_the_rows_that_are_padded_are_shorter_than_the_longest() -> None:
    assert padded_places([5, 9, 2, 7, 9, 3]) == [2, 5, 3]
    assert padded_places([4, 4]) == padded_places([4]) == []
