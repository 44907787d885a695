"""What is tried in the precision of training: the frozen base at rest, adapters over it, and all levers at once.

Each lever was tried by itself and in float32 (`levers.py`). Two that are right can be wrong together, and what is equal in
float32 need not be as near in bfloat16. So a step with all of them is held against the model by itself, in the precision
of the steps; where they do not hold, the last of the table goes, until the rest does.
"""

from contextlib import nullcontext
from typing import Any

import torch

from ftkit import console
from ftkit.models.load import has_weights, weights_folder
from ftkit.models.resting import RestingBase, may_rest
from ftkit.recipe.schema import Recipe
from ftkit.training.arguments import autocast_dtype
from ftkit.training.fused_adapters import try_adapters
from ftkit.training.levers import LEVERS, Case, Lever, items_of, parts_loss, step_loss
from ftkit.training.trainer import Trainer, is_alone
from ftkit.training.trial import (
    COARSE,
    EXACT,
    SAME,
    Bounds,
    Trial,
    four_bits_in_float32,
    gaps_between,
    is_exact,
)

# Of a model's own distance from float32, so much again may a step be apart from it; and never less than this.
ROUNDINGS, LEAST = 2.0, Bounds(COARSE.loss, COARSE.row, 5e-2, quiet=0.1)


def settle_in_precision(recipe: Recipe, trainer: Trainer, rows: dict[str, Any]) -> None:
    """Let the frozen base rest where one process computes in bfloat16; hold adapters and all levers to the model once more.

    Args:
        rows: a batch as steps compute it.
    """
    resting, why = resting_base(recipe, trainer)
    trainer.off["frozen_bfloat16"] = why
    autocast, items = autocast_dtype(trainer.args), items_of(trainer, rows)
    # with the head on supervised positions where that is settled: all logits of packed blocks may be too many
    trial = Trial(trainer.model, lambda: step_loss(trainer, rows, items), autocast, SAME if autocast else None)
    with trial.prepared():
        if resting is not None:
            trainer.off["frozen_bfloat16"] = trial.differs(resting.at_rest())
            trainer.resting = None if trainer.off["frozen_bfloat16"] else resting
        if autocast and switchable(trainer):
            trial.bounds = beside_rounding(trial)
        with trainer.resting.at_rest() if trainer.resting else nullcontext():
            if trainer.fuses and autocast:  # without, they are tried already
                trainer.off["fused_adapters"] = try_adapters(trainer.model, trial)
                trainer.fuses = not trainer.off["fused_adapters"]
            if len(switchable(trainer)) > (0 if autocast else 1):  # one alone is tried already in float32
                hold_together(Case(trainer, rows, items, trial))


def switchable(trainer: Trainer) -> list[Lever]:
    """The levers that are on and could be off, the last of the table first."""
    return [lever for lever in reversed(LEVERS) if lever.neutral and lever.is_on(trainer)]


def hold_together(case: Case) -> None:
    """Switch levers off, the last of the table first, until a step with all that are on is the model's own."""
    reason = together_words(case)
    for lever in switchable(case.trainer) if reason else ():
        switch_off(case.trainer, lever, reason)
        if not (reason := together_words(case)):
            return
    if reason:
        console.warn(f"a step is not what the model gives by itself, and no lever is to blame: {reason}")


def switch_off(trainer: Trainer, lever: Lever, reason: str) -> None:
    trainer.__dict__.update(lever.neutral)
    trainer.off[lever.key] = f"with all levers together {reason}"


def together_words(case: Case) -> str:
    """What all levers that are on change in a step, over the base as it lies; nothing where all is the same."""
    trainer = case.trainer

    def compute() -> tuple[torch.Tensor, list[torch.Tensor]]:
        return parts_loss(case) if trainer.cuts else step_loss(trainer, case.rows, case.items)

    return case.trial.differs(trainer.computing(), compute, times=1 + trainer.adds_rows)


def beside_rounding(trial: Trial) -> Bounds:
    """How far a step may be from the model in half precision: as far again as the model is from itself in float32."""
    if not is_exact(trial.model):
        return COARSE
    with four_bits_in_float32(trial.model), torch.autocast(trial.model.device.type, enabled=False):
        exact = Trial(trial.model, trial.compute, None, EXACT, learns=trial.learns).own
    own = gaps_between(trial.own, exact, LEAST.quiet)
    return Bounds(
        max(LEAST.loss, ROUNDINGS * own.loss),
        max(LEAST.row, ROUNDINGS * own.row),
        max(LEAST.gradient, ROUNDINGS * own.gradient),
        LEAST.quiet,
    )


def resting_base(recipe: Recipe, trainer: Trainer) -> tuple[RestingBase | None, str]:
    """The frozen layers that may rest; None where there are none or it is not wanted, and then why."""
    reasons = {
        "speed.frozen_bfloat16 is false": not recipe.speed.frozen_bfloat16,
        "training does not compute in bfloat16": not trainer.args.bf16,
        "the strategy has no base that is read again": not may_rest(recipe.strategy),
        "several processes or devices train": not is_alone(trainer),
        "the weights are not on this machine": not has_weights(recipe.model),
    }
    if why := next((reason for reason, holds in reasons.items() if holds), ""):
        return None, why
    resting = RestingBase(trainer.model, weights_folder(recipe.model))
    return (resting, "") if resting.layers else (None, "no frozen linear layer in float32 is in the checkpoint's files")
