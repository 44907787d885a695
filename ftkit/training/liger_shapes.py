"""What Liger's layers hold in memory, for a step on shapes alone: its kernels are Triton's, which look for real memory.

After the sources of liger-kernel 0.8 (https://github.com/linkedin/Liger-Kernel, ops/rms_norm.py, swiglu.py, rope.py): a norm
keeps its input and a number a token, a gated layer its two halves, rotary positions nothing; all write where they can.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from ftkit.training.kernels import Names, homes_of

GATED = ("gate_proj", "up_proj", "down_proj")
ROTARY = "apply_rotary_pos_emb"


class NormShapes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Args: inputs: shape (..., width). weight: shape (width,)."""
        ctx.save_for_backward(inputs, weight, inputs.new_empty(inputs.shape[:-1], dtype=torch.float32))
        return torch.empty_like(inputs)

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        return given[0], torch.empty_like(ctx.saved_tensors[1]) if ctx.needs_input_grad[1] else None


class GateShapes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """Args: gate, up: shape (..., inner width)."""
        ctx.save_for_backward(gate, up)
        return torch.empty_like(gate)

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        return gate, up


class RotaryShapes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Args: query, key: shape (rows, heads, tokens, width)."""
        return query.view_as(query), key.view_as(key)

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(gradient.transpose(1, 2).contiguous().transpose(1, 2) for gradient in given)


@contextmanager
def liger_shapes(model: nn.Module) -> Iterator[None]:
    """Inside the block the layers of a model hold what they hold with Liger's kernels in them, and compute nothing."""
    norms = [module for module in model.modules() if type(module).__name__.endswith("RMSNorm")]
    gated = [module for module in model.modules() if all(name in dict(module.named_children()) for name in GATED)]
    own = {home: vars(sys.modules[home]).get(ROTARY) for home in homes_of(model)}
    rotary = {(home, ROTARY): (function, rotate) for home, function in own.items() if function is not None}
    for module in norms:
        module.forward = partial(normalize, module)
    for module in gated:
        module.forward = partial(pass_gate, module)
    try:
        with Names(rotary).in_place():
            yield
    finally:
        for module in (*norms, *gated):
            del module.forward


def normalize(module: Any, inputs: torch.Tensor) -> torch.Tensor:
    return NormShapes.apply(inputs, module.weight)  # type: ignore[no-untyped-call, no-any-return]


def rotate(query: torch.Tensor, key: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return RotaryShapes.apply(query, key)  # type: ignore[no-untyped-call, no-any-return]


def pass_gate(module: Any, inputs: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = module.down_proj(GateShapes.apply(module.gate_proj(inputs), module.up_proj(inputs)))  # type: ignore[no-untyped-call]
    return found
