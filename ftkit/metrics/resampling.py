"""Metrics as functions of how much each row counts, so that a bootstrap draws rows and not numbers.

A draw of n rows with repeats is a weight a row: how often it was drawn. Most metrics follow from sums over rows, and a
thousand draws of those are one product of matrices; ranks follow from sums in the order of the scores.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

CHUNK = 50  # draws at a time, so that memory is this many weights a row


@dataclass(frozen=True)
class Resampler:
    """A metric over `rows` rows for any weights of theirs: shape (draws, rows) becomes (draws,)."""

    rows: int
    compute: Callable[[np.ndarray], np.ndarray]

    def value(self) -> float:
        """The metric over the rows as they are."""
        return float(self.compute(np.ones((1, self.rows)))[0])


def of_sums(rows: np.ndarray, finish: Callable[[np.ndarray], np.ndarray]) -> Resampler:
    """A metric that follows from sums over rows.

    Args:
        rows: what a row adds to each sum, shape (rows, sums).
        finish: the metric of the sums, shape (draws, sums) becomes (draws,).
    """
    values = rows.astype(np.float64)
    return Resampler(len(values), lambda weights: finish(weights @ values))


def of_means(values: np.ndarray) -> Resampler:
    """The mean over rows, of values of shape (rows,)."""
    return of_ratio(values, np.ones(len(values)))


def of_ratio(above: np.ndarray, below: np.ndarray) -> Resampler:
    """One sum over rows divided by another, as the loss a token; 0 where both are none."""
    return of_sums(np.stack([above, below], axis=1), lambda sums: ratio(sums[:, 0], sums[:, 1]))


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
    return Resampler(len(found), lambda weights: metric.compute(weights[:, group]))


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

    return Resampler(len(scores), compute)


def of_correlation(one: np.ndarray, other: np.ndarray) -> Resampler:
    """Pearson's correlation of two columns of shape (rows,); NaN where one of them does not vary."""
    one, other = one - one.mean(), other - other.mean()  # the same correlation, and no loss of digits
    columns = np.stack([np.ones_like(one), one, other, one * other, one**2, other**2], axis=1)
    return of_sums(columns, lambda sums: correlation(*sums.T))


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

    return Resampler(len(one), compute)


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
