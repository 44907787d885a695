"""The gradient of an embedding, added row by row to what is there.

For each batch torch makes a gradient as large as the embedding, nearly all of it zeros, and adds it to the one that is
there: in an encoder of 67 million parameters 94 MB, once for each part of a batch. Here the rows that were looked up are
added to the one gradient. The sums are the same, in another order.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class AddedRows(torch.autograd.Function):
    """The rows of an embedding; its gradient is added to `weight.grad` while going backward, and not handed on.

    The weight is no input of it that has a gradient: what another layer gives a tied weight would wait for this one.
    """

    @staticmethod
    def forward(ctx: Any, goes_backward: torch.Tensor, ids: torch.Tensor, module: nn.Embedding) -> torch.Tensor:
        """The rows, shape (..., width).

        Args:
            goes_backward: any tensor that has a gradient.
            ids: shape (...).
            module: its weight is a leaf, shape (entries, width).
        """
        ctx.module = module
        ctx.save_for_backward(ids)
        return module.weight[ids]

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[None, None, None]:
        weight, padding, ids = ctx.module.weight, ctx.module.padding_idx, ctx.saved_tensors[0].flatten()
        rows = given[0].reshape(len(ids), -1).to(weight.dtype)
        if padding is not None:  # it learns nothing
            rows = rows * (ids != padding).unsqueeze(1)
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        weight.grad.index_add_(0, ids, rows)
        return None, None, None


@contextmanager
def adding_rows(model: nn.Module) -> Iterator[None]:
    """Inside the block embeddings that learn add to their gradients row by row."""
    handles = [module.register_forward_hook(_look_up) for module in learning_embeddings(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def learning_embeddings(model: nn.Module) -> list[nn.Embedding]:
    """The plain embeddings of a model that learn: those that look rows up and do nothing else."""
    return [
        module
        for module in model.modules()
        if type(module) is nn.Embedding
        and module.weight.requires_grad
        and module.max_norm is None
        and not (module.sparse or module.scale_grad_by_freq)
    ]


def _look_up(module: nn.Embedding, arguments: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor | None:
    if not torch.is_grad_enabled() or len(arguments) != 1:
        return None
    found: torch.Tensor = AddedRows.apply(torch.zeros((), requires_grad=True), arguments[0], module)  # type: ignore[no-untyped-call]
    return found
