"""The plan of a run: what it says beside what a real step takes."""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig

from ftkit import api
from ftkit.errors import UserError
from ftkit.evaluation.generation import autocast
from ftkit.models.precision import has_bf16
from ftkit.models.resting import rest
from ftkit.recipe.load import load_recipe
from ftkit.recipe.schema import Recipe
from ftkit.run import dump_recipe
from ftkit.training.dispatcher import Parts, build
from ftkit.training.embedding_gradient import is_tied, learning_embeddings
from ftkit.training.footprint import (
    Learning,
    Peak,
    four_bit_bytes,
    kept_checkpoints,
    knows_optimizer,
    optimizer_bytes,
    resting_bytes,
    steps_of,
)
from ftkit.training.micro_batches import most_tokens
from ftkit.training.pace import ORDER, Pace, Stopwatch, chosen_rows, computed_tokens, forecast, measure_pace, pace_of
from ftkit.training.planner import Planner, predicted_peaks
from ftkit.training.probe import longest_batch
from ftkit.training.rehearsal import MemoryLedger
from ftkit.training.ways import Settled
from ftkit.units import GIB, size_words


def slow(value: Any) -> Any:
    """A value whose cases run with the slow tests only."""
    return pytest.param(value, marks=pytest.mark.slow)


RECIPES = Path(__file__).parent.parent.parent / "recipes"


def planned(name: str, kind: str, folder: Path, *overrides: str) -> api.Plan:
    """The plan of a packaged recipe, given nothing but the config.json of its model."""
    AutoConfig.for_model(kind).save_pretrained(folder)
    return api.plan(load_recipe(RECIPES / f"{name}.yaml", [f"model.name={folder}", *overrides]), device="cpu")


def test_lora_distilbert_has_the_published_counts(tmp_path: Path) -> None:
    plan = planned("lora_distilbert", "distilbert", tmp_path, "training.bf16=true")
    assert (plan.parameters.trainable, plan.parameters.total) == (628_994, 67_584_004)
    assert plan.memory["gradients"] == 4 * 628_994
    blocks = 6 * (4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768)  # their linear layers rest in bfloat16
    positions = 8 * 512
    assert plan.memory["weights"] == 4 * (67_584_004 - 628_994 - blocks) + 2 * blocks + positions
    assert plan.memory["adapters"] == 4 * 628_994
    assert plan.run == {}
    assert any("not in the cache" in note for note in plan.notes)


@pytest.mark.slow
def test_qlora_llama2_has_the_published_counts(tmp_path: Path) -> None:
    plan = planned("qlora_llama2_summarization", "llama", tmp_path, "training.bf16=true")
    counts = plan.parameters
    assert (counts.trainable, counts.total, counts.stored) == (16_777_216, 6_755_192_832, 3_517_190_144)
    assert plan.memory["weights"] < 1.06 * (counts.stored - 16_777_216 - 2 * 32_000 * 4096 + 8 * 32_000 * 4096)
    assert plan.memory["logits"] >= 4 * plan.batch["rows"] * plan.batch["length"] * 32_000


def bytes_of_weights(model: torch.nn.Module) -> int:
    """What parameters and buffers take, with the scales and codebooks of 4-bit weights."""
    tensors: list[torch.Tensor] = [*model.parameters(), *model.buffers()]
    for parameter in model.parameters():
        if state := vars(parameter).get("quant_state"):
            tensors += [state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
    return sum(tensor.nbytes for tensor in tensors)


def planned_batch(parts: Parts, training: Any) -> dict[str, torch.Tensor]:
    """As the plan has it: the longest rows, or where padding is left out, as many tokens as the fullest drawn batch has."""
    size, accumulation = training.per_device_train_batch_size, training.gradient_accumulation_steps
    batch, lengths = longest_batch(parts, size), parts.data.facts["train"].lengths
    if parts.trainer.unpadded is None:
        return batch
    steps = steps_of(len(lengths), size, accumulation, training.num_train_epochs, training.max_steps)
    tokens = math.ceil(most_tokens(lengths, size, steps * accumulation) / size)
    cut = {name: value[:, :tokens] if value.dim() == 2 else value for name, value in batch.items()}
    return cut | {"attention_mask": torch.ones_like(cut["attention_mask"])}


def take_step(parts: Parts, batch: dict[str, Any], pack: Callable[[torch.Tensor], Any]) -> None:
    """Forward, backward and one optimizer step as the Trainer takes it, with what autograd keeps given to `pack`.

    Frozen layers that rest in bfloat16 while the Trainer trains are left so.
    """
    trainer = parts.trainer
    if trainer.resting is not None:
        rest(trainer.resting.layers)
        trainer.resting = None
    trainer.create_optimizer_and_scheduler(1)
    assert trainer.optimizer is not None
    with trainer.stepping():
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept), autocast("cpu", trainer.args.bf16):
            loss = parts.model.train()(**batch).loss
        loss.backward()
    trainer.optimizer.step()


@pytest.mark.parametrize(
    ("strategy", "optim", "task"),
    [
        ("full", "adamw_torch_fused", "text-classification"),
        ("full", "adamw_8bit", "text-classification"),
        ("full", "adafactor", "instruction"),
        ("full", "sgd", "instruction"),
        ("transfer", "adagrad", "text-classification"),
        ("lora", "adamw_torch", "instruction"),
        ("lora", "lion_8bit", "text-classification"),
        ("qlora", "paged_adamw_8bit", "text-classification"),
        ("qlora", "rmsprop", "instruction"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", slow("bfloat16")])
def test_weights_gradients_and_optimizer_are_those_of_a_real_step(
    recipe: Callable[..., Recipe], tmp_path: Path, strategy: str, optim: str, task: str, dtype: str
) -> None:
    if dtype == "bfloat16" and strategy != "full" and task == "text-classification" and not has_bf16():
        pytest.skip("this machine has no bfloat16 for the head to be computed in")
    made = recipe(strategy, task=task, training={"optim": optim}, model={"dtype": dtype})
    memory = api.plan(made, device="cpu", measure=False).memory
    parts = build(made, tmp_path / "out", [])
    take_step(parts, longest_batch(parts, 2), lambda tensor: tensor)
    learning = [p for p in parts.model.parameters() if p.requires_grad]
    assert parts.trainer.optimizer is not None
    states = parts.trainer.optimizer.state.values()
    assert memory["weights"] + memory["adapters"] == bytes_of_weights(parts.model)
    assert memory["gradients"] == sum(p.grad.nbytes for p in learning if p.grad is not None)
    assert memory["optimizer"] == sum(v.nbytes for s in states for v in s.values() if isinstance(v, torch.Tensor))


CASES = [
    ("full", "text-classification", "distilbert"),
    ("transfer", "text-classification", "bert"),
    ("lora", "text-classification", "bert"),
    ("full", "instruction", "gpt2"),
    ("lora", "instruction", "llama"),
    ("qlora", "instruction", "llama"),
]


@pytest.mark.swept
@pytest.mark.parametrize("attention", [slow("eager"), "sdpa"])
@pytest.mark.parametrize("bf16", [slow(False), True])
@pytest.mark.parametrize(("strategy", "task", "kind"), CASES)
def test_activations_are_those_that_autograd_keeps(
    recipe: Callable[..., Recipe], tmp_path: Path, strategy: str, task: str, kind: str, bf16: bool, attention: str
) -> None:
    """But for the logits, of which the plan tells the most there are, within one part in a hundred."""
    made = recipe(
        strategy, task=task, kind=kind, training={"bf16": bf16}, model={"attn_implementation": attention},
        speed={"supervised_logits": False},
    )  # fmt: skip
    memory = api.plan(made, device="cpu", measure=False).memory
    parts = build(made, tmp_path / "out", [])
    kept: list[torch.Tensor] = []
    batch = planned_batch(parts, made.training)
    take_step(parts, batch, lambda tensor: kept.append(tensor) or tensor)  # type: ignore[func-returns-value]
    weights = {p.untyped_storage()._cdata for p in [*parts.model.parameters(), *parts.model.buffers()]}
    held = [tensor for tensor in kept if tensor.untyped_storage()._cdata not in weights]
    logits = batch["input_ids"].numel() * parts.model.get_input_embeddings().weight.shape[0]
    real = resting_bytes(tensor for tensor in held if tensor.numel() != logits)
    assert memory["activations"] == pytest.approx(real, rel=0.01)
    assert memory["logits"] >= resting_bytes(tensor for tensor in held if tensor.numel() == logits)


@pytest.mark.parametrize("checkpointing", [False, slow(True)])
@pytest.mark.parametrize("accumulation", [slow(1), 2])
@pytest.mark.parametrize(("strategy", "task", "kind"), CASES)
def test_the_peak_is_that_of_the_trainer_on_real_tensors(
    recipe: Callable[..., Recipe],
    tmp_path: Path,
    strategy: str,
    task: str,
    kind: str,
    accumulation: int,
    checkpointing: bool,
) -> None:
    """Every storage that the Trainer's own step makes is counted while it lives: within six parts in a hundred.

    What a kernel of 4-bit weights unpacks them to cannot be seen here; in float32 it is more than that.
    """
    training = {"bf16": True, "gradient_accumulation_steps": accumulation, "activation_checkpointing": checkpointing}
    made = recipe(strategy, task=task, kind=kind, training=training, model={"dtype": "bfloat16"})
    memory = api.plan(made, device="cpu", measure=False).memory
    parts = build(made, tmp_path / "out", [])
    trainer, batch = parts.trainer, planned_batch(parts, made.training)
    model = trainer.accelerator.prepare(parts.model)
    if checkpointing:
        model.activation_checkpointing_enable()
    trainer.current_gradient_accumulation_steps = accumulation
    peaks = []
    with trainer.stepping():
        trainer.training_step(model, batch)  # from the first step on embeddings keep their gradients
        kept = [module.weight.grad for module in learning_embeddings(model) if not is_tied(module, model)]
        model.zero_grad()
        for _ in range(accumulation):
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            before = sum(gradient.nbytes for gradient in gradients or kept)
            known = [*model.parameters(), *model.buffers(), *batch.values(), *gradients, *kept]
            with MemoryLedger(known, set()) as ledger:
                trainer.training_step(model, batch)
            peaks.append(before + ledger.peak)
    held = memory["weights"] + memory["adapters"] + memory["optimizer"]
    unseen = 0.12 if strategy == "qlora" and not has_bf16() else 0.06
    assert memory["training"] == pytest.approx(held + max(*peaks, memory["gradients"]), rel=unseen)
    assert memory["training"] - held == pytest.approx(max(*peaks, memory["gradients"]), rel=unseen)


def test_rows_put_together_by_length_are_planned_as_the_longest(recipe: Callable[..., Recipe]) -> None:
    drawn, grouped = (
        api.plan(recipe("full", training={"train_sampling_strategy": way}), device="cpu", measure=False).memory
        for way in ("random", "group_by_length")
    )
    assert grouped["activations"] > 1.05 * drawn["activations"]
    assert grouped["weights"] == drawn["weights"]


@pytest.mark.slow
def test_a_run_that_does_not_fit_is_told_what_would_make_it(recipe: Callable[..., Recipe]) -> None:
    made = recipe("full", task="instruction", training={"per_device_train_batch_size": 8})
    whole = api.plan(made, device="cpu", measure=False)
    assert api.plan(made, device="cpu", measure=False, vram=whole.needed / GIB).fits
    assert api.plan(made, device="cpu", measure=False, vram=whole.needed / GIB).remedies == []
    tight = api.plan(made, device="cpu", measure=False, vram=(whole.needed - 2**20) / GIB)
    assert not tight.fits
    assert [remedy.fits for remedy in tight.remedies] == [False] * (len(tight.remedies) - 1) + [True]
    none = api.plan(made, device="cpu", measure=False, vram=0.001)
    needs = [whole.needed, *(remedy.needed for remedy in none.remedies)]
    assert needs == sorted(needs, reverse=True)
    assert not any(remedy.fits for remedy in none.remedies)
    changes = " ".join(remedy.change for remedy in none.remedies)
    assert "training.per_device_train_batch_size=1 training.gradient_accumulation_steps=8" in changes
    assert "name: lora" in changes


@pytest.mark.slow
def test_what_a_remedy_promises_is_what_the_changed_recipe_takes(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    made = recipe("lora", task="instruction", kind="llama")
    file = tmp_path / "r.yaml"
    file.write_text(dump_recipe(made))
    keys: list[str] = []
    for remedy in api.plan(made, device="cpu", measure=False, vram=0.001).remedies:
        keys += [word for word in remedy.change.split() if "=" in word]
        if "max_length" not in remedy.change:  # shorter rows are other rows
            changed = api.plan(load_recipe(file, keys), device="cpu", measure=False)
            assert changed.memory["peak"] == pytest.approx(remedy.peak, rel=0.001)
        else:
            break
    assert keys


@pytest.mark.slow
def test_steps_and_tokens_are_those_of_the_run(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    training = {"max_steps": -1, "num_train_epochs": 2, "gradient_accumulation_steps": 3, "eval_strategy": "no"}
    made = recipe("lora", training=training, evaluation={"baseline": False, "general_text": False})
    plan = api.plan(made)
    result = api.train(made, output_dir=tmp_path / "run")
    assert plan.seconds is not None
    assert plan.measured is not None
    steps = plan.run["steps"] * plan.seconds["step"]
    assert 0 < steps <= plan.seconds["training"] == pytest.approx(plan.seconds["warm_up"] + steps, rel=0.01)
    planned = result.record["plan"]["peak_memory_bytes"]
    of_training = result.record["plan"]["training_peak_bytes"]
    assert of_training.keys() == planned.keys()
    assert planned == ({"gpu": plan.memory["peak"]} if torch.cuda.is_available() else {"process": plan.needed})
    assert f"planned {size_words(next(iter(of_training.values())))}" in (tmp_path / "run" / "report.html").read_text()
    facts = json.loads((tmp_path / "run" / "data_report.json").read_text())["splits"]["train"]
    assert plan.run == {"entries": facts["entries"], "epochs": 2, "steps": len(load_steps(result.folder)), "tokens": 2 * facts["tokens"]}  # fmt: skip
    saved = sum(file.stat().st_size for file in (tmp_path / "run" / "model").glob("*.safetensors"))
    assert plan.disk["model"] == pytest.approx(saved, rel=0.05)


def test_what_the_same_run_takes_is_found_at_once(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    made = recipe("lora")
    parts = build(made, tmp_path / "out", [])
    given = (parts.task, parts.config, parts.data, parts.trainer.settled)
    first = predicted_peaks(made, *given)
    monkeypatch.setattr(Planner, "estimate", lambda *_: pytest.fail("gone through again"))
    assert first
    assert predicted_peaks(made, *given) == first
    monkeypatch.setattr(Planner, "estimate", fails)
    assert predicted_peaks(recipe("lora", training={"per_device_train_batch_size": 5}), *given) is None
    assert predicted_peaks(made, *given[:3], Settled(False, False, False, False, True, True)) is None


def fails(*_: Any) -> None:
    raise RuntimeError("anew")


@pytest.mark.parametrize("held", ["safetensors", "other", "nothing"])
def test_a_base_rests_where_its_checkpoint_lets_it(
    recipe: Callable[..., Recipe], stand_in: Callable[[str], Path], tmp_path: Path, held: str
) -> None:
    folder = Path(shutil.copytree(stand_in("llama"), tmp_path / "model"))
    file = folder / "model.safetensors"
    if held == "other":
        torch.save(load_file(file), folder / "pytorch_model.bin")
    if held != "safetensors":
        file.unlink()
    made = recipe("lora", task="instruction", kind="llama", model={"name": str(folder)}, training={"bf16": True})
    plan = api.plan(made, device="cpu", measure=False)
    told = [note for note in plan.notes if note.startswith("the frozen base")]
    assert [("is taken to rest" in note, "stays in float32" in note) for note in told] == {
        "safetensors": [], "other": [(False, True)], "nothing": [(True, False)]
    }[held]  # fmt: skip
    if held != "nothing":
        parts = build(made, tmp_path / "out", [])
        assert (parts.trainer.resting is not None) == (held == "safetensors")
        take_step(parts, longest_batch(parts, 2), lambda tensor: tensor)
        assert plan.memory["weights"] + plan.memory["adapters"] == bytes_of_weights(parts.model)
    still = api.plan(made.model_copy(update={"strategy": recipe("full").strategy}), device="cpu", measure=False)
    assert not any(note.startswith("the frozen base") for note in still.notes)


def test_no_time_is_told_without_weights(tmp_path: Path) -> None:
    plan = planned("lora_distilbert", "distilbert", tmp_path)
    assert plan.seconds is None
    assert plan.measured is None
    assert any(note.startswith("no time is told: the data are not at hand") for note in plan.notes)


def test_the_model_folder_needs_weights_for_a_time(
    recipe: Callable[..., Recipe], stand_in: Callable[[str], Path], tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    shutil.copytree(stand_in("distilbert"), empty, ignore=shutil.ignore_patterns("*.safetensors"))
    made = recipe("lora", model={"name": str(empty)})
    assert "no time is told: the model's weights are not here" in api.plan(made, device="cpu").notes
    other = "cpu" if torch.cuda.is_available() else "cuda"
    assert any("no time is told: this machine's device is" in note for note in api.plan(recipe("lora"), device=other).notes)
    assert api.plan(recipe("lora"), device="cpu", measure=False).seconds is None


def test_the_forecast_follows_tokens_steps_and_evaluations(recipe: Callable[..., Recipe]) -> None:
    pace = Pace(longest=2.0, token=0.01, optimizer=0.5, evaluation=3.0, peak={}, steps=7, warm_up=1.5, padded=True)
    lengths = np.array([10, 30, 10, 30] * 4)
    training = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "max_steps": 8, "eval_strategy": "epoch",
                "train_sampling_strategy": "sequential"}  # fmt: skip
    found = forecast(pace, lengths, recipe("full", training=training), 8)
    assert found.step == pytest.approx(2 * 0.01 * 4 * 30 + 0.5)
    assert found.longest_step == pytest.approx(2 * 1.5 + 0.5)
    assert found.evaluation == 4 * 3.0  # two steps an epoch
    assert found.training == pytest.approx(1.5 + 8 * found.step + 12)
    grouped = forecast(pace, lengths, recipe("full", training=training | {"train_sampling_strategy": "group_by_length"}), 8)
    assert grouped.step == pytest.approx(2 * 0.01 * (4 * 10 + 4 * 30) / 2 + 0.5)
    steps = training | {"eval_strategy": "steps", "eval_steps": 3}
    assert forecast(pace, lengths, recipe("full", training=steps), 8).evaluation == 2 * 3.0


@pytest.mark.parametrize("batches", [1, 12, 200, 2000])
@pytest.mark.parametrize("tail", ["none", "long"])
def test_the_fullest_batch_is_that_of_so_many_drawn(batches: int, tail: str) -> None:
    draw = np.random.default_rng(1)
    lengths = draw.integers(5, 60, 4000)
    if tail == "long":
        lengths[:40] = 512
    epoch = len(lengths) // 8
    fullest = []
    for _ in range(5 if batches > epoch else 100):
        drawn = [draw.permutation(lengths).reshape(epoch, 8).sum(1) for _ in range(math.ceil(batches / epoch))]
        fullest.append(np.concatenate(drawn)[:batches].max())
    assert most_tokens(lengths, 8, batches) == pytest.approx(np.median(fullest), rel=0.1)


def test_the_fullest_batch_of_even_or_few_rows() -> None:
    assert most_tokens(np.full(100, 30), 8, 12) == 8 * 30
    assert most_tokens(np.array([10, 30]), 8, 12) == 8 * 20  # every batch has all there are


@pytest.mark.parametrize("unpadded", [True, False])
def test_the_pace_counts_what_is_computed(recipe: Callable[..., Recipe], unpadded: bool) -> None:
    assert measure_pace(recipe("lora", speed={"unpadded": unpadded}, training={"use_cpu": True})).padded != unpadded


def test_the_forecast_counts_no_padding_where_none_is_computed(recipe: Callable[..., Recipe]) -> None:
    pace = Pace(longest=2.0, token=0.01, optimizer=0.5, evaluation=0.0, peak={}, steps=7, warm_up=0.0, padded=False)
    training = {"per_device_train_batch_size": 4, "max_steps": 8}
    found = forecast(pace, np.array([10, 30, 10, 50] * 4), recipe("full", training=training), 8)
    assert found.step == pytest.approx(0.01 * (10 + 30 + 10 + 50) + 0.5)
    assert (computed_tokens(np.array([10, 30]), padded=True), computed_tokens(np.array([10, 30]), padded=False)) == (60, 40)


def test_the_pace_leaves_the_first_step_out() -> None:
    watch = Stopwatch()
    watch.steps, watch.optimizer = [9.0, 1.5, 2.5, 4.5, 1.5], [1.0, 0.5, 0.5, 0.5, 0.5]
    pace = pace_of(watch, [400, 100, 200, 400, 100, 100, 100, 100], 2.0, padded=True)
    assert (pace.longest, pace.token, pace.optimizer, pace.steps) == (4.5, 0.01, 0.5, 4)


def test_the_longest_rows_and_rows_as_they_come_are_measured() -> None:
    lengths = np.arange(1, 41)
    batches = chosen_rows(lengths, 4)
    assert [batch == [39, 38, 37, 36] for batch in batches] == list(ORDER)
    assert all(len(batch) == 4 for batch in chosen_rows(lengths[:3], 4))


@pytest.mark.slow
def test_what_is_planned_is_what_a_run_takes(shared: Path, tmp_path: Path) -> None:
    """In processes of their own, as by a user: memory within a tenth; of time only that it is told, for tests share a machine."""
    done = subprocess.run(
        [sys.executable, "benchmarks/plan_against_measured.py", "--shared", str(shared), "--output", str(tmp_path),
         "--only", "lora-encoder"], cwd=RECIPES.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    cells = done.stdout.splitlines()[-1].split("|")
    assert cells[1].strip() == "lora-encoder", done.stderr
    assert float(cells[4]) == pytest.approx(1, abs=0.1 if has_bf16() else 0.2)  # its constants are those of bfloat16
    assert float(cells[5]) > 0


def load_steps(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"vram": 0.0}, "0.0 GiB is no memory"),
        ({"vram": float("nan")}, "nan GiB is no memory"),
    ],
)
def test_refusals(recipe: Callable[..., Recipe], options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        api.plan(recipe("full"), **options)


def test_a_hub_id_that_is_not_in_the_cache_is_refused() -> None:
    with pytest.raises(UserError, match="'nobody/nothing' is no local path, is not in the cache"):
        api.plan(load_recipe(RECIPES / "lora_distilbert.yaml", ["model.name=nobody/nothing"]))


def test_the_arithmetic() -> None:
    matrix, embedding, vector = Learning((100, 200)), Learning((100, 200), embedding=True), Learning((100,))
    assert optimizer_bytes("adamw_torch", [matrix, vector]) == 8 * 20_100 + 2 * 4
    assert optimizer_bytes("sgd", [matrix]) == 0
    assert optimizer_bytes("adafactor", [matrix]) == 4 * (100 + 200 + 1)
    assert optimizer_bytes("adamw_8bit", [matrix]) == 2 * (20_000 + 4 * 79 + 4 * 256)
    assert optimizer_bytes("adamw_8bit", [embedding]) == optimizer_bytes("paged_adamw_32bit", [matrix]) == 8 * 20_000
    assert not knows_optimizer("galore_adamw")
    assert four_bit_bytes(4096 * 4096) / (4096 * 4096) == pytest.approx(0.516, abs=0.001)
    assert Peak(weights=10, optimizer=5, gradients=7, step=3).bytes == 22
    assert steps_of(entries=100, batch=8, accumulation=3, epochs=2, max_steps=-1) == 10
    assert steps_of(entries=100, batch=8, accumulation=3, epochs=2, max_steps=7) == 7
    assert [kept_checkpoints(s, 100, 30, 3, 2) for s in ("no", "epoch", "steps")] == [0, 3, 3]
    assert kept_checkpoints("steps", 100, 0.1, 3, None) == 10
