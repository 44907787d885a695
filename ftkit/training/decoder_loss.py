"""What a decoder's own loss is, by trying it: does it foretell the next token, and is it divided by the items of a step?

XLNet's class for language modeling compares each token with itself, and has no use for the number of items; the Trainer
takes any class that accepts further arguments for one that divides by it.
"""

from typing import Any

import torch

from ftkit.errors import UserError
from ftkit.tasks.language import token_loss_sums
from ftkit.training.trainer import Trainer
from ftkit.training.trial import left_as_it_was, relative

EQUAL, OTHER = 1e-3, 1e-1  # of two losses, relative: the same but for rounding and a router's; certainly not the same


def settle_decoder_loss(trainer: Trainer, rows: dict[str, Any]) -> None:
    """Let the Trainer divide a loss by the step's batches where the model does not divide it by the step's items.

    Args:
        rows: a padded batch with labels, on the model's device.

    Raises:
        UserError: the model does not foretell the next token.
    """
    with left_as_it_was(trainer.model), torch.no_grad(), trainer.accelerator.autocast():
        model = trainer.model.eval()
        output = model(**rows)
        require_next_token(model.config.model_type, output, rows["labels"])
        if trainer.model_accepts_loss_kwargs:
            one, two = (model(**rows, num_items_in_batch=count)["loss"] for count in (1, 2))
            trainer.model_accepts_loss_kwargs = relative(2 * two, one, 1.0) < OTHER


def require_next_token(kind: str, output: Any, labels: torch.Tensor) -> None:
    """Raises UserError where a loss is that of each token itself, and not of the one behind it."""
    shifted, same = (token_loss_sums(output["logits"], labels, shift=shift).sum(0) for shift in (True, False))
    own = output["loss"]
    if relative(own, same[0] / same[1], 1.0) < EQUAL and relative(own, shifted[0] / shifted[1], 1.0) > EQUAL:
        message = f"{kind} compares each token with itself, where a decoder foretells the next one"
        raise UserError(message, "choose one such as openai-community/gpt2", key="model.name")
