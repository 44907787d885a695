"""What the tuned model is compared with: the model before training, and what may be had without any."""

from dataclasses import dataclass

from ftkit.evaluation.evidence import BASELINE
from ftkit.evaluation.measure import Measurement, Outputs, assess, is_finite
from ftkit.evaluation.verdict import Directions, headline, trivial_flag
from ftkit.metrics.names import shown_name
from ftkit.models.as_loaded import is_drawn
from ftkit.models.label_scale import base_of
from ftkit.recipe.schema import Recipe
from ftkit.training.dispatcher import Parts
from ftkit.units import number


def trivial_baseline(recipe: Recipe, parts: Parts, tuned: Measurement, metric: str) -> dict[str, Measurement]:
    """What may be foretold without reading, by name: a fresh head's baseline means little beside it."""
    outputs = tuned.outputs
    found = parts.task.trivial_baseline(outputs.prediction, metric) if outputs else None
    if outputs is None or found is None:
        return {}
    name, prediction = found
    return {name: assess(Outputs(prediction, [], outputs.rows), parts.task, recipe.evaluation, recipe.spec)}


@dataclass(frozen=True)
class Compared:
    """What the tuned model is compared with: the baseline, what is trivial, and further ones, as examples in the prompt.

    Attributes:
        drawn_head: a head of the baseline was drawn at random, so that it is no baseline worth beating.
    """

    metric: str
    baseline: Measurement | None
    trivial: dict[str, Measurement]
    others: dict[str, Measurement]
    drawn_head: bool

    @property
    def references(self) -> dict[str, Measurement]:
        """What a verdict goes by; a head drawn at random only where nothing else has the metric."""
        known = any(self.metric in one.metrics for one in self.trivial.values())
        counts = self.baseline is not None and not (self.drawn_head and known)
        return {**({BASELINE: self.baseline} if counts and self.baseline else {}), **self.trivial}

    def note(self, against: str) -> str:
        """What a verdict adds on a head that was drawn at random."""
        if self.baseline is None or not self.drawn_head:
            return ""
        if against == BASELINE:
            return " Its head was drawn at random: to be better than that says little."
        if self.metric not in self.baseline.metrics:
            return ""
        figure = f"{shown_name(self.metric, self.baseline.details)} {number(self.baseline.metrics[self.metric])}"
        return f" The untrained model, its head drawn at random, has {figure}, and is no baseline."


def compared(
    recipe: Recipe, parts: Parts, baseline: Measurement | None, others: dict[str, Measurement], tuned: Measurement,
    better: Directions,
) -> Compared:  # fmt: skip
    """What stands beside the tuned model, by the metric that the verdict is about."""
    metric = headline(tuned, better, chosen=recipe.evaluation.metrics is not None)
    head, model = parts.task.head, base_of(parts.model)
    return Compared(
        metric, baseline, trivial_baseline(recipe, parts, tuned, metric), others,
        drawn_head=is_drawn(model) or (head is not None and not head.kept),
    )  # fmt: skip


def remarks(parts: Parts, beside: Compared, tuned: Measurement, better: Directions) -> list[str]:
    """Flags of a model that learnt little: it says one thing of all rows, or is no better than what takes no training."""
    outputs = tuned.outputs
    if outputs is None or not is_finite(outputs.prediction):
        return []
    said = parts.task.constant(outputs.prediction)
    higher = better.get(beside.metric) is not False
    without = {**beside.trivial, **beside.others}
    return [
        *([f"the tuned model predicts {said}"] if said else []),
        *(flag for name, one in without.items() for flag in trivial_flag(tuned, name, one, beside.metric, higher=higher)),
    ]
