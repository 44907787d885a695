"""When memory runs out in a training step: what that looks like, and what a step needs to be done again."""

from dataclasses import dataclass, field
from typing import Any

import torch

from ftkit import console
from ftkit.errors import UserError


@dataclass
class Step:
    """The optimizer step in hand: its batches so far, and the state of the draws before the first of them.

    Attributes:
        weight: what the mean loss of the whole step is a mean of: supervised tokens, or rows.
        count: its batches.
    """

    weight: int = 0
    count: int = 1
    batches: list[dict[str, Any]] = field(default_factory=list)
    draws: tuple[torch.Tensor, list[torch.Tensor]] | None = None

    def add(self, batch: dict[str, Any]) -> None:
        """Take note of a batch before it is computed."""
        if not self.batches:
            on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
            self.draws = torch.get_rng_state(), on_gpu
        self.batches.append(batch)

    def restore_draws(self) -> None:
        """Let dropout draw again what it drew when the step began."""
        if self.draws is not None:
            torch.set_rng_state(self.draws[0])
            if self.draws[1]:
                torch.cuda.set_rng_state_all(self.draws[1])


def halved(rows: int, step: int) -> int:
    """How many rows are computed at a time where so many were too many; said on screen.

    Raises:
        UserError: it was one row.
    """
    if rows <= 1:
        raise UserError(
            f"memory ran out in step {step} with one row at a time",
            "`ftkit plan` names what would make it fit, as training.activation_checkpointing: true",
            key="training.per_device_train_batch_size",
        )
    smaller = (rows + 1) // 2
    console.warn(
        f"memory ran out in step {step} with {rows} rows at a time: the step is done again, {smaller} at a time, "
        "and so are those to come"
    )
    return smaller
