"""How sure is a difference: baselines against tuned on the same rows, with paired bootstrap intervals.

Rows are drawn with repeats a thousand times; each draw gives both models' metrics, and their difference. The middle 95 % of
the differences is the interval (Efron and Tibshirani, 1993, the percentile method; Koehn, 2004,
https://aclanthology.org/W04-3250, for its paired form).
"""

from typing import Any

import numpy as np

from ftkit.evaluation.measure import Measurement
from ftkit.metrics.resampling import Resampler, draws

LEVEL = 0.95
RESAMPLES = 1000

TUNED, BASELINE = "tuned", "baseline"

Interval = list[float]  # from low to high


Drawn = dict[str, dict[str, np.ndarray]]  # by model and metric, shape (RESAMPLES,) each


def intervals(drawn: Drawn, seed: int) -> dict[str, Any]:
    """The interval of each metric of both models and of their difference, as metrics.json has them.

    Args:
        drawn: of the models "tuned" and "baseline", and of further baselines, each with its difference to the tuned model.
    """
    found: dict[str, Any] = {"level": LEVEL, "resamples": RESAMPLES, "seed": seed}
    others = {name: metrics for name, metrics in drawn.items() if name not in (TUNED, BASELINE)}
    for name in drawn.keys() - others.keys():
        found[name] = {key: middle(values) for key, values in drawn[name].items()}
    if BASELINE in drawn:
        found["difference"] = differences(drawn[TUNED], drawn[BASELINE])
    found["other_baselines"] = {name: differences(drawn[TUNED], metrics) for name, metrics in others.items()}
    return found


def resampled(models: dict[str, dict[str, Resampler]], seed: int) -> Drawn:
    """Each model's metrics over the same draws; so many rows and a seed give the same draws in any run."""
    sizes = {resampler.rows for metrics in models.values() for resampler in metrics.values()}
    found: dict[str, dict[str, list[np.ndarray]]] = {name: {} for name in models}
    for size in sorted(sizes):
        for weights in draws(size, RESAMPLES, seed):
            for name, metrics in models.items():
                for metric, resampler in metrics.items():
                    if resampler.rows == size:
                        found[name].setdefault(metric, []).append(resampler.compute(weights))
    return {name: {key: np.concatenate(parts) for key, parts in metrics.items()} for name, metrics in found.items()}


def differences(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> dict[str, Interval]:
    return {name: middle(values - theirs[name]) for name, values in ours.items() if name in theirs}


def middle(values: np.ndarray) -> Interval:
    """The middle 95 % of values; NaN where a metric could not be had in any draw."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return [float("nan"), float("nan")]
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]


def changes(baseline: Measurement | None, tuned: Measurement, names: list[str]) -> dict[str, Any] | None:
    """The rows that became right and those that became wrong, by name.

    Args:
        names: of all rows, in their order.
    """
    if baseline is None or baseline.right is None or tuned.right is None:
        return None
    before, after = baseline.right, tuned.right
    fixed, broken = (
        [names[tuned.judged[place]] for place in np.flatnonzero(mask)] for mask in (~before & after, before & ~after)
    )
    return {"rows": len(after), "fixed": fixed, "broken": broken}
