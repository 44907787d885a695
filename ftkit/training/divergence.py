"""Training that diverges: noticed at the step where it happens, before the weights take it up, and never saved.

Each batch's loss and each step's gradient norm must be numbers. A loss that rises a hundredfold over its start draws a
remark; where it stays up, or rises beyond all measure, training ends too. Before a checkpoint is
written the weights that learn are looked at, and the step's last batch is asked again: so the last whole checkpoint is good.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ftkit import console
from ftkit.training.micro_batches import weight_of

REMARK, BACK, BEYOND = 100.0, 10.0, 1e4  # times the loss at the start: what is remarked on, what is well again, what ends it
PATIENCE = 5  # steps in which a loss that rose may come down again
LEAST = 0.05  # a start below this counts as this: a hundredfold of next to nothing is nothing
LOSS, NORM, WEIGHTS, EVAL = "loss", "gradient norm", "weights", "eval loss"
Batch = dict[str, Any]


class Divergence(Exception):
    """What was found in a step.

    Attributes:
        step: counted from 1; 0 is before training.
        what: of LOSS, NORM, WEIGHTS, EVAL.
        value: of it; a finite loss is one that rose too far.
        batches: what the step computed, as the model takes it; of a loss that did not come down, the step at which it rose.
        rise: where the value is finite, how far it rose, in words.
    """

    def __init__(self, step: int, what: str, value: float, batches: list[Batch], rise: str = "") -> None:
        self.step, self.what, self.value, self.batches, self.rise = step, what, value, batches, rise
        super().__init__(self.words)

    @property
    def words(self) -> str:
        """What happened, without the rows."""
        where = f"step {self.step:,}" if self.step else "before training"
        if math.isfinite(self.value):
            return f"{where}: the loss is {self.rise}: the training diverged"
        if self.what == WEIGHTS:
            return f"{where}: weights that learn are no longer finite numbers: the training diverged"
        return f"{where}: the {self.what} is not a finite number ({self.value})"


def rise_words(loss: float, start: float) -> str:
    return f"{loss:.4g}, {loss / start:,.0f} times what it was at the start ({start:.4g})"


class Watch(TrainerCallback):
    """Looks at every step of a Trainer, which asks it (`saw`, `saw_norm`) before the weights change.

    Args:
        tell: is told of a loss that rose a hundredfold, once.
    """

    def __init__(self, trainer: Any, tell: Callable[[dict[str, float]], None]) -> None:
        self.trainer, self.tell = trainer, tell
        self.start: float | None = None
        self.untrained: list[float] = []  # losses of the batches that were measured before the first step
        self.first: list[float] = []  # losses of the first steps, until one rose
        self.risen: tuple[int, list[Batch]] | None = None  # the step at which the loss rose, until it came down again
        self.told = False
        self.broken: set[str] | None = None  # weights that were no finite numbers before the first step
        self.loss = 0.0
        self.batches: list[Batch] = []

    def saw(self, batch: Batch, loss: torch.Tensor) -> None:
        """A batch of the present step, and its share of the step's loss.

        Raises:
            Divergence: it is not a finite number.
        """
        value = float(loss)
        self.batches.append(batch)
        self.loss += value
        if not math.isfinite(value):
            raise Divergence(self.trainer.state.global_step + 1, LOSS, value, [batch])

    def saw_norm(self, norm: Any) -> None:
        """The norm of the step's gradients; with float16 the scaler passes over steps in which they are infinite.

        Raises:
            Divergence: it is not a finite number.
        """
        if norm is not None and self.trainer.accelerator.scaler is None and not math.isfinite(value := float(norm)):
            raise Divergence(self.trainer.state.global_step + 1, NORM, value, self.batches)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.risen, self.loss, self.batches = None, 0.0, []
        if self.broken is None:
            self.broken = self.broken_weights()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        loss, batches = self.loss, self.batches
        self.loss, self.batches = 0.0, []
        if not batches:
            return
        self.follow(state.global_step, loss, batches)
        last = state.global_step >= state.max_steps
        if control.should_save or last or saves_at_epoch(args, state):
            self.ask_again(state.global_step, batches[-1])
        if self.risen is not None and last and self.risen[0] < state.global_step:  # else what is measured next tells
            raise self.grown(state.global_step, loss, batches)
        if self.risen is not None:
            control.should_save = False

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.risen is not None:
            control.should_save = False

    def saw_measured(self, batch: Batch, loss: torch.Tensor) -> None:
        """A batch that is measured and not learnt.

        Raises:
            Divergence: its loss is not a finite number, and something in it is supervised.
        """
        value = float(loss)
        if not math.isfinite(value) and weight_of(batch, shifted=self.trainer.decoder):
            raise Divergence(self.trainer.state.global_step, EVAL, value, [batch])
        if self.start is None and math.isfinite(value):
            self.untrained.append(value)

    def follow(self, step: int, loss: float, batches: list[Batch]) -> None:
        """Hold a step's loss to that of the start: of the first step, or of the eval rows where theirs is higher.

        One batch alone may be an easy one, and then any other would look like a rise: where no rows were measured before
        training, a loss as high as one of the first steps is well again.

        Raises:
            Divergence: it rose beyond all measure, or has not come down again.
        """
        if self.start is None:
            self.start = max(loss, LEAST, sum(self.untrained) / max(1, len(self.untrained)))
        usual = max([BACK * self.start, *([] if self.untrained else self.first)])
        if self.risen is not None and loss <= usual:
            self.risen = None
        if loss > BEYOND * self.start or (self.risen is not None and step - self.risen[0] >= PATIENCE):
            raise self.grown(step, loss, batches)
        if self.risen is None and loss > REMARK * self.start:
            self.risen = step, batches
            self.remark(step, loss)
        if self.risen is None and len(self.first) < PATIENCE:
            self.first.append(loss)

    def grown(self, step: int, loss: float, batches: list[Batch]) -> Divergence:
        """Of a loss that rose too far, or in an earlier step and did not come down."""
        words = rise_words(loss, self.start or LEAST)
        if self.risen is None or self.risen[0] == step:
            return Divergence(step, LOSS, loss, batches, words)
        words += f", and has not come down since it rose in step {self.risen[0]:,}"
        return Divergence(step, LOSS, loss, self.risen[1], words)

    def remark(self, step: int, loss: float) -> None:
        if not self.told:
            self.told = True
            words = rise_words(loss, self.start or LEAST)
            console.warn(f"step {step:,}: the loss is {words}; no checkpoint is written until it comes down")
            self.tell({"step": step, "loss": loss, "start": self.start or LEAST})

    def ask_again(self, step: int, batch: Batch) -> None:
        """Look at the weights as they are after a step, and at the loss that they give for its last batch.

        Raises:
            Divergence: one of them is not a finite number, or the loss rose beyond all measure.
        """
        if self.broken_weights() - (self.broken or set()):
            raise Divergence(step, WEIGHTS, math.nan, [batch])
        value = loss_of(self.trainer, batch)
        if not math.isfinite(value):
            raise Divergence(step, LOSS, value, [batch])
        self.follow(step, value, [batch])

    def broken_weights(self) -> set[str]:
        """Weights that learn and hold something that is no finite number."""
        named = self.trainer.model.named_parameters()
        return {name for name, weight in named if weight.requires_grad and not bool(torch.isfinite(weight).all())}


def saves_at_epoch(args: TrainingArguments, state: TrainerState) -> bool:
    """Whether this step ends an epoch, at whose end a checkpoint may be written."""
    epoch = state.epoch or 0.0
    return args.save_strategy != "no" and abs(epoch - round(epoch)) < 1e-6


def loss_of(trainer: Trainer, batch: Batch) -> float:
    """A batch's mean loss as the model gives it now, without dropout and without any trace."""
    model = trainer.model_wrapped
    learning = model.training
    model.eval()
    try:
        with torch.no_grad():
            return float(trainer.compute_loss(model, trainer._prepare_inputs(dict(batch))).mean())
    finally:
        model.train(learning)
