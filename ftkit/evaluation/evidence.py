"""Did it help, and how sure is that: baseline against tuned on the same rows, with paired intervals.

Rows are drawn with repeats a thousand times; each draw gives both models' metrics (Koehn, 2004,
https://aclanthology.org/W04-3250). How an interval comes of them, and where they say nothing: ftkit/metrics/intervals.py.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ftkit.evaluation.measure import Measurement
from ftkit.metrics.estimates import RESAMPLES, Estimates
from ftkit.metrics.intervals import LEVEL, Interval, difference_interval
from ftkit.recipe.tasks import HEALTH_METRICS

LOW_STOP_RATE = 0.9
HIGH_EMPTY_RATE = 0.05
HIGH_REPETITION = 0.2
FORGOTTEN = 0.05  # of the baseline's loss on general text

TUNED, BASELINE = "tuned", "baseline"


@dataclass(frozen=True)
class Verdict:
    """One sentence on the first metric.

    Attributes:
        state: better, worse, no change, unsure, or no baseline.
    """

    state: str
    metric: str
    sentence: str


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


def verdict(
    baseline: Measurement | None, tuned: Measurement, higher_is_better: dict[str, bool | None], interval: dict[str, Any]
) -> Verdict:
    """Whether fine-tuning helped, by the first metric that knows better from worse."""
    name = next((key for key in tuned.metrics if higher_is_better.get(key) is not None), next(iter(tuned.metrics)))
    after, rows = tuned.metrics[name], tuned.resamplers[name].rows if name in tuned.resamplers else tuned.count
    if baseline is None or name not in baseline.metrics:
        return Verdict("no baseline", name, f"The tuned model has {name} {after:.4f}; the baseline was not measured.")
    before = baseline.metrics[name]
    low, high = interval.get("difference", {}).get(name, (float("nan"), float("nan")))
    doubt = f"95 % interval {low:+.4f} to {high:+.4f}, {rows:,} rows"
    figures = f"{name} {before:.4f} → {after:.4f} ({after - before:+.4f}, {doubt})"
    if did_not_move(baseline, tuned):
        return Verdict("no change", name, f"No change: fine-tuning left {figures}; the model's outputs are what they were.")
    if not (low > 0 or high < 0):
        return Verdict("unsure", name, f"Not sure that anything changed: {figures}; the interval contains 0.")
    better = (after > before) == bool(higher_is_better[name])
    return Verdict("better" if better else "worse", name, f"Fine-tuning {'helped' if better else 'did harm'}: {figures}.")


def did_not_move(baseline: Measurement, tuned: Measurement) -> bool:
    """Whether the tuned model says of each row exactly what the baseline said: equal metrics may be chance."""
    if baseline.metrics != tuned.metrics or baseline.outputs is None or tuned.outputs is None:
        return False
    before, after = baseline.outputs, tuned.outputs
    return np.array_equal(before.prediction.predictions, after.prediction.predictions) and before.answers == after.answers


def fallen(
    baseline: Measurement | None, tuned: Measurement, higher_is_better: dict[str, bool | None], interval: dict[str, Any]
) -> list[str]:
    """Metrics beside the first that surely got worse; one sentence on the first must not hide them."""
    found, first = [], verdict(baseline, tuned, higher_is_better, interval).metric
    for name, (low, high) in interval.get("difference", {}).items():
        better = higher_is_better.get(name)
        if baseline is None or name == first or name in HEALTH_METRICS or better is None:
            continue
        if (high < 0) if better else (low > 0):
            before, after = baseline.metrics[name], tuned.metrics[name]
            found.append(f"{name} got worse: {before:.4f} → {after:.4f} (95 % interval {low:+.4f} to {high:+.4f})")
    return found


def flags(
    baseline: Measurement | None, tuned: Measurement, interval: dict[str, Any], lost: dict[str, Any] | None
) -> list[str]:
    """What is wrong with the generated text or with what was forgotten, whatever the metrics say."""
    found, after = [], tuned.metrics
    before = baseline.metrics if baseline else {}
    was = {name: f", the baseline {100 * before[name]:.0f} %" if name in before else "" for name in after}
    if "stop_rate" in after:
        fell = interval.get("difference", {}).get("stop_rate", (0, 0))[1] < 0
        if fell or after["stop_rate"] < LOW_STOP_RATE:
            found.append(
                f"the tuned model ends {100 * after['stop_rate']:.0f} % of its answers by itself{was['stop_rate']}: are end "
                "tokens supervised, and is generation.max_new_tokens long enough?"
            )
        if after["empty_rate"] > HIGH_EMPTY_RATE:
            found.append(f"{100 * after['empty_rate']:.0f} % of the tuned model's answers are empty{was['empty_rate']}")
        if after["repetition"] > HIGH_REPETITION and after["repetition"] > before.get("repetition", 0):
            found.append(f"the tuned model repeats itself: {100 * after['repetition']:.0f} % of its runs of four words")
    if lost and lost["kind"] == "loss" and lost["interval"][0] > FORGOTTEN * lost["baseline"]:
        found.append(
            f"general text ({lost['text']}) costs the tuned model {lost['tuned']:.3f} nats a token, the baseline "
            f"{lost['baseline']:.3f}: it forgot; fewer steps, a lower learning rate or LoRA keep more"
        )
    return found
