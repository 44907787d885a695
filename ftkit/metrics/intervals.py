"""95 % intervals of metrics and of their differences on the same rows, also at the edges, where a bootstrap has no width.

- A share of independent trials, as an accuracy, or the Jaccard index that an F1 follows from: Wilson's score interval, and
  Clopper and Pearson's exact one where few trials are on one side (Brown, Cai and DasGupta, 2001).
- Any other metric between two bounds, as ROUGE or a mean of F1 over labels: the same, of as many trials as the bootstrap's
  variance stands for (Korn and Graubard, 1998). Rows drawn together, as the answers of one chat, count so too.
- What is no share, as a loss, R², a correlation, an area or the calibration error: Student's t of the bootstrap on a scale
  of its own (metrics/scales.py). Where all draws are equal it has the interval of trials if it has two bounds; else nothing
  can be said, and both ends are NaN.
- Differences of right and wrong on the same rows: Tango's score interval (1998). Of other bounded metrics: Newcombe's square
  and add (1998, method 10; Zou and Donner's MOVER, 2008), with the correlation that the paired draws have. Of what has no
  bounds, and of the calibration error: Student's t.

benchmarks/coverage.py shows how often each holds the true value.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.special import betaincinv, ndtri

from ftkit.metrics.resampling import UNBOUNDED, Bounds, Kind, Share
from ftkit.metrics.scales import (
    CLOSE,
    TAIL,
    UNKNOWN,
    Interval,
    area_interval,
    correlation_interval,
    explained_interval,
    exponential_interval,
    gaps_interval,
    is_still,
    mean_interval,
    spread_percentiles,
    student,
    student_interval,
)

Z = float(ndtri(1 - TAIL))
FEW = 5  # trials on one side, below which the exact interval is taken
BY_KIND: dict[Kind, Callable[[float, np.ndarray, int], Interval]] = {
    Kind.ANY: lambda value, draws, rows: spread_percentiles(draws, rows),
    Kind.MEAN: mean_interval,
    Kind.EXPONENTIAL: exponential_interval,
    Kind.EXPLAINED: explained_interval,
    Kind.CORRELATION: correlation_interval,
    Kind.AREA: area_interval,
    Kind.GAPS: gaps_interval,
}


@dataclass(frozen=True)
class Estimate:
    """A metric of one model.

    Attributes:
        draws: the metric over the bootstrap's draws, shape (draws,); the draws of another model's are the same rows.
        rows: how many rows there are, those that are drawn together being one.
        share: the trials that it follows from, where it does.
    """

    value: float
    draws: np.ndarray = field(repr=False)
    rows: int
    bounds: Bounds = UNBOUNDED
    share: Share | None = field(default=None, repr=False)

    def interval(self) -> Interval:
        """Where the metric of all rows that there could be lies, with 95 % confidence."""
        finite = self.draws[np.isfinite(self.draws)]
        if not len(finite) or not np.isfinite(self.value):
            return UNKNOWN
        if self.share is not None:
            low, high = share_interval(self.share)
            return [float(self.share.metric(low)), float(self.share.metric(high))]
        least, most = self.bounds.least, self.bounds.most
        if self.bounds.kind is Kind.UNDEFINED:
            return [least, most]
        found = BY_KIND[self.bounds.kind](self.value, finite, self.rows) if self.bounds.kind in BY_KIND else UNKNOWN
        if np.isnan(found[0]) and np.isfinite(self.bounds.width):
            found = self._of_trials(finite)
        return [max(found[0], least), min(found[1], most)]

    def _of_trials(self, draws: np.ndarray) -> Interval:
        """That of as many trials between the bounds as the draws' variance stands for."""
        least, width = self.bounds.least, self.bounds.width
        place = min(max((self.value - least) / width, 0.0), 1.0)
        trials = trials_of(place, float(draws.var()) / width**2 * self.rows / max(self.rows - 1, 1), self.rows)
        trials = min(trials, self.rows) if self.bounds.counted else trials
        return [least + width * end for end in proportion_interval(place, trials)]


def difference_interval(one: Estimate, other: Estimate) -> Interval:
    """Where the difference of two models' metrics lies, measured on the same rows."""
    if one.share is not None and other.share is not None and are_paired(one.share, other.share):
        return paired_interval(one.share, other.share)
    gaps = one.draws - other.draws
    unbounded = not np.isfinite(one.bounds.width + other.bounds.width)
    if unbounded or (one.bounds.kind is Kind.GAPS and not is_still(gaps, one.rows)):
        return student_interval(one.value - other.value, gaps, one.rows)
    return square_and_add(one, other)


def proportion_interval(share: float, trials: float) -> Interval:
    """Of `share` of so many trials: Clopper and Pearson's where few are on one side, else Wilson's."""
    few = min(share, 1 - share) * trials < FEW
    return clopper_pearson(share * trials, trials) if few else wilson(share, trials)


def clopper_pearson(hits: float, trials: float) -> Interval:
    """The exact interval; the trials need not be whole, as where they are worth less than their number."""
    misses = trials - hits
    low = 0.0 if hits <= CLOSE else float(betaincinv(hits, misses + 1, TAIL))
    high = 1.0 if misses <= CLOSE else float(betaincinv(hits + 1, misses, 1 - TAIL))
    return [low, high]


def wilson(share: float, trials: float) -> Interval:
    shrunk = 1 + Z**2 / trials
    middle = (share + Z**2 / (2 * trials)) / shrunk
    half = Z / shrunk * np.sqrt(share * (1 - share) / trials + Z**2 / (4 * trials**2))
    return [max(0.0, float(middle - half)), min(1.0, float(middle + half))]


def share_interval(share: Share) -> Interval:
    """Of the share itself; without a trial anything from 0 to 1."""
    hits, trials = share.hits.sum(), share.trials.sum()
    if trials <= 0:
        return [0.0, 1.0]
    return proportion_interval(float(hits / trials), share_trials(share))


def share_trials(share: Share) -> float:
    """How many independent trials a share is worth: all where each row is one or none, else what the rows' variance says."""
    total, rows = share.trials.sum(), int((share.trials > 0).sum())
    if share.is_plain:
        return float(total)
    place = share.hits.sum() / total
    variance = ((share.hits - place * share.trials) ** 2).sum() / total**2 * rows / max(rows - 1, 1)
    found = trials_of(float(place), float(variance), rows)
    return min(found, float(total)) if share.is_counted else found


def trials_of(place: float, variance: float, rows: int) -> float:
    """How many trials have that variance around that share, less for what so few rows know of it; rows, where it is 0."""
    spread = place * (1 - place)
    if variance <= CLOSE * max(spread, CLOSE) or spread <= CLOSE:
        return float(rows)
    return float(spread / variance * (Z / student(rows)) ** 2)


def are_paired(one: Share, other: Share) -> bool:
    """Whether both models had the same trials, each right or wrong."""
    return not one.jaccard and one.is_counted and other.is_counted and np.array_equal(one.trials, other.trials)


def paired_interval(one: Share, other: Share) -> Interval:
    """Tango's, of the trials that one model alone has right; of rows drawn together, as many as their variance is worth."""
    total = one.trials.sum()
    if total <= 0:
        return [-1.0, 1.0]
    gaps = one.hits - other.hits
    gained, lost = np.maximum(gaps, 0).sum(), np.maximum(-gaps, 0).sum()
    if not one.is_plain:
        rows, mean = int((one.trials > 0).sum()), gaps.sum() / total
        variance = ((gaps - mean * one.trials) ** 2).sum() / total**2 * rows / max(rows - 1, 1)
        alone = (gained + lost) / total - mean**2
        worth = rows if variance <= CLOSE else min(alone / variance * (Z / student(rows)) ** 2, total)
        gained, lost, total = (count * worth / total for count in (gained, lost, total))
    return tango(float(gained), float(lost), float(total))


def tango(gained: float, lost: float, trials: float) -> Interval:
    """The differences that a score test does not refuse, found by halving."""
    difference = (gained - lost) / trials

    def score(tried: float) -> float:
        linear = -gained - lost + (2 * trials - gained + lost) * tried
        root = np.sqrt(max(linear**2 + 8 * trials * lost * tried * (1 - tried), 0.0))
        variance = trials * ((root - linear) / (2 * trials) + tried * (1 - tried))
        above = gained - lost - trials * tried
        return float(above / np.sqrt(variance)) if variance > CLOSE else float(np.sign(above) * np.inf if above else 0.0)

    def end(outer: float, limit: float) -> float:
        inner = difference
        for _ in range(60):
            middle = (inner + outer) / 2
            inner, outer = (middle, outer) if abs(score(middle)) < limit else (inner, middle)
        return float((inner + outer) / 2)

    return [end(-1.0, Z), end(1.0, Z)]


def square_and_add(one: Estimate, other: Estimate) -> Interval:
    """From the two metrics' own intervals and the correlation of their draws; where no row changed, as Tango has it."""
    (low, high), (other_low, other_high) = one.interval(), other.interval()
    together, difference = correlation_of(one.draws, other.draws), one.value - other.value
    below = joined(one.value - low, other_high - other.value, together)
    above = joined(high - one.value, other.value - other_low, together)
    width = one.bounds.width
    still = width * Z**2 / (one.rows + Z**2) if float(np.std(one.draws - other.draws)) <= CLOSE else 0.0
    return [max(difference - max(below, still), -width), min(difference + max(above, still), width)]


def unpaired_interval(one: Share, other: Share) -> Interval:
    """Where the difference of two shares of different rows lies: Newcombe's square and add."""
    places = [float(share.hits.sum() / max(share.trials.sum(), CLOSE)) for share in (one, other)]
    (low, high), (other_low, other_high) = share_interval(one), share_interval(other)
    difference = places[0] - places[1]
    below, above = joined(places[0] - low, other_high - places[1], 0), joined(high - places[0], places[1] - other_low, 0)
    return [difference - below, difference + above]


def joined(one: float, other: float, together: float) -> float:
    """The length of the difference of two lengths that go together so much."""
    return float(np.sqrt(max(one**2 - 2 * together * one * other + other**2, 0.0)))


def correlation_of(one: np.ndarray, other: np.ndarray) -> float:
    """Of two models' draws, 0 where one of them does not vary."""
    both = np.isfinite(one) & np.isfinite(other)
    if both.sum() < 2 or min(one[both].std(), other[both].std()) <= CLOSE:
        return 0.0
    return float(np.corrcoef(one[both], other[both])[0, 1])
