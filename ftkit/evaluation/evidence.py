"""How sure is a difference: baselines against tuned on the same rows, with paired intervals.

Rows are drawn with repeats a thousand times; each draw gives both models' metrics (Koehn, 2004,
https://aclanthology.org/W04-3250). How an interval comes of them, and where they say nothing: ftkit/metrics/intervals.py.
"""

from typing import Any

import numpy as np

from ftkit.evaluation.measure import Measurement
from ftkit.metrics.estimates import RESAMPLES, Estimates
from ftkit.metrics.intervals import difference_interval
from ftkit.metrics.scales import LEVEL, Interval

TUNED, BASELINE = "tuned", "baseline"


def intervals(models: dict[str, Estimates], seed: int) -> dict[str, Any]:
    """The interval of each metric of both models and of their difference, as metrics.json has them.

    Args:
        models: "tuned" and "baseline", and further baselines, each with its difference to the tuned model.
    """
    found: dict[str, Any] = {"level": LEVEL, "resamples": RESAMPLES, "seed": seed}
    others = {name: metrics for name, metrics in models.items() if name not in (TUNED, BASELINE)}
    for name in models.keys() - others.keys():
        found[name] = {key: estimate.interval() for key, estimate in models[name].items()}
    if BASELINE in models:
        found["difference"] = differences(models[TUNED], models[BASELINE])
    found["other_baselines"] = {name: differences(models[TUNED], metrics) for name, metrics in others.items()}
    return found


def differences(ours: Estimates, theirs: Estimates) -> dict[str, Interval]:
    return {name: difference_interval(one, theirs[name]) for name, one in ours.items() if name in theirs}


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
