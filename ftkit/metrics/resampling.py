"""Metrics as functions of how much each row counts, so that a bootstrap draws rows and not numbers.

A draw of n rows with repeats is a weight a row: how often it was drawn. Most metrics follow from sums over rows, and a
thousand draws of those are one product of matrices; ranks follow from sums in the order of the scores.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

CHUNK = 50  # draws at a time, so that memory is this many weights a row


class Kind(IntEnum):
    """What a metric is made of, which says how `metrics/intervals.py` finds its interval; files keep the number."""

    ANY = 0  # nothing is known of it
    TRIALS = 1  # as a share: worth so many trials, each between the least and the largest value
    MEAN = 2  # a mean or a quotient of sums over rows, as a loss
    EXPONENTIAL = 3  # of such, as the perplexity
    EXPLAINED = 4  # 1 less a quotient of squares, as R²
    CORRELATION = 5
    AREA = 6  # under a ROC curve
    GAPS = 7  # a sum of absolute gaps, which few rows make too large
    UNDEFINED = 8  # 0 by definition, of rows that tell nothing of it


class Bounds(NamedTuple):
    """The least and the largest value of a metric, infinite where there is none.

    Attributes:
        counted: it is made of right and wrong alone.
    """

    least: float
    most: float
    counted: bool
    kind: Kind = Kind.TRIALS

    @property
    def width(self) -> float:
        return self.most - self.least


UNBOUNDED = Bounds(-np.inf, np.inf, False, Kind.ANY)
SHARE_BOUNDS = Bounds(0, 1, counted=True)
MEAN_BOUNDS = Bounds(-np.inf, np.inf, False, Kind.MEAN)
POSITIVE_BOUNDS = Bounds(0, np.inf, False, Kind.MEAN)
AREA_BOUNDS = Bounds(0, 1, True, Kind.AREA)
CORRELATION_BOUNDS = Bounds(-1, 1, False, Kind.CORRELATION)


@dataclass(frozen=True)
class Share:
    """What a metric is a share of: what each row adds to the hits and to the trials, shape (rows,) each.

    Attributes:
        jaccard: the share is a Jaccard index, and the metric the F1 that follows from it.
    """

    hits: np.ndarray
    trials: np.ndarray
    jaccard: bool = False

    def metric(self, share: Any) -> Any:
        """What the metric is for such a share."""
        return 2 * share / (1 + share) if self.jaccard else share

    @property
    def is_counted(self) -> bool:
        """Whether each trial is right or wrong, and nothing between."""
        return bool((self.hits % 1 == 0).all() and (self.trials % 1 == 0).all())

    @property
    def is_plain(self) -> bool:
        """Whether no row has more than one trial."""
        return self.is_counted and bool((self.trials <= 1).all())


@dataclass(frozen=True)
class Resampler:
    """A metric over `rows` rows for any weights of theirs: shape (draws, rows) becomes (draws,).

    Attributes:
        share: what it is a share of, where it is one; a metric that is has the bounds 0 and 1.
    """

    rows: int
    compute: Callable[[np.ndarray], np.ndarray]
    bounds: Bounds = UNBOUNDED
    share: Share | None = None

    def value(self) -> float:
        """The metric over the rows as they are."""
        return float(self.compute(np.ones((1, self.rows)))[0])


def of_sums(rows: np.ndarray, finish: Callable[[np.ndarray], np.ndarray], bounds: Bounds = UNBOUNDED) -> Resampler:
    """A metric that follows from sums over rows.

    Args:
        rows: what a row adds to each sum, shape (rows, sums).
        finish: the metric of the sums, shape (draws, sums) becomes (draws,).
    """
    values = rows.astype(np.float64)
    return Resampler(len(values), lambda weights: finish(weights @ values), bounds)


def of_share(hits: np.ndarray, trials: np.ndarray | None = None, *, jaccard: bool = False) -> Resampler:
    """Hits of trials, of which a row has one if no other number is given; hits may be a part of one, as a ROUGE.

    Args:
        jaccard: hits and trials are those of a Jaccard index, and the metric is the F1 that follows from it.
    """
    share = Share(hits.astype(np.float64), np.ones(len(hits)) if trials is None else trials.astype(np.float64), jaccard)

    def finish(sums: np.ndarray) -> np.ndarray:
        above, below = sums.T
        return ratio(2 * above, above + below) if jaccard else ratio(above, below)

    found = of_sums(np.stack([share.hits, share.trials], axis=1), finish, SHARE_BOUNDS)
    return replace(found, share=share)


def f_shares(hits: np.ndarray, found: np.ndarray, wanted: np.ndarray) -> dict[str, Resampler]:
    """Precision, recall and F1 from what each row adds to what is right, was found and was to be found."""
    return {
        "precision": of_share(hits, found),
        "recall": of_share(hits, wanted),
        "f1": of_share(hits, found + wanted - hits, jaccard=True),
    }


def of_means(values: np.ndarray, bounds: Bounds = MEAN_BOUNDS) -> Resampler:
    """The mean over rows, of values of shape (rows,)."""
    return of_ratio(values, np.ones(len(values)), bounds)


def of_ratio(above: np.ndarray, below: np.ndarray, bounds: Bounds = MEAN_BOUNDS) -> Resampler:
    """One sum over rows divided by another, as the loss a token; 0 where both are none."""
    return of_sums(np.stack([above, below], axis=1), lambda sums: ratio(sums[:, 0], sums[:, 1]), bounds)


def of_nothing(rows: int) -> Resampler:
    """What cannot be had of these rows, whatever they weigh."""
    return Resampler(rows, lambda weights: np.full(len(weights), np.nan))


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Elementwise quotient, 0 where the divisor is."""
    return np.divide(above, below, out=np.zeros_like(above, dtype=np.float64), where=below != 0)


def by_group(metric: Resampler, groups: Sequence[int]) -> Resampler:
    """The metric over rows that are drawn in groups, as the answers of one chat, which are not independent of each other.

    Args:
        groups: which group each row is of.
    """
    found, group = np.unique(np.asarray(groups), return_inverse=True)
    if len(found) == metric.rows:
        return metric
    share = metric.share
    if share is not None:
        share = replace(share, hits=np.bincount(group, share.hits), trials=np.bincount(group, share.trials))
    return Resampler(len(found), lambda weights: metric.compute(weights[:, group]), metric.bounds, share)


def draws(rows: int, count: int, seed: int) -> Iterator[np.ndarray]:
    """Weights of `count` draws of so many rows with repeats, in chunks of shape (≤ CHUNK, rows)."""
    random = np.random.default_rng(seed)
    for first in range(0, count, CHUNK):
        chosen = random.integers(0, rows, (min(CHUNK, count - first), rows))
        yield np.stack([np.bincount(line, minlength=rows) for line in chosen]).astype(np.float64)


def of_ranks_auc(scores: np.ndarray, positive: np.ndarray) -> Resampler:
    """The area under the ROC curve: the chance that a positive row scores above a negative one, ties counting half.

    Args:
        scores: shape (rows,).
        positive: shape (rows,), whether a row is positive; a draw without either kind has no area, and is NaN.
    """
    _, group = np.unique(scores, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))

    def compute(weights: np.ndarray) -> np.ndarray:
        up = np.add.reduceat((weights * positive)[:, order], starts, axis=1)
        down = np.add.reduceat((weights * ~positive)[:, order], starts, axis=1)
        below = np.cumsum(down, axis=1) - down
        pairs = up.sum(1) * down.sum(1)
        return np.where(pairs > 0, ratio((up * (below + down / 2)).sum(1), pairs), np.nan)

    return Resampler(len(scores), compute, AREA_BOUNDS)


def of_correlation(one: np.ndarray, other: np.ndarray) -> Resampler:
    """Pearson's correlation of two columns of shape (rows,); NaN where one of them does not vary."""
    one, other = one - one.mean(), other - other.mean()  # the same correlation, and no loss of digits
    columns = np.stack([np.ones_like(one), one, other, one * other, one**2, other**2], axis=1)
    return of_sums(columns, lambda sums: correlation(*sums.T), CORRELATION_BOUNDS)


def correlation(n: np.ndarray, x: np.ndarray, y: np.ndarray, xy: np.ndarray, xx: np.ndarray, yy: np.ndarray) -> np.ndarray:
    """Pearson's correlation from a count and five sums."""
    spread = np.sqrt(np.maximum(n * xx - x**2, 0) * np.maximum(n * yy - y**2, 0))
    return np.where(spread > 0, ratio(n * xy - x * y, spread), np.nan)


def of_rank_correlation(one: np.ndarray, other: np.ndarray) -> Resampler:
    """Spearman's correlation: Pearson's of the ranks within a draw, equal values sharing their mean rank."""
    ranks = [weighted_ranks(column) for column in (one, other)]

    def compute(weights: np.ndarray) -> np.ndarray:
        x, y = (rank(weights) for rank in ranks)
        sums = [(weights * column).sum(1) for column in (np.ones_like(x), x, y, x * y, x**2, y**2)]
        return correlation(*sums)

    return Resampler(len(one), compute, CORRELATION_BOUNDS)


def weighted_ranks(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The mean rank of each row within a draw, for weights of shape (draws, rows), less the middle rank."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))

    def rank(weights: np.ndarray) -> np.ndarray:
        drawn = np.add.reduceat(weights[:, order], starts, axis=1)
        ranks: np.ndarray = (np.cumsum(drawn, axis=1) - drawn / 2)[:, group] - weights.sum(1, keepdims=True) / 2
        return ranks

    return rank
