"""Training that diverges, and rows that make a loss no number: named where it happens, stopped, and never saved.

The kind: a run that goes on with weights or losses that mean nothing, saves them as its last good checkpoint, or names nobody.
"""

import html
import io
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from ftkit import Diverged, Recipe, train
from ftkit.reading import read_jsonl
from ftkit.recipe.load import load_values
from ftkit.report.summary import run_facts
from ftkit.run import Run, write_jsonl
from ftkit.training.checkpoints import is_whole, last_whole_checkpoint, step_of
from ftkit.training.divergence import PATIENCE, Divergence, Watch
from ftkit.training.learning import MOST_TRIES, record_rate
from ftkit.training.rates import rate_limit

RecipeMaker = Callable[..., Recipe]
Poisoned = Callable[..., dict[str, Any]]
FAST = {"general_text": False, "metrics": ["loss"]}
BAD = 29  # the row of the file whose loss is no number
SIGN = "\u03a9"  # that no other row has
RECORD = {
    "parameters": {"trainable": 1, "total": 2, "stored": 2, "trainable_percent": 50.0},
    "seconds": {"total": 1.0, "training": 1.0}, "peak_memory_bytes": {"CPU": 1},
}  # fmt: skip
SAVING = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 3}


@pytest.fixture(scope="module")
def poisoned(
    stand_in: Callable[[str], Path], reviews: Path, instructions: Path, tmp_path_factory: pytest.TempPathFactory
) -> Poisoned:
    """Model and data for a recipe: one row alone has a token whose embedding is infinite."""

    def make(kind: str, where: str = "train") -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("poisoned")
        rows = read_jsonl(reviews if kind == "distilbert" else instructions)[:72]
        field = "text" if kind == "distilbert" else "input"
        rows[BAD - 1][field] = f"{rows[BAD - 1].get(field) or ''} {SIGN}"
        other = {"train": "eval", "eval": "train"}[where]
        for name, chosen in ((where, rows[:48]), (other, rows[48:])):
            write_jsonl(folder / f"{kind}_{name}.jsonl", chosen)
        shutil.copytree(stand_in(kind), folder / "model")
        poison(folder / "model")
        data = {
            "train": str(folder / f"{kind}_train.jsonl"),
            "eval": str(folder / f"{kind}_eval.jsonl"),
            "gate": {"overlap": 1.0},
        }
        return {"model": {"name": str(folder / "model"), "max_length": 128}, "data": data}

    return make


def values_of(given: dict[str, Any], strategy: str = "full", **training: Any) -> dict[str, Any]:
    """A recipe's values for what was poisoned."""
    decoder = "llama" in given["data"]["train"]
    block = {"name": strategy, **({"r": 4, "target_modules": ["q_lin"]} if strategy == "lora" else {})}
    steps = {"max_steps": 8, "per_device_train_batch_size": 8, "learning_rate": 1e-3, "logging_steps": 1, **SAVING}
    evaluation = {"verify": False, "general_text": False, "metrics": ["loss"]}
    return {
        "task": "instruction" if decoder else "text-classification", "strategy": block, **given,
        "training": steps | training,
        "evaluation": evaluation | ({"generation": {"rows": 0}} if decoder else {}),
    }  # fmt: skip


def poison(model: Path) -> None:
    """Make the embedding of the sign infinite."""
    tokenizer, file = AutoTokenizer.from_pretrained(model), model / "model.safetensors"
    token = max(set(tokenizer(f"good {SIGN}")["input_ids"]) - set(tokenizer("good ")["input_ids"]))
    weights = load_file(file)
    name = next(name for name in weights if name.endswith(("word_embeddings.weight", "wte.weight", "embed_tokens.weight")))
    weights[name][token] = math.inf
    save_file(weights, file, {"format": "pt"})


def stopped(values: dict[str, Any], folder: Path) -> tuple[Diverged, Run]:
    with pytest.raises(Diverged) as caught:
        train(load_values(values), output_dir=folder)
    return caught.value, Run(folder)


WAYS = {
    "full in bfloat16": ("distilbert", "full", {"bf16": True}),
    "lora": ("distilbert", "lora", {}),
    "outputs of the frozen body": ("distilbert", "transfer", {}),
    "accumulated": ("distilbert", "full", {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}),
    "a decoder's supervised positions": ("llama", "full", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_the_row_that_makes_a_loss_no_number_is_named(poisoned: Poisoned, tmp_path: Path, way: str) -> None:
    kind, strategy, training = WAYS[way]
    error, run = stopped(values_of(poisoned(kind), strategy, **training), tmp_path / "run")
    (found,) = run.record["divergence"]
    assert found["rows"] == [f"{kind}_train.jsonl row {BAD}"]
    assert found["alone"]
    assert f"step {found['step']}: the loss is not a finite number (nan)" in str(error)
    assert f"{kind}_train.jsonl row {BAD}" in str(error)
    assert "leave out what is named" in error.hint
    last = last_whole_checkpoint(run.checkpoints)
    assert last is not None
    assert step_of(last) == found["checkpoint"] == found["step"] - 1
    assert (error.exit_status, error.resumes, run.state) == (3, False, "failed")
    assert run.record["error"].startswith("Diverged: step")


@pytest.mark.slow
def test_a_row_of_a_packed_block_is_named(poisoned: Poisoned, tmp_path: Path) -> None:
    given = poisoned("llama")
    given["data"]["packing"] = True
    _, run = stopped(values_of(given), tmp_path / "run")
    assert f"llama_train.jsonl row {BAD}" in run.record["divergence"][0]["rows"]


@pytest.mark.slow
@pytest.mark.parametrize("baseline", [True, False])
def test_an_eval_row_that_alone_has_no_loss_is_named(poisoned: Poisoned, tmp_path: Path, baseline: bool) -> None:
    values = values_of(poisoned("distilbert", "eval"), eval_strategy="steps", eval_steps=3)
    values["evaluation"]["baseline"] = baseline
    error, run = stopped(values, tmp_path / "run")
    where = "before training" if baseline else "step 3"
    assert f"{where}: the eval loss is not a finite number (nan); distilbert_eval.jsonl row {BAD}" in str(error)
    assert [found["checkpoint"] for found in run.record["divergence"]] == [None if baseline else 2]


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "rate"), [("full", 10.0), ("full", 1e6), ("lora", 1e6)])
def test_a_rate_beyond_sense_stops_at_the_step_and_leaves_no_bad_checkpoint(
    recipe: RecipeMaker, tmp_path: Path, strategy: str, rate: float, capsys: pytest.CaptureFixture[str]
) -> None:
    training = {"max_steps": 20, "learning_rate": rate, **SAVING}
    with pytest.raises(Diverged, match=r"^step [12]: .* lower training.learning_rate \(it is 1"):
        train(recipe(strategy, training=training, evaluation=FAST), output_dir=tmp_path / "run")
    assert last_whole_checkpoint(Run(tmp_path / "run").checkpoints) is None
    assert "is beyond any sense for adamw_torch" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_going_back_halves_the_rate_from_the_last_good_checkpoint(recipe: RecipeMaker, tmp_path: Path) -> None:
    # the rate climbs until it is too high in some step
    training = {"max_steps": 30, "learning_rate": 1.0, "warmup_steps": 40, "save_strategy": "steps", "save_steps": 1}
    made = {**SAVING, **training}
    with pytest.raises(Diverged) as caught:
        train(recipe("full", training=made, evaluation=FAST), output_dir=tmp_path / "run")
    run = Run(tmp_path / "run")
    good = run.record["divergence"][0]["checkpoint"]
    assert caught.value.resumes
    assert f"checkpoint-{good} is good and kept: go on from there" in caught.value.hint
    back = recipe("full", training={**made, "on_divergence": "rollback"}, evaluation=FAST)
    try:
        train(back, output_dir=run.folder, resume=True)
    except Diverged as error:
        assert not error.resumes  # noqa: PT017 half of it, three times, may still be too much
    assert run.record["resumed"] == [good]
    found = run.record["divergence"]
    assert [entry["learning_rate"] for entry in found] == [0.5**number for number in range(len(found))]
    rates = {event["step"]: event["learning_rate"] for event in read_jsonl(run.log_file) if "learning_rate" in event}
    last = max(rates)
    assert rates[last] == pytest.approx(0.5 ** min(len(found), MOST_TRIES) * last / 40, rel=0.05)
    for checkpoint in run.checkpoints.glob("checkpoint-*"):
        assert is_whole(checkpoint)
        assert all(bool(torch.isfinite(weight).all()) for weight in load_file(checkpoint / "model.safetensors").values())


@pytest.mark.slow
def test_without_a_checkpoint_it_goes_back_to_the_start(recipe: RecipeMaker, tmp_path: Path) -> None:
    training = {"max_steps": 6, "learning_rate": 10.0, "on_divergence": "rollback", "save_strategy": "no"}
    with pytest.raises(Diverged, match="start anew with --overwrite and a lower"):
        train(recipe("full", training=training, evaluation=FAST), output_dir=tmp_path / "run")
    assert len(Run(tmp_path / "run").record["divergence"]) == 1 + MOST_TRIES


@pytest.mark.slow
def test_a_run_that_went_back_says_its_rate_at_the_end(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads the recipe alone would take the weights for those of another rate."""
    follow, diverged = Watch.follow, list[int]()

    def diverge_once(self: Watch, step: int, loss: float, batches: list[dict[str, Any]]) -> None:
        if step == 3 and not diverged:
            diverged.append(step)
            raise Divergence(step, "loss", 1e9, batches, "far too high")
        follow(self, step, loss, batches)

    monkeypatch.setattr(Watch, "follow", diverge_once)
    training = {
        "max_steps": 4, "learning_rate": 4e-4, "lr_scheduler_type": "constant", "logging_steps": 1,
        "on_divergence": "rollback", **SAVING,
    }  # fmt: skip
    result = train(recipe("lora", training=training, evaluation=FAST), output_dir=tmp_path / "run")
    run = Run(result.folder)
    assert diverged == [3]
    assert run.record["lowered_rate"] == {"learning_rate": 2e-4, "recipe": 4e-4, "after_step": 2}
    rates = {event["step"]: event["learning_rate"] for event in read_jsonl(run.log_file) if "learning_rate" in event}
    assert (rates[2], rates[4]) == (4e-4, 2e-4)
    said = "0.0002 after step 2, in place of the recipe's 0.0004, with which the training diverged"
    shown = Console(width=300, file=io.StringIO())
    shown.print(result.table())
    assert said in shown.file.getvalue()  # type: ignore[attr-defined]
    assert f"- learning rate: {said}" in (run.folder / "model/README.md").read_text()
    assert said in html.unescape(run.report.read_text())


def test_a_run_that_is_resumed_says_since_when_it_has_the_lower_rate(recipe: RecipeMaker, tmp_path: Path) -> None:
    run, made = Run(tmp_path), recipe("lora", training={"learning_rate": 4e-4})
    for factor, step, since in ((0.5, 10, 10), (0.5, 50, 10), (0.25, 60, 60), (0.25, 50, 50)):
        record_rate(made, run, factor, tmp_path / f"checkpoint-{step}")
        assert run.record["lowered_rate"] == {"learning_rate": 4e-4 * factor, "recipe": 4e-4, "after_step": since}


def test_a_run_that_goes_on_at_the_rate_of_the_recipe_forgets_a_lower_one(recipe: RecipeMaker, tmp_path: Path) -> None:
    run, made = Run(tmp_path), recipe("lora", training={"learning_rate": 4e-4})
    run.update(divergence=[])
    record_rate(made, run, 0.25, None)
    assert run_facts(RECORD | run.record)["learning rate"].startswith("0.0001 from the start, in place of")
    record_rate(made, run, 1.0, None)
    assert run.record == {"divergence": []}
    assert "learning rate" not in run_facts(RECORD | run.record)


def watched() -> tuple[Watch, list[dict[str, float]]]:
    told: list[dict[str, float]] = []
    return Watch(None, told.append), told


def test_a_hundredfold_is_remarked_on_once_and_may_come_down(capsys: pytest.CaptureFixture[str]) -> None:
    watch, told = watched()
    for step, loss in enumerate((0.7, 3.0, 71.0, 20.0, 6.0, 72.0, 1.0), start=1):
        watch.follow(step, loss, [{}])
    assert told == [{"step": 3, "loss": 71.0, "start": 0.7}]
    assert "step 3: the loss is 71, 101 times what it was at the start (0.7)" in " ".join(capsys.readouterr().err.split())
    assert watch.risen is None


def test_a_loss_that_stays_up_ends_it() -> None:
    watch, _ = watched()
    first: dict[str, Any] = {"input_ids": torch.ones(1)}
    watch.follow(1, 0.7, [{}])
    watch.follow(2, 80.0, [first])
    for step in range(3, 2 + PATIENCE):
        watch.follow(step, 30.0, [{}])
    with pytest.raises(
        Divergence, match=r"step 7: the loss is 30, 43 times .* has not come down since it rose in step 2"
    ) as caught:
        watch.follow(2 + PATIENCE, 30.0, [{}])
    assert caught.value.batches == [first]


@pytest.mark.parametrize("losses", [(0.01, 0.7, 6.0, 0.6, *[0.7] * 9), (0.06, 2.5, 0.3, 8.0, 2.0, 2.4, 2.1, 1.9, 2.2, 2.3)])
def test_a_first_batch_that_was_an_easy_one_ends_nothing(losses: tuple[float, ...]) -> None:
    """Well again is also what the losses were before the rise."""
    watch, told = watched()
    for step, loss in enumerate(losses, start=1):
        watch.follow(step, loss, [{}])
    assert len(told) == 1
    assert watch.risen is None


@pytest.mark.parametrize(("untrained", "losses"), [
    ([], [*[0.7] * PATIENCE, 20.0, 60.0, 80.0, *[55.0] * PATIENCE]),
    ([0.8], [0.7, 20.0, 60.0, 85.0, *[55.0] * PATIENCE]),
])  # fmt: skip
def test_a_loss_that_crept_up_before_it_rose_is_not_well_at_that_height(untrained: list[float], losses: list[float]) -> None:
    watch, told = watched()
    watch.untrained = untrained
    *before, last = enumerate(losses, start=1)
    for step, loss in before:
        watch.follow(step, loss, [{}])
    with pytest.raises(Divergence, match="has not come down since it rose"):
        watch.follow(*last, [{}])
    assert len(told) == 1


def test_a_small_start_is_no_measure() -> None:
    watch, told = watched()
    for step, loss in enumerate((1e-6, 2.0, 1e-6), start=1):
        watch.follow(step, loss, [{}])
    assert told == []


@pytest.mark.parametrize("rate", [1e-5, 1e-3, 0.05])
@pytest.mark.parametrize("optim", ["adamw_torch", "lion_32bit", "adafactor", "adalomo"])
def test_usual_rates_draw_no_warning(optim: str, rate: float) -> None:
    assert all(rate < rate_limit(optim, strategy) for strategy in ("full", "lora", "qlora", "transfer"))
    assert rate_limit(optim, "transfer") > 0.3
    assert all(usual < rate_limit("sgd", "full") for usual in (0.1, 1.0))
    assert rate_limit("sgd", "transfer") > 30


@pytest.mark.parametrize("strategy", ["full", "lora", "qlora", "transfer"])
def test_rates_beyond_sense_do(strategy: str) -> None:
    assert all(rate_limit(optim, strategy) <= 10 for optim in ("adamw_torch", "adamw_torch_fused", "adagrad", "rmsprop"))
    assert rate_limit("sgd", strategy) <= 1e6
