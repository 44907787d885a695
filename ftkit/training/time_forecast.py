"""How long the training will take, told after its first steps: they are what is measured, and cost nothing."""

import math
import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ftkit.run import Run

FIRST = 5  # steps that are waited for, or
SHARE = 0.02  # this share of all, where that is more


class ForecastTime(TrainerCallback):
    """Writes the seconds of training as they look after the first steps into run.json, beside what else was planned.

    The first step warms up and does not count. Evaluations while training are taken to last as long as the first
    measuring of the eval rows did; without one, they are not in it. Nothing is told of a run that ends before.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.measured, self.warm, self.first_step = run, 0.0, 0.0, 0
        self.trained: Callable[[], float] = float  # gives the seconds of training so far, with those of earlier processes

    def on_predict(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if not self.measured and metrics:  # the baseline is the first that is measured
            self.measured = next((value for name, value in metrics.items() if name.endswith("_runtime")), 0.0)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.first_step = state.global_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        made, now = state.global_step - self.first_step, time.monotonic()
        if made == 1:
            self.warm = now
        if made == told_after(state.max_steps - self.first_step) and state.global_step < state.max_steps:
            self.tell(state, args, now, made)

    def tell(self, state: TrainerState, args: TrainingArguments, now: float, made: int) -> None:
        """Write the forecast."""
        step = (now - self.warm) / (made - 1)
        left = evaluations_left(state, args)
        seconds = self.trained() + step * (state.max_steps - state.global_step) + self.measured * left
        found = {"training": round(seconds, 3), "step": round(step, 4), "after_step": state.global_step}
        self.run.update(plan={**(self.run.record.get("plan") or {}), "seconds": found})


def told_after(steps: int) -> int:
    """After how many steps of so many the time is told."""
    return max(FIRST, math.ceil(SHARE * steps))


def evaluations_left(state: TrainerState, args: TrainingArguments) -> int:
    """How often the eval rows will still be measured while training."""
    if args.eval_strategy == "no":
        return 0
    if args.eval_strategy == "epoch":
        return math.ceil(state.num_train_epochs) - math.floor(state.epoch or 0)
    every = max(1, state.eval_steps)
    return int(state.max_steps // every - state.global_step // every)
