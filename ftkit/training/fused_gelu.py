"""GELU by its tanh formula in one operation, as torch has it, in place of seven.

GPT-2's kind of models write the formula out (https://arxiv.org/abs/1606.08415, section 2), and each of its operations reads
and writes the widest activations of a block and keeps them for the way back. The one operation keeps its input, and rounds
once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from transformers.activations import FastGELUActivation, NewGELUActivation


def written_out(model: nn.Module) -> list[nn.Module]:
    """The activations of a model that are written out."""
    return [module for module in model.modules() if type(module) in (NewGELUActivation, FastGELUActivation)]


@contextmanager
def fusing_gelu(model: nn.Module) -> Iterator[None]:
    """Inside the block these are one operation."""
    modules = written_out(model)
    for module in modules:
        module.forward = partial(nn.functional.gelu, approximate="tanh")  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in modules:
            del module.forward
