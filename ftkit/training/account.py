"""What a run took, over all the processes that it went on in: time, peaks, energy and rows of each, and what they come to.

A checkpoint carries the account as it stood when it was written, as it carries the Trainer's state. So a process that is
killed counts up to the checkpoint that another goes on from, and no step counts twice. What a process that goes on does
before its first step, loading and passing over rows, is told apart: the other sums are those of an unbroken run.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ftkit.models.frozen import FROZEN
from ftkit.reading import read_objects
from ftkit.run import Run, now, write_json
from ftkit.training.checkpoints import is_fresh, keep_copies, sparing
from ftkit.training.energy import EnergyMeter
from ftkit.training.memory import peak_memory_bytes, peak_now
from ftkit.training.micro_batches import count_rows

FILE = "ftkit_parts.json"  # of a checkpoint
Part = dict[str, Any]
Batch = dict[str, Any]


class Account(TrainerCallback):
    """Keeps `parts` in run.json: a process each, with its steps, `seconds`, peaks, `energy_joules`, and what it learnt from.

    It is made when the process begins, and comes before whatever seals checkpoints.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.began = run, now()
        self.started, self.meter = time.monotonic(), EnergyMeter()
        self.training_started: float | None = None
        self.training_seconds = 0.0  # once it has ended
        self.training_meter: EnergyMeter | None = None
        self.training_joules: dict[str, float] = {}
        self.ended = False
        self.earlier: list[Part] = []
        self.first = 0
        self.goes_on = False  # from a checkpoint, and has made no step yet
        self.resuming: Part | None = None
        self.training_peak: dict[str, int] = {}
        self.trained_on: Counter[str] = Counter()
        self.in_hand: Counter[str] = Counter()  # of the step that is not made yet
        self.at: dict[int, Counter[str]] = {}  # what it had trained on by the steps that training may go back to

    def go_on(self, checkpoint: Path, step: int) -> None:
        """Add this process to those that led to the checkpoint."""
        file = checkpoint / FILE  # absent from checkpoints of an earlier version
        self.earlier = read_objects(file) if file.is_file() else []
        self.first, self.goes_on = step, True

    def start_training(self) -> None:
        self.training_started, self.training_meter = time.monotonic(), EnergyMeter()

    def take_up(self) -> None:
        """The process does now what is new: what it has taken so far was for going on."""
        if self.goes_on:
            self.goes_on = False
            self.resuming = {"seconds": since(self.started), "energy_joules": self.meter.joules()}
            self.started, self.meter = time.monotonic(), EnergyMeter()
            self.start_training()

    def end_training(self, peak: dict[str, int]) -> None:
        """Training is over, or was passed by; `peak` is its own."""
        self.take_up()
        self.training_joules = self.joules_of_training()
        self.training_seconds, self.ended, self.training_peak = self.trained_here(), True, peak

    def trained(self) -> float:
        """Seconds that the run has trained so far, in all its processes."""
        return sum_of([part["seconds"]["training"] for part in self.earlier]) + self.trained_here()

    def trained_here(self) -> float:
        """Seconds that this process has trained so far."""
        if self.ended:
            return self.training_seconds
        if self.training_started is None or self.goes_on:
            return 0.0
        return time.monotonic() - self.training_started

    def joules_of_training(self) -> dict[str, float]:
        """What this process has trained with so far, by place."""
        return self.training_joules if self.ended or self.training_meter is None else self.training_meter.joules()

    def take(self, batches: Sequence[Batch], weights: Sequence[int]) -> None:
        """The batches of the next step, which count when it is made; `weights` says what each mean loss is a mean of."""
        self.in_hand = Counter()
        for batch, weight in zip(batches, weights, strict=True):
            self.in_hand.update(contents(batch, weight))

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.trained_on = Counter(self.at.get(state.global_step, Counter()))  # training that diverged goes back

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.take_up()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.trained_on.update(self.in_hand)
        self.in_hand = Counter()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        checkpoint = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
        if not (state.is_world_process_zero and is_fresh(checkpoint)):
            return
        with sparing(checkpoint, ends=control.should_training_stop):
            self.training_peak = peak_now()
            self.at[state.global_step] = Counter(self.trained_on)
            parts = self.parts(state.global_step)
            write_json(checkpoint / FILE, parts)
            self.run.update(parts=parts)
            self.run.settle()  # what leads to a whole checkpoint is written down
            keep_copies(self.run, checkpoint)

    def parts(self, step: int) -> list[Part]:
        """All processes, this one as far as it has come."""
        return [*self.earlier, {
            "started": self.began, "from_step": self.first, "to_step": step, "trained": dict(self.trained_on),
            "seconds": {"training": round(self.trained_here(), 3), "total": since(self.started)},
            **({"resuming": self.resuming} if self.resuming else {}),
            "peak_memory_bytes": peak_memory_bytes(), "training_peak_bytes": self.training_peak,
            "energy_joules": self.meter.joules(), "training_energy_joules": self.joules_of_training(),
        }]  # fmt: skip

    def close(self, state: TrainerState) -> None:
        """Write into run.json what the run took."""
        found = totals(parts := self.parts(state.global_step))
        found["trained"] |= {"steps": state.global_step, "epochs": state.epoch, "operations": int(state.total_flos)}
        self.run.update(**found, parts=parts)


def contents(batch: Batch, weight: int) -> dict[str, int]:
    """What a batch holds: `rows`, or examples where they are packed, `tokens` without padding, of them `supervised_tokens`.

    Tokens are left out where the batch does not tell, as where what the frozen body gives for them stands in their place.

    Args:
        weight: what its mean loss is a mean of, as `weight_of` counts it.
    """
    labels, ids, mask, places = (batch.get(name) for name in ("labels", "input_ids", "attention_mask", "position_ids"))
    if mask is None and isinstance(places, torch.Tensor):  # packed; padding has position 0 too
        second = int((places == 1).sum())
        found = {"rows": second, "tokens": second + int((places > 0).sum())}
    else:
        found = {"rows": count_rows(batch) if isinstance(labels, torch.Tensor) else len(ids) if ids is not None else 0}
        if isinstance(mask, torch.Tensor) and FROZEN not in batch:
            found["tokens"] = int(mask.sum())
    if "tokens" in found and isinstance(labels, torch.Tensor) and labels.dim() == 2 and not labels.is_floating_point():
        found["supervised_tokens"] = weight
    return found


def totals(parts: list[Part]) -> dict[str, Any]:
    """What the parts come to, in the words of run.json: sums, and of peaks the highest."""
    found = {
        "seconds": joined([part["seconds"] for part in parts], sum_of),
        "peak_memory_bytes": joined([part["peak_memory_bytes"] for part in parts], max),
        "training_peak_bytes": joined([part["training_peak_bytes"] for part in parts], max),
        "energy_joules": told_by_all([part["energy_joules"] for part in parts]),
        "training_energy_joules": told_by_all([part.get("training_energy_joules", {}) for part in parts]),
        "trained": trained_in(parts),
    }
    if again := [part["resuming"] for part in parts if "resuming" in part]:
        joules = told_by_all([one["energy_joules"] for one in again])
        found["resuming"] = {"seconds": sum_of([one["seconds"] for one in again]), "energy_joules": joules}
    return found


def trained_in(parts: list[Part]) -> dict[str, Any]:
    """What all steps took; nothing where some were made by an earlier version, which did not count."""
    if parts[0]["from_step"] > 0:
        return {}
    return told_by_all([part.get("trained", {}) for part in parts if part["to_step"] > part["from_step"]])


def joined(found: list[dict[str, Any]], how: Callable[[list[Any]], Any]) -> dict[str, Any]:
    """Values by name, made of those that have the name."""
    names = dict.fromkeys(name for one in found for name in one)
    return {name: how([one[name] for one in found if name in one]) for name in names}


def told_by_all(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums by name; where one part does not tell, the sum is not known."""
    return {name: value for name, value in joined(found, sum_of).items() if all(name in one for one in found)}


def sum_of(values: list[float]) -> float:
    return round(sum(values), 3)


def since(moment: float) -> float:
    """Seconds since then, by time.monotonic."""
    return round(time.monotonic() - moment, 3)
