"""Where the tuned model fails: confusion, slices with their intervals, worst rows, and the answers that changed most."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ftkit.evaluation.measure import Measurement
from ftkit.metrics.estimates import RESAMPLES
from ftkit.metrics.intervals import share_interval, unpaired_interval
from ftkit.metrics.resampling import Share, draws, ratio
from ftkit.metrics.scales import Interval, mean_interval, spread_percentiles

SHOWN_ROWS = 20
SHOWN_SLICES = 50
SMALLEST_SLICE = 5
MOST_VALUES = 30  # a column with more of them is no property to slice by
CONFIDENCES = (0.6, 0.8, 0.95)
LENGTH_PARTS = 4


@dataclass(frozen=True)
class Slices:
    """Rows that share a property: what it is, its value, and which rows have it, shape (slices, rows)."""

    by: list[str]
    values: list[str]
    members: np.ndarray


def analyse(
    rows: list[dict[str, Any]], names: list[str], baseline: Measurement | None, tuned: Measurement,
    labels: tuple[list[str], np.ndarray, np.ndarray] | None, baseline_labels: np.ndarray | None,
    properties: dict[str, list[Any]], sign: int, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """What analysis.json says.

    Args:
        rows: those of predictions.jsonl.
        names: of the rows, as `eval.jsonl row 3`.
        labels: of a classification, their names, and the true and the predicted label of each row or word.
        sign: -1 where less of the metric that quality is made of is better, else 1.
        baseline_labels: what the baseline predicted.
        properties: what slices are made by; a value a row, None where a row has none.
        seed: of the bootstrap.
    """
    quality, judged = tuned.quality, tuned.judged
    rows, names = [rows[index] for index in judged], [names[index] for index in judged]
    groups = np.array([row["row"] for row in tuned.rows])[judged]
    slices = make_slices({by: [values[index] for index in judged] for by, values in properties.items()})
    return {
        "confusion": confusion(*labels, before=baseline_labels) if labels else None,
        "per_label": tuned.by_label,
        "slices": judge_slices(slices, quality, groups, tuned.quality_name, sign, seed),
        "worst": worst_rows(rows, names, quality, sign),
        "changed": changed_rows(rows, names, baseline, tuned),
    }


def confusion(names: list[str], true: np.ndarray, predicted: np.ndarray, before: np.ndarray | None) -> dict[str, Any]:
    """Counts of predicted labels (columns) by true label (rows), of the tuned model and of the baseline."""
    from sklearn import metrics as sk  # half a second that tasks without labels need not take

    counts, counts_before = (
        None if found is None else sk.confusion_matrix(true, found, labels=range(len(names))).tolist()
        for found in (predicted, before)
    )
    return {"labels": names, "counts": counts, "baseline_counts": counts_before}


def make_slices(properties: dict[str, list[Any]]) -> Slices:
    """Groups of rows by each property: numbers by quarter, or by steps of confidence; words by value."""
    found = [entry for by, values in properties.items() for entry in _grouped(by, values)]
    kept = [entry for entry in found if SMALLEST_SLICE <= entry[2].sum() < len(entry[2])]
    members = np.array([entry[2] for entry in kept], dtype=bool)
    return Slices([by for by, *_ in kept], [value for _, value, _ in kept], members)


def _grouped(by: str, values: list[Any]) -> Iterator[tuple[str, str, np.ndarray]]:
    if all(isinstance(value, int | float) for value in values) and len(set(values)) > LENGTH_PARTS:
        numbers = np.array(values, dtype=np.float64)
        quarters = np.quantile(numbers, np.linspace(0, 1, LENGTH_PARTS + 1)[1:-1])
        if (numbers == numbers.round()).all():
            quarters = np.floor(quarters)  # the same groups, and no halves of a token
        quarters = np.unique(quarters)
        for low, high in pairwise([-np.inf, *(CONFIDENCES if by == "confidence" else quarters), np.inf]):
            name = f"over {low:g}" if high == np.inf else f"up to {high:g}" if low == -np.inf else f"{low:g} to {high:g}"
            yield by, name, (numbers > low) & (numbers <= high)
        return
    known = {str(value) for value in values if value is not None}
    if 1 < len(known) <= MOST_VALUES:
        for name in sorted(known):
            yield by, name, np.array([value is not None and str(value) == name for value in values])


def judge_slices(
    slices: Slices, quality: np.ndarray, groups: np.ndarray, metric: str, sign: int, seed: int
) -> list[dict[str, Any]]:
    """Each slice's mean, and its difference from the other rows, with intervals; the surest failures first.

    Args:
        groups: which of the user's rows each is an answer of; those of one are drawn together.
    """
    if not len(slices.by):
        return []
    _, group = np.unique(groups, return_inverse=True)
    if sign > 0 and ((quality >= 0) & (quality <= 1)).all():
        found = [judge_shares(quality, members, group) for members in slices.members]
    else:
        found = judge_means(slices.members, quality, group, seed)
    entries = []
    for by, value, members, (mean, gap) in zip(slices.by, slices.values, slices.members, found, strict=True):
        score, overall = float(quality[members].mean()), float(quality.mean())
        difference = score - float(quality[~members].mean())
        entry = {"by": by, "value": value, "rows": int(members.sum()), "metric": metric}
        entry |= {"score": sign * score, "interval": sorted(sign * bound for bound in mean), "overall": sign * overall}
        entry |= {"difference": sign * difference, "difference_interval": sorted(sign * bound for bound in gap)}
        entries.append((gap[1], difference, entry))
    ordered = sorted(entries, key=lambda item: (np.isnan(item[0]), *item[:2]))
    return [entry for *_, entry in ordered[:SHOWN_SLICES]]


def judge_shares(quality: np.ndarray, members: np.ndarray, group: np.ndarray) -> tuple[Interval, Interval]:
    """The intervals of a slice's mean and of its difference from the other rows, of what is between wrong and right."""
    inside, rest = (Share(np.bincount(group, quality * part), np.bincount(group, part)) for part in (members, ~members))
    return share_interval(inside), unpaired_interval(inside, rest)


def judge_means(members: np.ndarray, quality: np.ndarray, group: np.ndarray, seed: int) -> list[tuple[Interval, Interval]]:
    """The same for each slice where quality is no share, as the negative of a loss, by a bootstrap over the rows."""
    inside = members.T.astype(np.float64)
    columns = np.concatenate([inside, inside * quality[:, None], np.ones((len(quality), 1)), quality[:, None]], axis=1)
    sums = np.stack([np.bincount(group, column) for column in columns.T], axis=1)
    drawn = np.concatenate([weights @ sums for weights in draws(len(sums), RESAMPLES, seed)])
    means, gaps = (found.T for found in _means_and_gaps(drawn, len(members)))
    sizes = [len(np.unique(group[part])) for part in members]
    best = 0.0 if (quality <= 0).all() else np.inf  # no loss is below 0
    found = []
    for part, mean, gap, size in zip(members, means, gaps, sizes, strict=True):
        mean, gap = mean[np.isfinite(mean)], gap[np.isfinite(gap)]  # the draws that have such rows at all
        low, high = mean_interval(float(quality[part].mean()), mean, size)
        found.append(([low, min(high, best)], spread_percentiles(gap, size)))
    return found


def _means_and_gaps(sums: np.ndarray, slices: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean quality in each slice, and how far it is above that of the other rows, from sums of shape (draws, …)."""
    counts, totals, everyone, total = sums[:, :slices], sums[:, slices : 2 * slices], sums[:, -2:-1], sums[:, -1:]
    inside = np.where(counts > 0, ratio(totals, counts), np.nan)
    rest = everyone - counts
    return inside, inside - np.where(rest > 0, ratio(total - totals, rest), np.nan)


def worst_rows(rows: list[dict[str, Any]], names: list[str], quality: np.ndarray, sign: int) -> list[dict[str, Any]]:
    """The rows with the lowest quality; among equals those of which the model was surest."""
    sure = np.array([row["tuned"].get("probability") or 0.0 for row in rows])
    order = np.lexsort((-sure, quality))[:SHOWN_ROWS]
    best = quality.max(initial=-np.inf)
    return [shown_row(rows[i], names[i], sign * float(quality[i])) for i in order if quality[i] < best]


def shown_row(row: dict[str, Any], name: str, score: float) -> dict[str, Any]:
    given = {key: value for key, value in row.items() if key not in ("row", "name", "baseline", "tuned")}
    return {"row": name, **given, **row["tuned"], "score": round(score, 6)}


def changed_rows(
    rows: list[dict[str, Any]], names: list[str], baseline: Measurement | None, tuned: Measurement
) -> list[dict[str, Any]]:
    """The generated answers whose score moved most, for better or worse."""
    if baseline is None or not rows or rows[0]["tuned"].get("generated") is None:
        return []
    order = np.argsort(-np.abs(tuned.quality - baseline.quality), kind="stable")[:SHOWN_ROWS]
    return [
        {
            "row": names[i], "prompt": rows[i]["prompt"], "target": rows[i]["target"],
            "baseline": rows[i]["baseline"]["generated"], "tuned": rows[i]["tuned"]["generated"],
            "baseline_score": round(float(baseline.quality[i]), 6), "tuned_score": round(float(tuned.quality[i]), 6),
        }
        for i in order
        if rows[i]["baseline"]["generated"] != rows[i]["tuned"]["generated"]
    ]  # fmt: skip
