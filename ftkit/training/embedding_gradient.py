"""The gradient of an embedding, added row by row to what is there.

For each batch torch makes a gradient as large as the embedding, nearly all of it zeros, and adds it to the one that is
there: in an encoder of 67 million parameters 94 MB, once for each part of a batch. Here the rows that were looked up are
added to the one gradient. The sums are the same, in another order.

With optimizers that write nothing to gradients, that one is kept when it is let go, and the next step zeroes the rows that
the last one used: to take as much anew from the system, zeroed by it and by torch, is a seventh of a step.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class Kept:
    """The gradient of an embedding's weight, from step to step.

    Attributes:
        gradient: as the weight; None before the first.
        used: the rows of it that hold something.
    """

    def __init__(self) -> None:
        self.gradient: torch.Tensor | None = None
        self.used: list[torch.Tensor] = []

    def begin(self, weight: torch.Tensor) -> torch.Tensor:
        """The gradient, all zeros."""
        if self.gradient is None:
            self.gradient = torch.zeros_like(weight)
        for rows in self.used:
            self.gradient.index_fill_(0, rows, 0.0)
        self.used = []
        return self.gradient


class AddedRows(torch.autograd.Function):
    """The rows of an embedding; its gradient is added to `weight.grad` while going backward, and not handed on.

    The weight is no input of it that has a gradient: what another layer gives a tied weight would wait for this one.
    """

    @staticmethod
    def forward(
        ctx: Any, goes_backward: torch.Tensor, ids: torch.Tensor, module: nn.Embedding, kept: Kept | None
    ) -> torch.Tensor:
        """The rows, shape (..., width).

        Args:
            goes_backward: any tensor that has a gradient.
            ids: shape (...).
            module: its weight is a leaf, shape (entries, width).
            kept: the weight's gradient; None where another layer adds to it as well, so that all of it has to be zeroed.
        """
        ctx.module, ctx.kept = module, kept
        ctx.save_for_backward(ids)
        return module.weight[ids]

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[None, None, None, None]:
        weight, padding, ids = ctx.module.weight, ctx.module.padding_idx, ctx.saved_tensors[0].flatten()
        rows = given[0].reshape(len(ids), -1).to(weight.dtype)
        if padding is not None:  # it learns nothing
            rows = rows * (ids != padding).unsqueeze(1)
        if weight.grad is None:
            weight.grad = ctx.kept.begin(weight) if ctx.kept else torch.zeros_like(weight)
        if ctx.kept and weight.grad is ctx.kept.gradient:
            ctx.kept.used.append(ids)
        weight.grad.index_add_(0, ids, rows)
        return None, None, None, None


def leaves_gradients(optim: str) -> bool:
    """Whether an optimizer, by its name as a training argument, is known to write nothing to gradients."""
    return optim in ("adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop")


@contextmanager
def adding_rows(model: nn.Module, *, keep: bool, begun: bool = False) -> Iterator[list[torch.Tensor]]:
    """Inside the block embeddings that learn add to their gradients row by row.

    Each is of a class of its own meanwhile, in which the look-up is another; what its own class does before and after it, as
    scaling the rows or counting positions, stays.

    Args:
        keep: gradients stay from step to step; nothing but a common factor may be written to them meanwhile.
        begun: they have their gradients already, as after a first step.

    Returns:
        These gradients.
    """
    modules: list[Any] = learning_embeddings(model)
    kept = [Kept() if keep and not is_tied(module, model) else None for module in modules]
    found = [one.begin(module.weight) for one, module in zip(kept, modules, strict=True) if begun and one]
    own = [type(module) for module in modules]
    try:
        for module, one in zip(modules, kept, strict=True):
            module.__class__ = adding_class(type(module))  # type: ignore[arg-type]
            module.kept_gradient = one
        yield found
    finally:
        for module, kind in zip(modules, own, strict=True):
            module.__class__ = kind
            vars(module).pop("kept_gradient", None)


class AddingEmbedding(nn.Embedding):
    """An embedding whose look-up adds to the gradient of its weight."""

    kept_gradient: Kept | None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return super().forward(input)
        begins = torch.zeros((), requires_grad=True)
        found: torch.Tensor = AddedRows.apply(begins, input, self, self.kept_gradient)  # type: ignore[no-untyped-call]
        return found


@functools.cache
def adding_class(kind: type[nn.Embedding]) -> type[nn.Embedding]:
    """A class whose own look-up, and what a subclass takes for `super().forward`, is that of `AddingEmbedding`."""
    return AddingEmbedding if kind is nn.Embedding else type(kind.__name__, (kind, AddingEmbedding), {})


def is_tied(module: nn.Module, model: nn.Module) -> bool:
    """Whether another layer has the same weight, and adds to its gradient as well."""
    return any(other is not module and getattr(other, "weight", None) is module.weight for other in model.modules())


def learning_embeddings(model: nn.Module) -> list[nn.Embedding]:
    """The embeddings of a model that learn, and look rows up as torch's do."""
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        and module.weight.requires_grad
        and module.max_norm is None
        and not (module.sparse or module.scale_grad_by_freq)
    ]
