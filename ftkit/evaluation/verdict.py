"""Did fine-tuning help? One sentence, against the best that could be had without it.

That is what may be foretold without reading, as the majority class, or the untrained model; a head that was drawn at random
is as trivial, and makes a verdict stricter or leaves it. The sentence is about the first metric that knows better from
worse, and tells what became of the others: no single metric hides a model that collapsed, or one that learnt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from ftkit.data.scripts import count_words
from ftkit.evaluation.evidence import BASELINE
from ftkit.evaluation.measure import Measurement, targets_of
from ftkit.metrics.names import shown_name
from ftkit.metrics.text import references_of
from ftkit.recipe.tasks import HEALTH_METRICS
from ftkit.units import number, signed

BETTER, WORSE, SAME, UNSURE = "better", "worse", "no change", "unsure"
NO_BETTER, PARTLY, MIXED, DIVERGED, NO_BASELINE = "no better", "partly", "mixed", "diverged", "no baseline"
STRICTEST_FIRST = (WORSE, NO_BETTER, SAME, UNSURE, MIXED, PARTLY, BETTER)

LOW_STOP_RATE = 0.9
HIGH_EMPTY_RATE = 0.05
HIGH_REPETITION = 0.2
FORGOTTEN = 0.05  # of the baseline's loss on general text
EXACT = "exact_match"
SHORT, FEW = 3, 0.5  # words of a reference that can be matched exactly; distinct references, as a share of all
NAMED = 4  # metrics beside the first that a sentence has figures of, each way


@dataclass(frozen=True)
class Verdict:
    """One sentence, and what it is about.

    Attributes:
        state: better, worse, no change, no better (than what is trivial), unsure, partly (better in other metrics than the
            first), mixed, diverged, or no baseline.
        against: what the tuned model was compared with, by its name in metrics.json; empty where with nothing.
    """

    state: str
    metric: str
    sentence: str
    against: str = ""


@dataclass(frozen=True)
class Change:
    """One metric of the tuned model, and of what it is compared with; `low` and `high` bound their difference.

    Attributes:
        shown: the name under which the metric is shown.
    """

    metric: str
    shown: str
    before: float
    after: float
    low: float
    high: float
    higher: bool

    @property
    def way(self) -> str:
        if self.low > 0 or self.high < 0:
            return BETTER if (self.low > 0) == self.higher else WORSE
        return SAME if self.before == self.after else UNSURE

    @property
    def gains(self) -> bool:
        """Whether the figure itself is the better one, be that chance or not."""
        return (self.after - self.before) * (1 if self.higher else -1) > 0

    def words(self, name: str) -> str:
        """Both figures; an arrow leads from a model to the same one after training, and from nothing else.

        Args:
            name: of what the tuned model is compared with.
        """
        if name != BASELINE:
            return f"{self.shown} {number(self.after)} against {number(self.before)}"
        return f"{self.shown} {number(self.before)} → {number(self.after)}"


Interval = Mapping[str, Any]  # as `ftkit.evaluation.evidence.intervals` makes them
Directions = Mapping[str, bool | None]  # of each metric, whether higher is better


def headline(tuned: Measurement, higher: Directions, *, chosen: bool) -> str:
    """The metric that the verdict is about: the first that knows better from worse.

    Args:
        chosen: the recipe names the metrics, and so their order. Else exact match stands back where no model of free text
            can be expected to find the very words.
    """
    ranked = [name for name in tuned.metrics if higher.get(name) is not None] or list(tuned.metrics)
    answers = tuned.outputs.answers if tuned.outputs else []
    if not chosen and len(ranked) > 1 and not few_valued([targets_of(answer) for answer in answers]):
        ranked = [name for name in ranked if name != EXACT]
    return ranked[0]


def few_valued(targets: Sequence[str | list[str]]) -> bool:
    """Whether references are short and repeat, as labels do."""
    firsts = [references_of(target)[0].strip().casefold() for target in targets]
    if not firsts:
        return True
    return median(map(count_words, firsts)) <= SHORT and len(set(firsts)) <= max(2, FEW * len(firsts))


def verdict(
    tuned: Measurement, references: Mapping[str, Measurement], intervals: Interval, higher: Directions, metric: str,
    *, drawn_head: bool = False,
) -> Verdict:  # fmt: skip
    """Whether fine-tuning helped.

    Args:
        references: what needs no fine-tuning, by the names that `intervals` has: the best of them is what counts.
        metric: that the sentence is about first.
        drawn_head: a head of the untrained model was drawn at random. Where that is the best by luck, the next best counts
            if the verdict against it is stricter.
    """
    if broken := no_numbers(tuned, metric):
        return Verdict(DIVERGED, metric, f"The tuned model is broken: {broken}; try a lower learning_rate.")
    name = best_reference(references, metric, higher=higher.get(metric) is not False)
    if name is None:
        figure = f"{shown_name(metric, tuned.details)} {number(tuned.metrics[metric])}"
        sentence = f"The tuned model has {figure}; there is no baseline to compare it with."
        return Verdict(NO_BASELINE, metric, sentence)
    against = partial(verdict_against, tuned, references, intervals, higher, metric, drawn_head=drawn_head)
    if name == BASELINE and drawn_head:
        rest = {other: one for other, one in references.items() if other != BASELINE}
        if (second := best_reference(rest, metric, higher=higher.get(metric) is not False)) is not None:
            return min(against(name), against(second), key=lambda one: STRICTEST_FIRST.index(one.state))
    return against(name)


def verdict_against(
    tuned: Measurement, references: Mapping[str, Measurement], intervals: Interval, higher: Directions, metric: str,
    name: str, *, drawn_head: bool,
) -> Verdict:  # fmt: skip
    """Whether fine-tuning helped, by one of the references."""
    found = {change.metric: change for change in changes_from(name, references[name], tuned, intervals, higher)}
    first = found.pop(metric)
    others = [change for change in found.values() if change.metric not in HEALTH_METRICS or is_harm(change)]
    trivial = name != BASELINE or drawn_head
    state = judge(first, others, trivial=trivial, still=name == BASELINE and did_not_move(references[name], tuned))
    rows = tuned.resamplers[metric].rows if metric in tuned.resamplers else tuned.count
    return Verdict(state, metric, sentence_of(state, first, others, name, rows, trivial=trivial), name)


def no_numbers(tuned: Measurement, metric: str) -> str:
    """What of a model is no number, in words; empty where all is."""
    outputs = tuned.outputs.prediction.predictions if tuned.outputs else np.zeros((1, 1))
    lost = int((~np.isfinite(outputs.reshape(len(outputs), -1)).all(1)).sum())
    if lost:
        return f"what it gives for {lost:,} of {len(outputs):,} rows is no number"
    return "" if np.isfinite(tuned.metrics[metric]) else f"{shown_name(metric, tuned.details)} is no number"


def best_reference(references: Mapping[str, Measurement], metric: str, *, higher: bool) -> str | None:
    """The name of the one whose metric is best; None where none has it."""
    known = {name: one.metrics[metric] for name, one in references.items() if np.isfinite(one.metrics.get(metric, np.nan))}
    return (max if higher else min)(known, key=lambda name: known[name]) if known else None


def changes_from(
    name: str, reference: Measurement, tuned: Measurement, intervals: Interval, higher: Directions
) -> list[Change]:
    """Every metric that both have and that knows better from worse; a lone metric that does not counts as if more were."""
    drawn = intervals["difference"] if name == BASELINE else intervals["other_baselines"][name]
    shared = [key for key in tuned.metrics if key in reference.metrics and np.isfinite(reference.metrics[key])]
    ranked = [key for key in shared if higher.get(key) is not None] or shared
    ends = {key: drawn.get(key) or (np.nan, np.nan) for key in ranked}
    return [
        Change(
            key,
            shown_name(key, tuned.details),
            reference.metrics[key],
            tuned.metrics[key],
            low,
            high,
            higher=higher.get(key) is not False,
        )
        for key, (low, high) in ends.items()
    ]


def is_harm(change: Change) -> bool:
    """Whether the health of generated text surely fell, and is bad."""
    bad = {
        "stop_rate": change.after < LOW_STOP_RATE,
        "empty_rate": change.after > HIGH_EMPTY_RATE,
        "repetition": change.after > HIGH_REPETITION,
    }
    return change.way == WORSE and bad.get(change.metric, False)


def did_not_move(reference: Measurement, tuned: Measurement) -> bool:
    """Whether the tuned model says of each row exactly what the other says: equal metrics may be chance."""
    if reference.metrics != tuned.metrics or reference.outputs is None or tuned.outputs is None:
        return False
    before, after = reference.outputs, tuned.outputs
    return np.array_equal(before.prediction.predictions, after.prediction.predictions) and before.answers == after.answers


def judge(first: Change, others: list[Change], *, trivial: bool, still: bool) -> str:
    """The state of a verdict, from the first metric and the others.

    Args:
        trivial: the tuned model is compared with something trivial, as a head drawn at random is.
        still: it says of each row what it said before training.
    """
    ways = {change.way for change in others}
    if any(change.metric in HEALTH_METRICS for change in others):
        return MIXED if first.way == BETTER else WORSE
    if first.way in (BETTER, WORSE):
        return first.way
    if ways >= {BETTER, WORSE}:
        return MIXED
    if WORSE in ways:
        return WORSE
    if BETTER in ways:
        return PARTLY
    if still:
        return SAME
    return NO_BETTER if trivial and not first.gains else UNSURE


def sentence_of(state: str, first: Change, others: list[Change], name: str, rows: int, *, trivial: bool) -> str:
    """The verdict in words; of others than the first metric those that surely changed, then those that may have."""
    doubt = f"95 % interval {signed(first.low)} to {signed(first.high)}, {rows:,} rows"
    gap = f"({signed(first.after - first.before)}, {doubt})"
    begin = lead(state, name, trivial=trivial)
    named = reference_words(name)
    if name == BASELINE:
        figures = f"{first.words(name)} {gap}{'' if named in begin else f', against {named}'}"
    else:
        that = "that" if named in begin else named
        figures = f"{first.shown} {number(first.after)}, where {that} has {number(first.before)} {gap}"
    if first.way in (UNSURE, SAME) and state not in (SAME, NO_BETTER):
        figures += f"; whether {first.shown} is better cannot be told from {rows:,} rows"
    return f"{begin}: {figures}{others_words(others, name)}."


def lead(state: str, name: str, *, trivial: bool) -> str:
    """How a sentence begins."""
    return {
        BETTER: "Fine-tuning helped",
        WORSE: f"Worse than {reference_words(name)}" if trivial else "Fine-tuning did harm",
        SAME: "No change",
        NO_BETTER: f"No better than {reference_words(name)}",
        UNSURE: f"Not sure that it is better than {reference_words(name)}" if trivial else "Not sure that anything changed",
        PARTLY: "Fine-tuning helped in part",
        MIXED: "Fine-tuning helped and did harm",
    }[state]


def reference_words(name: str) -> str:
    return "the untrained model" if name == BASELINE else f"the {name}"


def others_words(others: list[Change], name: str) -> str:
    """What became of the metrics beside the first, the surest first."""
    found = []
    for way, words in ((BETTER, "better"), (WORSE, "worse"), (UNSURE, "not sure"), (SAME, "the same")):
        named = [change.words(name) if way != SAME else change.shown for change in others if change.way == way]
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        found += [f"; {words}: {', '.join(named[:NAMED])}{more}"] if named else []
    return "".join(found)


def trivial_flag(tuned: Measurement, name: str, reference: Measurement, metric: str, *, higher: bool) -> list[str]:
    """That the tuned model's figure is not above that of something trivial, where it is not."""
    before, after = reference.metrics.get(metric), tuned.metrics[metric]
    if before is None or not np.isfinite(before) or (after - before) * (1 if higher else -1) > 0:
        return []
    return [
        f"no better than the {name}: {shown_name(metric, tuned.details)} {number(after)}, where that has {number(before)}"
    ]


def flags(baseline: Measurement | None, tuned: Measurement, intervals: Interval, lost: dict[str, Any] | None) -> list[str]:
    """What is wrong with the generated text or with what was forgotten, whatever the metrics say."""
    found, after = [], tuned.metrics
    before = baseline.metrics if baseline else {}
    was = {name: f", the baseline {100 * before[name]:.0f} %" if name in before else "" for name in after}
    if "stop_rate" in after:
        fell = intervals.get("difference", {}).get("stop_rate", (0, 0))[1] < 0
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
