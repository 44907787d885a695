"""The curves of a run from log.jsonl, as points for the page's plots, and the step whose weights were kept."""

from collections.abc import Callable
from typing import Any

from ftkit.report.evidence import Evidence

MAX_POINTS = 1500  # of one curve; more could not be told apart on a screen
QUIET = {"runtime", "samples_per_second", "steps_per_second", "model_preparation_time"}  # logged beside the metrics
MEASURED = ("eval_baseline_", "eval_tuned_")  # what trackers are told of the whole run
Points = list[list[float]]


def curves(evidence: Evidence) -> list[dict[str, Any]]:
    """The loss first, then the recipe's metrics; minor: other metrics logged, and what steers the training."""
    kept = kept_step(evidence)
    loss = [("train", points_of(evidence, "loss")), ("eval", eval_points(evidence, "loss"))]
    units = ", in standard units of the labels" if evidence.record.get("label_scale") else ""
    found = [curve(f"loss{units}", loss, kept)]
    for name in logged_metrics(evidence):
        minor = name not in evidence.metrics["tuned"]
        found.append(curve(evidence.shown(name), [("eval", eval_points(evidence, name))], kept) | {"minor": minor})
    for key, title in (("learning_rate", "learning rate"), ("grad_norm", "gradient norm")):
        found.append(curve(title, [("train", points_of(evidence, key))], None) | {"minor": True})
    return [one for one in found if one["series"]]


def curve(title: str, series: list[tuple[str, Points]], kept: int | None) -> dict[str, Any]:
    named = [{"name": name, "points": thinned(points)} for name, points in series if points]
    return {"title": title, "series": named, "kept": kept, "minor": False}


def logged_metrics(evidence: Evidence) -> list[str]:
    """Metrics other than the loss that were measured while training, those of the recipe first."""
    logged = {
        key.removeprefix("eval_"): None
        for event in evidence.log
        for key in event
        if key.startswith("eval_") and not key.startswith(MEASURED)
    }
    wanted = [name for name in evidence.metrics["tuned"] if name in logged]
    return [name for name in dict.fromkeys([*wanted, *logged]) if name not in QUIET | {"loss"}]


def eval_points(evidence: Evidence, metric: str) -> Points:
    """A metric on the eval rows by step; the baseline, where it was measured, is step 0."""
    points = points_of(evidence, f"eval_{metric}")
    start = (evidence.metrics.get("baseline") or {}).get(metric)
    return [[0, start], *points] if points and start is not None and points[0][0] > 0 else points


def points_of(evidence: Evidence, key: str) -> Points:
    """Step and value of each event that has a number under the key; of a step logged twice, the last."""
    numbers: Callable[[Any], bool] = lambda value: isinstance(value, int | float)  # noqa: E731
    return [
        [step, value]
        for step, value in {event["step"]: event[key] for event in evidence.log if numbers(event.get(key))}.items()
    ]


def thinned(points: Points) -> Points:
    """At most MAX_POINTS of them, evenly taken, with the last."""
    stride = -(-len(points) // MAX_POINTS)
    return points if stride <= 1 else [*points[:-1:stride], points[-1]]


def kept_step(evidence: Evidence) -> int | None:
    """The step whose weights were saved: the best where the recipe asks for it, else the last; None if not recorded."""
    if "kept_step" in evidence.record:
        return int(evidence.record["kept_step"])
    return None if evidence.recipe.training.load_best_model_at_end else evidence.record.get("steps")
