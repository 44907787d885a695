"""The frozen body computed once: the same losses and scores as without, kept whole, found again, and refused where it is not."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ftkit import train
from ftkit.models.frozen import FROZEN, Reading
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Recipe
from ftkit.run import resolved_values
from ftkit.training.dispatcher import Parts, build, seed_everything, take_kept_rows
from ftkit.training.kept_outputs import OUTPUTS, KeptOutputs, open_kept

RecipeMaker = Callable[..., Recipe]
LONG = {"max_steps": 60, "bf16": False, "eval_strategy": "no", "save_strategy": "no"}
KINDS = {
    "distilbert": Reading.FIRST, "bert": Reading.FIRST, "gpt2": Reading.LAST, "llama": Reading.LAST,
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test starts with nothing computed."""
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def transfer(**fields: Any) -> dict[str, Any]:
    return {"name": "transfer", **fields}


def trained(recipe: Recipe, folder: Path, train_steps: bool = True) -> Parts:
    """The parts of a recipe after its training, as `ftkit train` does it."""
    parts = build(recipe, folder / "out", [])
    take_kept_rows(parts)
    seed_everything(recipe)
    if train_steps:
        parts.trainer.train()
    return parts


def losses(parts: Parts) -> list[float]:
    return [entry["loss"] for entry in parts.trainer.state.log_history if "loss" in entry]


def kept(parts: Parts, split: str = "train") -> KeptOutputs:
    assert parts.frozen is not None
    rows = parts.frozen.rows(split)
    assert rows is not None
    return rows.kept


@pytest.mark.parametrize("kind", KINDS)
def test_the_losses_are_those_without_it(recipe: RecipeMaker, tmp_path: Path, kind: str) -> None:
    with_it = trained(recipe(transfer(), kind=kind, training=LONG), tmp_path / "with")
    without = trained(recipe(transfer(cache_frozen=False), kind=kind, training=LONG), tmp_path / "without")
    assert kept(with_it).reading is KINDS[kind]
    assert len(losses(with_it)) == 60
    assert losses(with_it) == pytest.approx(losses(without), abs=1e-5)
    weights = zip(with_it.model.parameters(), without.model.parameters(), strict=True)
    assert max(float((one - other).detach().abs().max()) for one, other in weights) < 1e-4
    assert len(set(losses(with_it))) > 50  # it learnt meanwhile


def test_bf16_losses_stay_within_its_rounding(recipe: RecipeMaker, tmp_path: Path) -> None:
    settings = LONG | {"bf16": True}
    with_it = trained(recipe(transfer(), training=settings), tmp_path / "with")
    without = trained(recipe(transfer(cache_frozen=False), training=settings), tmp_path / "without")
    assert losses(with_it) == pytest.approx(losses(without), abs=5e-2)  # a body without padding rounds its sums otherwise


@pytest.mark.parametrize("extra", [
    {"gradient_accumulation_steps": 2}, {"train_sampling_strategy": "group_by_length"}, {"label_smoothing_factor": 0.1},
    {"dataloader_num_workers": 1},
])  # fmt: skip
def test_it_goes_with_other_settings(recipe: RecipeMaker, tmp_path: Path, extra: dict[str, Any]) -> None:
    settings = LONG | {"max_steps": 15} | extra
    with_it = trained(recipe(transfer(), training=settings), tmp_path / "with")
    without = trained(recipe(transfer(cache_frozen=False), training=settings), tmp_path / "without")
    assert kept(with_it).rows == 100
    assert losses(with_it) == pytest.approx(losses(without), abs=1e-5)


@pytest.mark.parametrize("kind", ["distilbert", "gpt2"])
@pytest.mark.slow
def test_the_last_blocks_may_learn_over_kept_outputs(recipe: RecipeMaker, tmp_path: Path, kind: str) -> None:
    last = {"unfreeze_last": 1}
    with_it = trained(recipe(transfer(**last), kind=kind, training=LONG), tmp_path / "with")
    without = trained(recipe(transfer(**last, cache_frozen=False), kind=kind, training=LONG), tmp_path / "without")
    assert kept(with_it).reading is Reading.ALL
    assert losses(with_it)[:20] == pytest.approx(losses(without)[:20], abs=5e-5)
    assert losses(with_it) == pytest.approx(losses(without), abs=2e-2)  # Adam makes steps of what is rounding alone


@pytest.mark.parametrize("cache_frozen", [True, False])
@pytest.mark.parametrize("unfreeze_last", [0, 1])
def test_nothing_goes_back_below_what_learns(
    recipe: RecipeMaker, tmp_path: Path, unfreeze_last: int, cache_frozen: bool
) -> None:
    parts = build(recipe(transfer(unfreeze_last=unfreeze_last, cache_frozen=cache_frozen)), tmp_path / "out", [])
    blocks = parts.model.distilbert.transformer.layer
    seen: list[tuple[bool, bool]] = []
    frozen = [*blocks[: 2 - unfreeze_last], parts.model.distilbert.embeddings]
    for module in frozen:
        module.register_forward_hook(lambda _module, _inputs, output: seen.append((output.requires_grad, output.is_leaf)))
    take_kept_rows(parts)
    seen.clear()
    parts.trainer.train()
    assert len(seen) >= 4 * len(frozen)
    assert set(seen) == {(False, True)}


def test_the_frozen_blocks_do_not_run_again(recipe: RecipeMaker, tmp_path: Path) -> None:
    parts = build(recipe(transfer(), training=LONG | {"eval_strategy": "steps", "eval_steps": 30}), tmp_path / "out", [])
    take_kept_rows(parts)
    runs: list[int] = []
    parts.model.distilbert.transformer.layer[0].attention.register_forward_hook(lambda *_: runs.append(1))
    parts.trainer.train()
    parts.trainer.predict(parts.frozen.rows("eval") if parts.frozen else None)
    assert runs == []
    batch = parts.frozen.collate([parts.data.encoded["eval"].dataset[0]]) if parts.frozen else {}
    parts.model(**batch)
    assert runs == [1]  # any other batch goes through the whole model


def test_dropout_before_the_blocks_is_in_the_body(recipe: RecipeMaker, tmp_path: Path) -> None:
    parts = build(recipe(transfer(), kind="gpt2"), tmp_path / "out", [])
    parts.model.train()
    parts.model(input_ids=torch.tensor([[5, 6, 7]]))
    assert not parts.model.transformer.drop.training
    assert parts.model.score.training


def test_dropout_in_the_body_is_noticed(recipe: RecipeMaker, tmp_path: Path) -> None:
    parts = build(recipe(transfer(), training=LONG), tmp_path / "out", [])
    layer = parts.model.distilbert.transformer.layer[0].ffn
    layer.register_forward_hook(lambda _module, _inputs, output: torch.nn.functional.dropout(output, 0.5))
    assert parts.frozen is not None
    assert parts.frozen.rows("train") is None
    assert "there is dropout in it" in parts.frozen.facts["train"]["reason"]


@pytest.mark.slow
def test_a_second_run_that_changes_the_head_alone_computes_nothing(recipe: RecipeMaker, tmp_path: Path) -> None:
    first = train(recipe(transfer(), training={"max_steps": 15}), output_dir=tmp_path / "one")
    other = {"max_steps": 30, "learning_rate": 5e-3, "seed": 7, "per_device_train_batch_size": 4}
    second = train(recipe(transfer(), training=other), output_dir=tmp_path / "two")
    found = [result.record["frozen_body"] for result in (first, second)]
    assert [entry["train"]["reused"] for entry in found] == [False, True]
    assert [entry["eval"]["reused"] for entry in found] == [False, True]
    assert found[0]["train"]["folder"] == found[1]["train"]["folder"]
    assert found[0]["train"]["rows"] == 100
    assert found[0]["train"]["bytes"] > 0


@pytest.mark.parametrize("change", [
    {"model": {"max_length": 16}}, {"training": {"bf16": False}}, {"data": {"seed": 5}}, {"model": {"dtype": "bfloat16"}},
    {"model": {"attn_implementation": "eager"}},
])  # fmt: skip
def test_what_the_body_gives_for_other_rows_or_otherwise_is_not_taken(
    recipe: RecipeMaker, tmp_path: Path, change: dict[str, Any]
) -> None:
    settings = {"max_steps": 15, "bf16": True}
    first = kept(trained(recipe(transfer(), training=settings), tmp_path / "one", train_steps=False))
    changed = {"training": settings} | change | ({"training": settings | change["training"]} if "training" in change else {})
    second = kept(trained(recipe(transfer(), **changed), tmp_path / "two", train_steps=False))
    assert first.folder != second.folder


def test_other_weights_are_not_taken_for_these(recipe: RecipeMaker, tmp_path: Path) -> None:
    parts = build(recipe(transfer(), training=LONG), tmp_path / "one", [])
    first = kept(parts).folder
    other = build(recipe(transfer(), training=LONG), tmp_path / "two", [])
    with torch.no_grad():
        other.model.distilbert.transformer.layer[0].ffn.lin1.weight[0, 0] += 1e-3
    assert kept(other).folder != first


def test_a_spoilt_file_is_computed_anew(recipe: RecipeMaker, tmp_path: Path) -> None:
    settings = recipe(transfer(), training=LONG)
    folder = kept(trained(settings, tmp_path / "one", train_steps=False)).folder
    array = np.load(folder / f"{FROZEN}.npy", mmap_mode="r+")
    right = array.copy()
    array[:] = 0
    array.flush()
    again = kept(trained(settings, tmp_path / "two", train_steps=False))
    assert np.array_equal(again.arrays[FROZEN], right)
    with (folder / f"{FROZEN}.npy").open("r+b") as file:
        file.truncate(200)
    assert open_kept(folder) is None
    assert np.array_equal(kept(trained(settings, tmp_path / "three", train_steps=False)).arrays[FROZEN], right)


@pytest.mark.slow
def test_scores_of_a_run_are_those_without_it(recipe: RecipeMaker, tmp_path: Path) -> None:
    settings = {"max_steps": 26, "eval_strategy": "steps", "eval_steps": 13, "bf16": False}
    runs = [
        train(
            recipe(transfer(cache_frozen=keep), training=settings, evaluation={"verify": keep}), output_dir=tmp_path / name
        )
        for name, keep in (("with", True), ("without", False))
    ]
    for model in ("baseline", "tuned"):
        assert runs[0].metrics[model] == pytest.approx(runs[1].metrics[model], abs=1e-5)
    rows = [
        [json.loads(line)["tuned"]["probability"] for line in (run.folder / "predictions.jsonl").open(encoding="utf-8")]
        for run in runs
    ]
    assert rows[0] == pytest.approx(rows[1], abs=1e-5)
    assert runs[0].record["state"] == "finished"
    assert runs[1].record["frozen_body"] == {"computed": "in every epoch", "reason": "strategy.cache_frozen is false"}


def test_a_resumed_training_ends_where_the_unbroken_one_ends(recipe: RecipeMaker, tmp_path: Path) -> None:
    settings = LONG | {"max_steps": 30, "save_strategy": "steps", "save_steps": 20}
    unbroken = trained(recipe(transfer(), training=settings), tmp_path / "run")
    resumed = trained(recipe(transfer(), training=settings), tmp_path / "run", train_steps=False)
    resumed.trainer.train(resume_from_checkpoint=str(tmp_path / "run/out/checkpoint-20"))
    assert losses(resumed) == losses(unbroken)
    for one, other in zip(resumed.model.parameters(), unbroken.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("blocks", "reason"),
    [
        ({"training": {"max_steps": 3}}, "training ends before every row was seen once"),
        ({"training": {"max_steps": 15, "neftune_noise_alpha": 5.0}}, "training.neftune_noise_alpha puts noise into it"),
        ({"strategy": {"unfreeze_last": 2}}, "every block learns"),
    ],
)
def test_where_it_is_not_right_it_is_off_and_says_so(
    recipe: RecipeMaker, tmp_path: Path, blocks: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    strategy = transfer(**blocks.get("strategy", {}))
    parts = trained(recipe(strategy, training=blocks.get("training", LONG)), tmp_path, train_steps=False)
    assert parts.frozen is not None
    assert parts.frozen.describe() == {"computed": "in every epoch", "reason": reason}
    assert f"the frozen body is computed in every epoch: {reason}" in " ".join(capsys.readouterr().err.split())
    parts.trainer.train()


def test_without_room_on_the_disk_it_is_computed_in_every_epoch(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = (OUTPUTS.most, OUTPUTS.most - 1000, 1000)
    monkeypatch.setattr(
        "shutil.disk_usage", lambda _: type("Usage", (), dict(zip(("total", "used", "free"), usage, strict=True)))
    )
    parts = trained(recipe(transfer(), training=LONG | {"max_steps": 13}), tmp_path)
    assert parts.frozen is not None
    assert "with room to spare" in parts.frozen.facts["train"]["reason"]
    assert not list(OUTPUTS.folder.glob("*"))


def test_token_labels_keep_every_token(stand_in: Callable[[str], Path], tmp_path: Path) -> None:
    names = ["Anna", "Paris", "walks", "sleeps", "today", "Bob"]
    rows = tmp_path / "tokens.jsonl"
    lines = [
        {
            "tokens": [names[(i + j) % 6] for j in range(1 + i % 7)],
            "tags": ["A" if (i + j) % 2 else "O" for j in range(1 + i % 7)],
        }
        for i in range(40)
    ]
    rows.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    curves = []
    for keep in (True, False):
        values = {
            "task": "token-classification", "model": {"name": str(stand_in("distilbert"))},
            "strategy": transfer(cache_frozen=keep),
            "data": {"train": str(rows), "eval_size": 8, "gate": {"overlap": 1.0}},
            "training": LONG | {"logging_steps": 1, "max_steps": 20, "per_device_train_batch_size": 4},
        }  # fmt: skip
        parts = trained(load_values(values), tmp_path / str(keep))
        curves.append(losses(parts))
        if keep:
            assert kept(parts).reading is Reading.ALL
    assert curves[0] == pytest.approx(curves[1], abs=2e-6)


KILLED = """
import sys
from ftkit import train
from ftkit.recipe.load import load_recipe
train(load_recipe(sys.argv[1]), output_dir=sys.argv[2])
"""


@pytest.mark.slow
def test_a_run_killed_while_it_computes_leaves_no_half_of_it(recipe: RecipeMaker, tmp_path: Path, own_cache: Path) -> None:
    values = resolved_values(recipe(transfer(), training=LONG))
    values["data"]["train"] = [{"path": "sample:sentiment", "rows": 8000}]
    values["data"]["gate"] = {"overlap": 1.0, "similarity": 1.0}
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(values | {"training": {"num_train_epochs": 1, "logging_steps": 500}}), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(file), str(tmp_path / "run")], env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and process.poll() is None and not half_written(own_cache):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert half_written(own_cache)
    whole = [folder for folder in (own_cache / "frozen").iterdir() if not folder.name.startswith(".")]
    assert all(open_kept(folder) is not None for folder in whole)


def half_written(cache: Path) -> list[Path]:
    return [file for file in cache.glob(f"frozen/.*/{FROZEN}.npy") if file.stat().st_size > 3_000_000]


@pytest.mark.slow
def test_real_sentences_on_a_real_model(shared: Path, tmp_path: Path) -> None:
    files = [
        {"path": str(shared / f"data/rt-polarity/rt-polarity.{end}"), "format": "text", "encoding": "latin-1",
         "values": {"label": label}, "rows": 300}
        for end, label in (("pos", "positive"), ("neg", "negative"))
    ]  # fmt: skip
    found = []
    for keep in (True, False):
        values = {
            "task": "text-classification", "model": {"name": str(shared / "models/minilm-l6"), "max_length": 128},
            "strategy": transfer(cache_frozen=keep),
            "data": {"train": files, "eval_size": 100, "gate": {"overlap": 1.0}},
            "training": {
                "num_train_epochs": 4, "learning_rate": 2e-3, "per_device_train_batch_size": 32, "logging_steps": 1,
                "save_strategy": "no", "bf16": False,
            },
            "evaluation": {"verify": False, "general_text": False},
            "speed": {"micro_batches": False},  # the head's dropout draws otherwise for the parts of a batch
        }  # fmt: skip
        result = train(load_values(values), output_dir=tmp_path / str(keep))
        log = [json.loads(line) for line in (result.folder / "log.jsonl").open(encoding="utf-8")]
        found.append(
            (
                result,
                [line["loss"] for line in log if "loss" in line],
                [line["eval_loss"] for line in log if "eval_loss" in line],
            )
        )
    (with_it, curve, evals), (without, other_curve, other_evals) = found
    assert len(curve) == 64
    assert curve == pytest.approx(other_curve, abs=1e-5)
    assert evals == pytest.approx(other_evals, abs=1e-5)
    assert with_it.metrics["tuned"]["accuracy"] == without.metrics["tuned"]["accuracy"] > 0.6
