"""Metrics over one bootstrap's draws: of several models at once, and in a file, so that runs can be compared later."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ftkit.metrics.intervals import Estimate
from ftkit.metrics.resampling import UNBOUNDED, Bounds, Kind, Resampler, Share, draws

RESAMPLES = 1000
FACTS, SHARE = "facts of ", "share of "  # before a metric's name, in a file

Estimates = dict[str, Estimate]  # by metric


def estimate_all(models: Mapping[str, Mapping[str, Resampler]], seed: int) -> dict[str, Estimates]:
    """Each model's metrics over the same draws; so many rows and a seed give the same draws in any run."""
    sizes = {metric.rows for metrics in models.values() for metric in metrics.values()}
    found: dict[str, dict[str, list[np.ndarray]]] = {name: {} for name in models}
    for size in sorted(sizes):
        for weights in draws(size, RESAMPLES, seed):
            for name, metrics in models.items():
                for key, metric in metrics.items():
                    if metric.rows == size:
                        found[name].setdefault(key, []).append(metric.compute(weights))
    return {
        name: {key: as_estimate(metric, np.concatenate(found[name][key])) for key, metric in metrics.items()}
        for name, metrics in models.items()
    }


def as_estimate(metric: Resampler, drawn: np.ndarray) -> Estimate:
    return Estimate(metric.value(), drawn, metric.rows, metric.bounds, metric.share)


def to_arrays(estimates: Estimates) -> dict[str, np.ndarray]:
    """Estimates as arrays by name, for a file."""
    found: dict[str, np.ndarray] = {}
    for name, one in estimates.items():
        found |= {name: one.draws, FACTS + name: np.array([one.value, one.rows, *one.bounds], dtype=np.float64)}
        if one.share is not None:
            found[SHARE + name] = np.array([one.share.hits, one.share.trials, np.full(one.rows, one.share.jaccard)])
    return found


def from_arrays(arrays: Mapping[str, Any], rows: int) -> Estimates:
    """What `to_arrays` made.

    Args:
        rows: how many there are, where a run of an earlier version kept the draws alone.
    """
    found = {}
    for name, drawn in arrays.items():
        if name.startswith((FACTS, SHARE)):
            continue
        facts = arrays.get(FACTS + name)
        value, count, *bounds = (np.nanmean(drawn), rows) if facts is None else facts
        share = arrays.get(SHARE + name)
        kept = None if share is None else Share(share[0], share[1], bool(share[2].any()))
        found[name] = Estimate(float(value), drawn, int(count), read_bounds(bounds), kept)
    return found


def read_bounds(numbers: Sequence[float]) -> Bounds:
    """Bounds as a file has them; an earlier version kept no kind, and NaN or nothing where there are no bounds."""
    if not numbers or np.isnan(numbers[0]):
        return UNBOUNDED
    least, most, counted, *kind = numbers
    return Bounds(float(least), float(most), bool(counted), Kind(int(kind[0])) if kind else Kind.TRIALS)
