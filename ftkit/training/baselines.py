"""What the tuned model is compared with: the model before training, and what may be had without any."""

from dataclasses import dataclass

import numpy as np

from ftkit.evaluation.evidence import BASELINE
from ftkit.evaluation.measure import Measurement, Outputs, assess, is_finite
from ftkit.evaluation.verdict import Directions, best_reference, headline, trivial_flag
from ftkit.metrics.names import shown_name
from ftkit.models.as_loaded import is_drawn
from ftkit.models.label_scale import base_of
from ftkit.recipe.schema import Recipe
from ftkit.training.dispatcher import Parts
from ftkit.units import number


def trivial_baseline(recipe: Recipe, parts: Parts, tuned: Measurement, metric: str) -> dict[str, Measurement]:
    """What may be foretold without reading, by name; where a head is fresh, seldom is the untrained model better."""
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
        higher: whether more of the metric is better.
        drawn_head: a head of the baseline was drawn at random, so that to beat it alone says little.
    """

    metric: str
    higher: bool
    baseline: Measurement | None
    trivial: dict[str, Measurement]
    others: dict[str, Measurement]
    drawn_head: bool

    @property
    def references(self) -> dict[str, Measurement]:
        """What a verdict goes by; of two that are alike the first, which a head drawn at random is not."""
        untrained = {BASELINE: self.baseline} if self.baseline else {}
        return {**self.trivial, **untrained} if self.drawn_head else {**untrained, **self.trivial}

    def note(self, against: str) -> str:
        """What a verdict adds on a head that was drawn at random."""
        if self.baseline is None or not self.drawn_head:
            return ""
        known = {name: one for name, one in self.trivial.items() if np.isfinite(one.metrics.get(self.metric, np.nan))}
        if against == BASELINE:
            if not known:
                return " Its head was drawn at random: to be better than that says little."
            name, other = next(iter(known.items()))
            return (
                f" Its head was drawn at random, yet it is the better of the two here: the {name} has {self._figure(other)}."
            )
        if against not in known or self.metric not in self.baseline.metrics:
            return ""
        better = best_reference(self.references, self.metric, higher=self.higher) == BASELINE
        rank = "the better of the two, but the verdict against that is milder" if better else "not the better of the two"
        return f" The untrained model, its head drawn at random, has {self._figure(self.baseline)}; it is {rank}."

    def _figure(self, one: Measurement) -> str:
        return f"{shown_name(self.metric, one.details)} {number(one.metrics[self.metric])}"


def compared(
    recipe: Recipe, parts: Parts, baseline: Measurement | None, others: dict[str, Measurement], tuned: Measurement,
    better: Directions,
) -> Compared:  # fmt: skip
    """What stands beside the tuned model, by the metric that the verdict is about."""
    metric = headline(tuned, better, chosen=recipe.evaluation.metrics is not None)
    head, model = parts.task.head, base_of(parts.model)
    return Compared(
        metric, better.get(metric) is not False, baseline, trivial_baseline(recipe, parts, tuned, metric), others,
        drawn_head=is_drawn(model) or (head is not None and not head.kept),
    )  # fmt: skip


def remarks(parts: Parts, beside: Compared, tuned: Measurement) -> list[str]:
    """Flags of a model that learnt little: it says one thing of all rows, or is no better than what takes no training."""
    outputs = tuned.outputs
    if outputs is None or not is_finite(outputs.prediction):
        return []
    said = parts.task.constant(outputs.prediction)
    without = {**beside.trivial, **beside.others}
    return [
        *([f"the tuned model predicts {said}"] if said else []),
        *(
            flag
            for name, one in without.items()
            for flag in trivial_flag(tuned, name, one, beside.metric, higher=beside.higher)
        ),
    ]
