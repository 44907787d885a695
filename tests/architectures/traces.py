"""What a training did, step by step, and how far two of them are apart."""

import math
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from ftkit.training.trainer import Trainer

Tensors = dict[str, torch.Tensor]


@dataclass
class Trace:
    """A training: the loss of each step, the gradients of the first, and the learning weights before and after.

    Attributes:
        drawn: the sum of all steps' gradients and of their squares, where each step draws its own dropout.
    """

    losses: list[float] = field(default_factory=list)
    gradients: Tensors = field(default_factory=dict)
    before: Tensors = field(default_factory=dict)
    after: Tensors = field(default_factory=dict)
    drawn: list[torch.Tensor] = field(default_factory=list)

    def moved(self) -> Tensors:
        return {name: self.after[name] - self.before[name] for name in self.after}


def traced(trainer: Any, *, draws: bool = False) -> Trace:
    """Train as the trainer does, and note what it does.

    Args:
        draws: keep each step's gradients, flat; the model is small.
    """
    trace, own, model = Trace(), trainer.training_step, trainer.model
    steps: dict[int, float] = {}

    def step(*arguments: Any, **named: Any) -> torch.Tensor:
        loss: torch.Tensor = own(*arguments, **named)
        number = trainer.state.global_step
        steps[number] = steps.get(number, 0.0) + float(loss)
        if number == 0:
            trace.gradients = {name: gradient_of(weight) for name, weight in learning(model)}
        if draws:
            trace.drawn.append(torch.cat([gradient_of(weight).flatten() for _, weight in learning(model)]))
        return loss

    trainer.training_step = step
    units = trainer.scaling_labels() if isinstance(trainer, Trainer) else nullcontext()
    with units:  # as steps find the weights, in standard units where they learn numbers
        trace.before = {name: weight.detach().clone() for name, weight in learning(model)}
        trainer.train()
        trace.after = {name: weight.detach().clone() for name, weight in learning(model)}
    trace.losses = [steps[number] for number in sorted(steps)]
    return trace


def learning(model: Any) -> list[tuple[str, torch.Tensor]]:
    return [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]


def gradient_of(weight: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad.detach().clone()


def trace_gaps(ours: Trace, theirs: Trace) -> dict[str, float]:
    """How far two trainings of the same steps are apart: in losses, first gradients, and what was learnt.

    Raises:
        AssertionError: they have not as many steps, or other weights learn.
    """
    assert len(ours.losses) == len(theirs.losses), f"{len(ours.losses)} steps, the plain Trainer {len(theirs.losses)}"
    return {
        "losses": worst(gap(*pair) for pair in zip(ours.losses, theirs.losses, strict=True)),
        "gradients": tensor_gap(ours.gradients, theirs.gradients),
        "weights": tensor_gap(ours.moved(), theirs.moved()),
    }


def drawn_gaps(ours: Trace, theirs: Trace) -> dict[str, float]:
    """The same of many draws of dropout at the same weights: how many standard errors their means are apart.

    Returns:
        `losses` and `gradients` in standard errors; `spread` is the larger standard deviation of losses over the smaller.
    """
    mine, other = (torch.tensor(trace.losses, dtype=torch.float64) for trace in (ours, theirs))
    spreads = sorted(float(values.std()) for values in (mine, other))
    least = 1e-6 * max(1.0, float(other.abs().mean()))  # of rounding alone, where nothing is drawn
    return {
        "losses": float((mine.mean() - other.mean()).abs()) / (errors_of(mine[:, None], other[:, None]) + least),
        "gradients": drawn_gradients(torch.stack(ours.drawn).double(), torch.stack(theirs.drawn).double()),
        "spread": (spreads[1] + least) / (spreads[0] + least),
    }


def drawn_gradients(mine: torch.Tensor, other: torch.Tensor) -> float:
    distance = float((mine.mean(0) - other.mean(0)).norm())
    return distance / (errors_of(mine, other) + 1e-4 * float(other.mean(0).norm()))


def errors_of(mine: torch.Tensor, other: torch.Tensor) -> float:
    """The standard error of the difference of two means, all dimensions together, shapes (draws, dimensions)."""
    return math.sqrt(sum(float(values.var(0).sum()) / len(values) for values in (mine, other)))


def gap(ours: float, theirs: float) -> float:
    """Relative, and absolute below 1; infinite where one of them is no number."""
    return abs(ours - theirs) / max(1.0, abs(theirs)) if math.isfinite(ours) and math.isfinite(theirs) else math.inf


def tensor_gap(ours: Tensors, theirs: Tensors) -> float:
    """The largest of all tensors' relative gaps; one of next to no size counts against a hundredth of the whole."""
    assert ours.keys() == theirs.keys(), f"other weights learn: {sorted(ours.keys() ^ theirs.keys())[:3]}"
    whole = math.sqrt(sum(float(tensor.double().square().sum()) for tensor in theirs.values()))
    return worst(
        float((ours[name] - tensor).double().norm()) / max(float(tensor.double().norm()), whole / 100, 1e-30)
        for name, tensor in theirs.items()
    )


def worst(values: Iterable[float]) -> float:
    """The largest; infinite where one is no number."""
    found = [float(value) for value in values]
    return math.inf if any(math.isnan(value) for value in found) else max(found, default=0.0)
