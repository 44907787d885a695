"""A run that was broken off four times beside the same run unbroken: what it trained on, measured and says of it is the same.

Kind: a count that takes steps twice or loses some, an evaluation that was due at the step of a signal, time spent on loading
and on passing over rows that is shown as training.
"""

import math
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ftkit import Interrupted, Recipe, api, compare, train
from ftkit.data.samples.table import generate
from ftkit.reading import read_jsonl
from ftkit.recipe.load import load_values
from ftkit.report.evidence import read_evidence
from ftkit.report.page import cost
from ftkit.run import Run, resolved_values, write_jsonl
from ftkit.training import callbacks, divergence, energy
from ftkit.training.callbacks import StopOnSignal
from ftkit.training.checkpoints import kept_of, last_whole_checkpoint, make_place

RecipeMaker = Callable[..., Recipe]
STEPS = 24
TRAINING = {
    "max_steps": STEPS, "per_device_train_batch_size": 4, "logging_steps": 1, "seed": 1, "save_strategy": "steps", "save_steps": 6,
    "eval_strategy": "steps", "eval_steps": 4,
}  # fmt: skip
QUICK = {"general_text": False, "baseline": False}
CASES: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "full": (("full",), {}),
    "epochs": (("full",), {"training": {"eval_strategy": "epoch", "eval_steps": None, "num_train_epochs": 3, "max_steps": -1, "per_device_train_batch_size": 13}}),
    "accumulated": (("lora",), {"training": {"gradient_accumulation_steps": 3, "per_device_train_batch_size": 2}}),
    "kept outputs": (("transfer",), {"training": {"train_sampling_strategy": "group_by_length", "per_device_train_batch_size": 13}}),
    "packed": (("lora",), {"task": "instruction", "data": {"packing": True}, "evaluation": {"generation": {"rows": 2, "max_new_tokens": 2}}}),
    "streamed": (("full",), {}),
    "rolled back": (("full",), {"training": {"on_divergence": "rollback"}}),
}  # fmt: skip


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor's counter of energy that goes up by ten watts."""
    monkeypatch.setattr(energy, "packages", lambda _: {"processor 0": (10 * time.monotonic(), 1e9)})


class Killed(BaseException):
    """What ends a process at once, for one that is to live on."""


@contextmanager
def ending(step: int, how: int | None) -> Iterator[None]:
    """Inside the block training ends at a step, by a signal or as by kill -9."""
    with pytest.MonkeyPatch.context() as patch:
        plain = StopOnSignal.on_step_end

        def on_step_end(self: Any, args: Any, state: Any, control: Any, **named: Any) -> None:
            if state.global_step == step:
                if how is None:
                    raise Killed
                os.kill(os.getpid(), how)
                time.sleep(0.01)
            plain(self, args, state, control, **named)

        patch.setattr(callbacks.StopOnSignal, "on_step_end", on_step_end)
        with pytest.raises(Killed if how is None else Interrupted):
            yield


@contextmanager
def diverging(step: int) -> Iterator[None]:
    """Inside the block the loss of a step is no number, when it is made with the whole rate."""
    with pytest.MonkeyPatch.context() as patch:
        plain = divergence.Watch.saw

        def saw(self: Any, batch: Any, loss: Any) -> None:
            rate = self.trainer.optimizer.param_groups[0].get("initial_lr", 0)
            first = self.trainer.state.global_step + 1 == step and rate == self.trainer.args.learning_rate and not seen
            if first:
                seen.append(step)
            plain(self, batch, loss * math.nan if first else loss)

        seen: list[int] = []
        patch.setattr(divergence.Watch, "saw", saw)
        yield


def broken_off(made: Recipe, folder: Path) -> Run:
    """The run after Ctrl-C, kill -9 between checkpoints, SIGTERM at a step with an evaluation, and kill -9 after the last step."""
    with ending(5, signal.SIGINT):
        train(made, output_dir=folder)
    with ending(14, None):
        train(made, output_dir=folder, resume=True)
    with ending(16, signal.SIGTERM):
        train(made, output_dir=folder, resume=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "save_and_measure", killed)
        with pytest.raises(Killed):
            train(made, output_dir=folder, resume=True)
    train(made, output_dir=folder, resume=True)
    return Run(folder)


def streamed(made: Recipe, rows: Path) -> Recipe:
    """The recipe with a stream of its training rows, and eval rows in a file."""
    write_jsonl(rows, generate("sentiment", rows=20, split="eval", seed=2))
    values = resolved_values(made)
    values["data"] = {"train": made.data.train[0].path, "eval": str(rows), "streaming": True}
    return load_values(values)


def killed(*_: Any) -> None:
    raise Killed


def logged(run: Run, name: str) -> dict[int, Any]:
    """Values of the log by step, each of which must stand there once."""
    found = [(event["step"], event[name]) for event in read_jsonl(run.log_file) if name in event]
    assert len(found) == len(dict(found)), found
    return dict(found)


@pytest.mark.slow
@pytest.mark.usefixtures("power")
@pytest.mark.parametrize("case", CASES)
def test_a_run_broken_off_is_the_unbroken_one(recipe: RecipeMaker, tmp_path: Path, case: str) -> None:
    words, blocks = CASES[case]
    blocks = {
        **blocks,
        "training": {**TRAINING, **blocks.get("training", {})},
        "evaluation": {**QUICK, **blocks.get("evaluation", {})},
    }
    made = recipe(*words, **blocks)
    if case == "streamed":
        made = streamed(made, tmp_path / "eval.jsonl")
    with diverging(9 if case == "rolled back" else -1):
        whole = Run(train(made, output_dir=tmp_path / "whole").folder)
    with diverging(9 if case == "rolled back" else -1):
        broken = broken_off(made, tmp_path / "broken")
    ours, plain = broken.record, whole.record
    assert ours["trained"] == plain["trained"]
    assert ours["trained"]["steps"] == STEPS
    assert ours["trained"]["rows"] > 0
    assert ("tokens" in ours["trained"]) is (case != "kept outputs")
    assert [(part["from_step"], part["to_step"]) for part in ours["parts"]] == [
        (0, 5),
        (5, 12),
        (12, 16),
        (16, 24),
        (24, 24),
    ]
    for name in ("loss", "eval_loss"):
        assert logged(broken, name) == pytest.approx(logged(whole, name), rel=1e-5)
    told, unbroken = cost(read_evidence(broken)), cost(read_evidence(whole))
    assert all(told[name] == unbroken[name] for name in ("steps", "tokens", "computation") if name in unbroken)
    assert "going on" in told
    assert "going on" not in unbroken
    times_and_energy_add_up(ours)
    assert compare([broken.folder]).entries[0].seconds == ours["seconds"]["total"]


def times_and_energy_add_up(record: dict[str, Any]) -> None:
    """What counts is what was taken beside going on; at ten watts."""
    parts = record["parts"]
    assert ["resuming" in part for part in parts] == [False, True, True, True, True]
    assert record["resuming"]["seconds"] == pytest.approx(sum(part["resuming"]["seconds"] for part in parts[1:]), abs=1e-6)
    for joules, seconds in [
        (record["energy_joules"], record["seconds"]["total"]),
        (record["training_energy_joules"], record["seconds"]["training"]),
        (record["resuming"]["energy_joules"], record["resuming"]["seconds"]),
    ]:
        assert joules["processor"] == pytest.approx(10 * seconds, rel=0.1, abs=2)


def test_a_checkpoint_that_is_written_again_is_kept_until_that_is_whole(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sends a signal may kill the process while the eval rows are measured, or what is saved behind them is written."""
    made, saved = recipe("full", training={**TRAINING, "save_steps": 12}, evaluation=QUICK), list[Path]()
    plain = callbacks.seal

    def killed_before_the_second(checkpoint: Path) -> None:
        saved.append(checkpoint)
        if len(saved) == 2:
            (checkpoint / "model.safetensors").write_bytes(b"half")
            raise Killed
        plain(checkpoint)

    monkeypatch.setattr(callbacks, "seal", killed_before_the_second)
    with pytest.raises(Killed), ending(8, signal.SIGTERM):
        train(made, output_dir=tmp_path / "run")
    assert len(saved) == 2
    checkpoint = last_whole_checkpoint(tmp_path / "run/checkpoints")
    assert checkpoint is not None
    assert checkpoint.name == "checkpoint-8"
    assert {path.name for path in checkpoint.parent.glob("*checkpoint-*")} == {"checkpoint-8", "damaged-checkpoint-8"}
    plain(checkpoint)  # once what takes its place is whole, none is kept
    make_place(checkpoint)
    shutil.copytree(kept_of(checkpoint), checkpoint)
    plain(checkpoint)
    assert [path.name for path in checkpoint.parent.glob("*checkpoint-*")] == ["checkpoint-8"]


@pytest.mark.slow
def test_loading_and_passing_over_rows_is_no_training(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe("full", training=TRAINING, evaluation=QUICK)
    with ending(20, signal.SIGINT):
        train(made, output_dir=tmp_path / "run")
    plain = api.learn

    def slow_to_load(*arguments: Any, **named: Any) -> None:
        time.sleep(3)
        plain(*arguments, **named)

    monkeypatch.setattr(api, "learn", slow_to_load)
    train(made, output_dir=tmp_path / "run", resume=True)
    run = Run(tmp_path / "run")
    (first, second), record = run.record["parts"], run.record
    assert second["resuming"]["seconds"] > 3
    assert second["seconds"]["training"] < 2 + first["seconds"]["training"]
    assert record["seconds"]["total"] == pytest.approx(first["seconds"]["total"] + second["seconds"]["total"], abs=1e-6)
    seconds = [event["seconds"] for event in read_jsonl(run.log_file)]
    assert seconds == sorted(seconds)
    assert seconds[-1] <= record["seconds"]["training"]
