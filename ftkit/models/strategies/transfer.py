"""Transfer learning: the body is frozen and in eval mode; the head, and on wish the last blocks, learn."""

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from ftkit.compat import hold_in_float32
from ftkit.errors import UserError
from ftkit.models.heads import last_blocks
from ftkit.models.strategies.base import plain_arguments
from ftkit.recipe.schema import Transfer


class TransferStrategy:
    quantized = False
    needs_head = True

    def load_arguments(self, block: Transfer, dtype: str, head: tuple[str, ...]) -> dict[str, Any]:
        return plain_arguments(dtype)

    def apply(
        self, model: PreTrainedModel, block: Transfer, head: tuple[str, ...], auto_class: Any = None
    ) -> PreTrainedModel:
        name, blocks = last_blocks(model)
        if block.unfreeze_last > len(blocks):
            message = f"unfreeze_last {block.unfreeze_last} is more than the {len(blocks)} blocks of this model"
            raise UserError(message, "for all of them use strategy full", key="strategy.unfreeze_last")
        first = len(blocks) - block.unfreeze_last
        learning = [*head, *(f"{name}.{index}" for index in range(first, len(blocks)))]
        model.requires_grad_(False)
        for module_name in learning:
            model.get_submodule(module_name).requires_grad_(True)
        hold_in_float32(model)
        keep_frozen_in_eval_mode(model, name)
        return model


def keep_frozen_in_eval_mode(model: nn.Module, blocks: str) -> None:
    """Before each forward pass in training, put modules without a learning parameter into eval mode: no dropout in them.

    Dropout between the embeddings and the blocks, as GPT-2 has it, is in the body too.

    The Trainer calls `model.train()` before every step, which would switch the frozen body's dropout on again.
    """

    def restore(module: nn.Module, *_: Any) -> None:
        if module.training:
            for part in frozen:
                part.eval()

    frozen = [*_outermost_frozen(model), *_dropout_before(model, blocks)]
    model.register_forward_pre_hook(restore)


def _dropout_before(model: nn.Module, blocks: str) -> list[nn.Module]:
    """Modules without parameters that stand before the list of blocks, or before a module that holds it."""
    found: list[nn.Module] = []
    parts = blocks.split(".")
    for depth, part in enumerate(parts):
        children = list(model.get_submodule(".".join(parts[:depth])).named_children())
        before = children[: [name for name, _ in children].index(part)]
        found += [child for _, child in before if next(child.parameters(), None) is None]
    return found


def _outermost_frozen(module: nn.Module) -> list[nn.Module]:
    """Modules without a learning parameter beneath a module that has one; dropout between learning layers stays on."""
    found: list[nn.Module] = []
    for child in module.children():
        parameters = list(child.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            found.append(child)
        else:
            found += _outermost_frozen(child)
    return found
