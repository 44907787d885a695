"""Dropout whose masks take less time to draw on a CPU.

Torch draws them a number at a time, at 5 ns each, and keeps them as large as what they fall on. Here a draw of 64 bits
serves four values, each kept where its 16 bits are large enough, and a mask has a byte for each. The share that is dropped
is as said to 1/131,072, and what is kept grows by as much as the share that was dropped.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ftkit.training.trial import Compute, Trial, failure_words

STEPS = 2**16  # of the share that is dropped
DEVIATIONS = 6.0  # of the binomial distribution, that a share of dropped values may be off by


class Dropped(torch.autograd.Function):
    """Values of which some are zero, and the others larger for it."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, threshold: int) -> torch.Tensor:
        """As the inputs; so many of 65,536 are dropped. The draws are of torch's generator."""
        count = inputs.numel()
        draws = torch.empty((count + 3) // 4, dtype=torch.int64, device=inputs.device).random_(-(2**63), None)
        kept = draws.view(torch.int16)[:count].view(inputs.shape) >= threshold - STEPS // 2
        ctx.save_for_backward(kept)
        ctx.scale = STEPS / (STEPS - threshold)
        return torch.ops.aten.native_dropout_backward(inputs, kept, ctx.scale)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor, None]:
        return torch.ops.aten.native_dropout_backward(given[0], *ctx.saved_tensors, ctx.scale), None


def drop(inputs: torch.Tensor, p: float) -> torch.Tensor:
    """What dropout leaves of the inputs, of any shape.

    Args:
        p: the share of them that is dropped, from 0 to below 1.
    """
    threshold = round(p * STEPS)
    if not 0 < threshold < STEPS:
        return nn.functional.dropout(inputs, p)
    found: torch.Tensor = Dropped.apply(inputs, threshold)  # type: ignore[no-untyped-call]
    return found


@contextmanager
def dropping(model: nn.Module) -> Iterator[None]:
    """Inside the block the model's dropout layers draw so."""
    layers = dropout_layers(model)
    for layer in layers:
        layer.forward = _forward(layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def dropout_layers(model: nn.Module) -> list[nn.Dropout]:
    """The plain dropout layers that drop something."""
    return [layer for layer in model.modules() if type(layer) is nn.Dropout and 0 < layer.p < 1 and not layer.inplace]


def _forward(layer: nn.Dropout) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda inputs: drop(inputs, layer.p) if layer.training else inputs


def try_dropout(model: nn.Module, trial: Trial) -> str:
    """Why a model's dropout layers are left as they are; empty where only the draws are others.

    A model that does not learn must say the same, and of one that does each layer drops the share that it should, makes the
    rest larger by as much, and hands back the gradient of just that.
    """
    return trial.differs(dropping(model)) or draws_words(model, trial.compute)


def draws_words(model: nn.Module, compute: Compute) -> str:
    """What is wrong with the draws of a forward pass in training; empty where nothing is."""
    given: dict[nn.Dropout, torch.Tensor] = {}

    def note(layer: nn.Dropout, inputs: tuple[torch.Tensor, ...]) -> None:
        given[layer] = inputs[0].detach()

    hooks = [layer.register_forward_pre_hook(note) for layer in dropout_layers(model)]
    try:
        with torch.random.fork_rng(), dropping(model):
            model.train()
            with torch.no_grad():
                compute()
            return next((words for layer, inputs in given.items() if (words := layer_words(layer, inputs))), "")
    except Exception as error:  # whatever a model does with layers that are not as it expects them
        return failure_words(error)
    finally:
        model.eval()
        for hook in hooks:
            hook.remove()


def layer_words(layer: nn.Dropout, inputs: torch.Tensor) -> str:
    """What is wrong with one layer's draw for these inputs."""
    ones = torch.ones_like(inputs, dtype=torch.float32).requires_grad_(True)
    output = layer(ones)
    (gradient,) = torch.autograd.grad(output.sum(), ones)
    dropped, count = float((output == 0).float().mean()), output.numel()
    spread = DEVIATIONS * (layer.p * (1 - layer.p) / count) ** 0.5 + 1 / STEPS
    kept = output[output != 0].detach()
    if abs(dropped - layer.p) > spread:
        return f"a share of {dropped:.4f} is dropped in place of {layer.p}"
    if kept.numel() and float((kept * (1 - layer.p) - 1).abs().max()) > 2 / STEPS:
        return f"what is kept grows by {float(kept.mean()):.5f}"
    return "" if torch.equal(gradient, output.detach()) else "its gradient is not that of what is kept"
