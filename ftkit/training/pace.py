"""How fast a recipe trains on this machine: a few steps of its own Trainer, on the longest rows and on rows as they come."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ftkit.recipe.schema import Recipe
from ftkit.scratch import scratch
from ftkit.training.dispatcher import Parts, build
from ftkit.training.memory import peak_memory_bytes

LONGEST, DRAWN = True, False
ORDER = (LONGEST, DRAWN, DRAWN, LONGEST, DRAWN, DRAWN, DRAWN, DRAWN)  # which rows a step takes; the first warms up
ENOUGH = 4  # steps after which a slow machine has shown it
PATIENCE = 60.0  # seconds after which no further step begins
SEED = 0
ALONE: dict[str, Any] = {  # what a step is measured without
    "gradient_accumulation_steps": 1, "num_train_epochs": 1, "max_steps": len(ORDER), "save_strategy": "no",
    "eval_strategy": "no", "eval_on_start": False, "load_best_model_at_end": False, "logging_strategy": "no",
    "report_to": "none", "train_sampling_strategy": "sequential",
}  # fmt: skip


@dataclass(frozen=True)
class Pace:
    """Seconds as measured, of steps of one micro-batch each.

    Attributes:
        longest: a step on the longest rows.
        token: a token of rows as they come, forward and backward.
        optimizer: the optimizer's own part of a step.
        evaluation: the eval rows once.
        peak: bytes of memory at the peak, by place.
        steps: how many were measured.
        warm_up: how much longer the first step took than another on the same rows.
        padded: whether padding is computed too, and counted as tokens.
    """

    longest: float
    token: float
    optimizer: float
    evaluation: float
    peak: dict[str, int]
    steps: int
    warm_up: float
    padded: bool


@dataclass(frozen=True)
class Forecast:
    """What the pace comes to over a whole run, in seconds: warming up, a step on average, evaluations, all of training."""

    warm_up: float
    step: float
    longest_step: float
    evaluation: float
    training: float

    def as_json(self) -> dict[str, float]:
        return {name: round(value, 4) for name, value in asdict(self).items()}


class Stopwatch(TrainerCallback):
    """The seconds of each step, and of these the optimizer's."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.optimizer: list[float] = []
        self.started = self.began = self.backward = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.started = self.began = time.monotonic()

    def on_pre_optimizer_step(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.backward = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        now = time.monotonic()
        self.steps.append(now - self.began)  # with the collating before it
        self.optimizer.append(now - self.backward)
        self.began = now
        if len(self.steps) >= ENOUGH and now - self.started > PATIENCE:
            control.should_training_stop = True


def measure_pace(recipe: Recipe) -> Pace:
    """Load the model and train it for a few steps that nobody keeps.

    Raises:
        UserError: the recipe does not fit its data, its model or this machine.
    """
    alone = recipe.model_copy(update={"training": recipe.training.model_copy(update=ALONE)})
    watch = Stopwatch()
    with scratch() as folder:
        parts = build(alone, Path(folder) / "checkpoints", [watch])
        trainer, lengths = parts.trainer, parts.data.facts["train"].lengths
        batches = chosen_rows(lengths, trainer.args.train_batch_size)
        trainer.train_dataset = parts.data.encoded["train"].dataset.select([row for batch in batches for row in batch])
        trainer.train()
        evaluation = evaluation_seconds(parts)
    padded = not trainer.settled.unpads
    return pace_of(watch, [computed_tokens(lengths[batch], padded=padded) for batch in batches], evaluation, padded=padded)


def chosen_rows(lengths: np.ndarray, size: int) -> list[list[int]]:
    """The rows of each step in the order of `ORDER`; a step takes `size`, again and again the same where there are fewer."""
    longest = np.resize(np.argsort(-lengths, kind="stable")[:size], size).tolist()
    drawn = iter(np.resize(np.random.default_rng(SEED).permutation(len(lengths)), size * len(ORDER)).reshape(-1, size))
    return [longest if kind == LONGEST else next(drawn).tolist() for kind in ORDER]


def pace_of(watch: Stopwatch, tokens: Sequence[int], evaluation: float, *, padded: bool) -> Pace:
    """The pace from the steps that were made; the first of them only tells what warming up takes.

    Args:
        tokens: that each step computes.
        padded: whether padding is among them.
    """
    made = list(zip(ORDER, tokens, watch.steps, watch.optimizer, strict=False))[1:]
    optimizer = float(np.median([after for *_, after in made]))
    drawn = [(count, seconds - after) for kind, count, seconds, after in made if kind == DRAWN]
    longest = float(np.median([seconds for kind, _, seconds, _ in made if kind == LONGEST]))
    rate = float(np.median([seconds / count for count, seconds in drawn]))
    warm_up = max(0.0, watch.steps[0] - longest)
    return Pace(longest, rate, optimizer, evaluation, peak_memory_bytes(), len(made), warm_up, padded)


def evaluation_seconds(parts: Parts) -> float:
    """What measuring all eval rows takes, from one batch of them."""
    rows, size = parts.data.encoded["eval"].dataset, parts.trainer.args.eval_batch_size
    sample = rows.select(range(min(size, len(rows))))
    started = time.monotonic()
    parts.trainer.evaluate(sample)
    return (time.monotonic() - started) * len(rows) / len(sample)


def forecast(pace: Pace, lengths: np.ndarray, recipe: Recipe, steps: int) -> Forecast:
    """The time of a run of so many steps on rows of these lengths."""
    training = recipe.training
    rows, sampling = training.per_device_train_batch_size, str(training.train_sampling_strategy)
    micro = mean_tokens(lengths, rows, sampling, padded=pace.padded)
    step = training.gradient_accumulation_steps * pace.token * micro + pace.optimizer
    longest = training.gradient_accumulation_steps * (pace.longest - pace.optimizer) + pace.optimizer
    evaluation = pace.evaluation * evaluations(recipe, steps, len(lengths))
    return Forecast(pace.warm_up, step, longest, evaluation, pace.warm_up + steps * step + evaluation)


def mean_tokens(lengths: np.ndarray, size: int, sampling: str, *, padded: bool) -> float:
    """Tokens that a batch computes on average, each row padded to the longest of its batch where padding is computed."""
    if sampling == "random":
        lengths = np.random.default_rng(SEED).permutation(lengths)
    elif sampling != "sequential":  # the others put rows of like length together
        lengths = np.sort(lengths)
    batches = [lengths[start : start + size] for start in range(0, len(lengths), size)]
    return float(np.mean([computed_tokens(batch, padded=padded) for batch in batches]))


def computed_tokens(lengths: np.ndarray, *, padded: bool) -> int:
    """Of a batch of so long rows."""
    return int(len(lengths) * lengths.max() if padded else lengths.sum())


def evaluations(recipe: Recipe, steps: int, entries: int) -> int:
    """How often the eval rows are measured while training."""
    training = recipe.training
    if training.eval_strategy == "no":
        return 0
    batch = training.per_device_train_batch_size * training.gradient_accumulation_steps
    if training.eval_strategy == "epoch":
        return round(steps / max(1, int(np.ceil(entries / batch))))
    every = training.eval_steps or training.logging_steps
    return int(steps // (every if every >= 1 else max(1, np.ceil(every * steps))))
