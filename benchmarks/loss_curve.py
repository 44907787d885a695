"""The losses of a training with the seconds at which they were there, and when a level was first reached."""

import math
from collections.abc import Iterable
from statistics import fmean

Curve = list[list[float]]  # seconds since training began, loss; one pair a step
STEPS = 5  # over which losses are averaged: those of single batches jump


def smoothed(curve: Curve) -> Curve:
    """Each step's mean loss over itself and those before it, from the first step that has as many as are averaged."""
    width = min(STEPS, len(curve))
    losses = [loss for _, loss in curve]
    return [[curve[end - 1][0], fmean(losses[end - width : end])] for end in range(width, len(curve) + 1)]


def common_level(curves: Iterable[Curve]) -> float:
    """A loss that every training reached: the highest of their last smoothed ones."""
    return max(smoothed(curve)[-1][1] for curve in curves)


def seconds_to(level: float, curve: Curve) -> float:
    """From the start of training until the smoothed loss was first at the level; infinite where it never was."""
    return next((seconds for seconds, loss in smoothed(curve) if loss <= level), math.inf)
