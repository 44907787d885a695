"""One step of two short rows before anything is written: does the model compute as the recipe has it?

Some models compute in float32 only, as DeBERTa, which fills what autocast made bfloat16 with the least float32; others have
layers that do not take the precision that frozen weights rest in. The first step would end in a traceback.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from ftkit.errors import UserError
from ftkit.models.load import first_line, lacks_memory
from ftkit.recipe.schema import Recipe
from ftkit.training.arguments import autocast_dtype, precision_words
from ftkit.training.prepare import Data
from ftkit.training.trainer import Trainer
from ftkit.training.trial import left_as_it_was

FAULTS = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, AssertionError)


def require_step(recipe: Recipe, trainer: Trainer, data: Data, *, learning: bool = True) -> None:
    """Try the model on two short rows in the precision that it computes in, without a lever.

    Args:
        learning: backward too; else as it is measured.

    Raises:
        UserError: it does not get through; the line says why, and what was found to help.
    """
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        return  # the weights are not where they will be
    rows, autocast = short_rows(trainer, data), autocast_dtype(trainer.args)
    error = fault(trainer.model, rows, trainer.accelerator.autocast(), learning=learning)
    if error is None:
        return
    words = precision_words(autocast)
    if autocast and fault(trainer.model, rows, nullcontext(), learning=learning) is None:
        key = f"training.{'bf16' if trainer.args.bf16 else 'fp16'}"
        hint = f"set {key}: false"
    elif recipe.model.dtype != "float32" and recipe.strategy.name != "full":
        words += f" with weights in {recipe.model.dtype}"
        hint, key = "set model.dtype: float32", "model.dtype"
    else:
        hint, key = other_layers(recipe)
    kind = trainer.model.config.model_type
    raise UserError(f"{kind} does not get through a step in {words}: {first_line(error)}", hint, key=key) from error


def other_layers(recipe: Recipe) -> tuple[str, str]:
    """What may help where the precision is not to blame, and its key."""
    if recipe.strategy.name in ("lora", "qlora"):
        return "name other layers in strategy.target_modules, or take another strategy", "strategy"
    return "choose another model", "model.name"


def fault(model: Any, rows: dict[str, Any], precision: AbstractContextManager[Any], *, learning: bool) -> Exception | None:
    """What a step of the rows ends with, if not with a loss; the model and what is drawn after are as before.

    Raises:
        RuntimeError: memory ran out.
    """
    cuda = [model.device] if model.device.type == "cuda" else []
    try:
        with left_as_it_was(model), torch.random.fork_rng(cuda), torch.set_grad_enabled(learning):
            model.eval()  # so that nothing in it changes
            with precision:
                loss = model(**rows).loss
            if learning:
                loss.backward()
    except FAULTS as error:
        if isinstance(error, RuntimeError) and lacks_memory(error):
            raise
        return error
    finally:
        model.zero_grad(set_to_none=True)
    return None


def short_rows(trainer: Trainer, data: Data) -> dict[str, Any]:
    """The shortest eval row and the next that is longer, as a padded batch."""
    rows, lengths = data.encoded["eval"].dataset, data.facts["eval"].lengths
    order = np.argsort(lengths, kind="stable")
    longer = order[lengths[order] > lengths[order[0]]][:1]
    chosen = [rows[int(index)] for index in (order[0], *longer)]
    return dict(trainer._prepare_inputs(trainer.data_collator(chosen)))
