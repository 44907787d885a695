"""95 % intervals from a bootstrap's draws, by Student's t on the scale where it holds; one function a kind of metric.

Each takes a metric's value, its draws, and how many rows there are, and gives NaN at both ends where the draws do not vary.
The draws' standard error is taken sqrt(n / (n - 1)) wider, as few rows vary less than they should. No method holds the mean
of values whose tail is so heavy that few rows show none of it (Bahadur and Savage, 1956, The nonexistence of certain
statistical procedures in nonparametric problems, Annals of Mathematical Statistics 27).
"""

import numpy as np
from scipy.special import expit, logit, ndtr, stdtrit

LEVEL = 0.95
TAIL = (1 - LEVEL) / 2
CLOSE = 1e-12
MOST_SKEW = 2.0  # of the mean, beyond which rows tell nothing of their tail
CENTRAL = [float(ndtr(-1)), float(ndtr(1))]  # the draws within one standard error, 16 to 84 %
LARGEST_EXPONENT = 700.0

Interval = list[float]  # from low to high
UNKNOWN = [float("nan"), float("nan")]


def student(rows: int) -> float:
    """The 97.5 % point of Student's t for the mean of so many rows."""
    return float(stdtrit(max(rows - 1, 1), 1 - TAIL))


def standard_error(draws: np.ndarray, rows: int) -> float:
    return float(draws.std()) * float(np.sqrt(rows / (rows - 1)))


def is_still(draws: np.ndarray, rows: int) -> bool:
    """Whether no interval can be had of the draws."""
    return rows < 2 or not len(draws) or bool(draws.std() <= CLOSE * max(abs(float(draws.mean())), CLOSE))


def spread_percentiles(draws: np.ndarray, rows: int) -> Interval:
    """The middle 95 % of the draws, taken wider for few rows (Hesterberg, 2015); of a metric of which nothing is known."""
    if is_still(draws, rows):
        return UNKNOWN
    tail = float(ndtr(-np.sqrt(rows / (rows - 1)) * student(rows)))
    low, high = np.quantile(draws, [tail, 1 - tail])
    return [float(low), float(high)]


def student_interval(value: float, draws: np.ndarray, rows: int) -> Interval:
    """The value and as many standard errors as Student's t has for so many rows; of a difference on the same rows.

    Where no row differs at all, as of a model that did not move, the difference is none.
    """
    finite = draws[np.isfinite(draws)]
    if value == 0 and len(finite) and not finite.any():
        return [0.0, 0.0]
    if rows < 2 or not len(finite) or finite.std() <= CLOSE * max(abs(value), CLOSE):
        return UNKNOWN
    half = student(rows) * standard_error(finite, rows)
    return [float(value - half), float(value + half)]


def mean_interval(value: float, draws: np.ndarray, rows: int) -> Interval:
    """Of a mean or quotient of sums whose rows are skewed, as losses are: Hall's (1992, On the removal of skewness by
    transformation, Journal of the Royal Statistical Society B 54), with Student's t for the normal quantile.

    Hall's cubic makes of the studentized mean T, whose skewness is g, what has none; here it is solved for T. g is that of
    the draws, times n (n - 1) / (n - 2)^2: the sample's own skewness is too small, by the root of that in normal samples, by
    about this much in the skewed ones of benchmarks/coverage.py.
    """
    if is_still(draws, rows):
        return UNKNOWN
    error, skew = standard_error(draws, rows), skewness(draws, rows)
    return [value - error * unskewed(student(rows), skew), value - error * unskewed(-student(rows), skew)]


def skewness(draws: np.ndarray, rows: int) -> float:
    """Of a mean of so many rows; none is known of two."""
    if rows < 3:
        return 0.0
    gaps = draws - draws.mean()
    found = (gaps**3).mean() / (gaps**2).mean() ** 1.5 * rows * (rows - 1) / (rows - 2) ** 2
    return float(np.clip(found, -MOST_SKEW, MOST_SKEW))


def unskewed(point: float, skew: float) -> float:
    """The studentized mean that Hall's cubic takes to `point`: T with T + g T^2 / 3 + g^2 T^3 / 27 + g / 6 = point."""
    if abs(skew) < 1e-6:
        return point
    return float(3 / skew * (np.cbrt(1 + skew * (point - skew / 6)) - 1))


def exponential_interval(value: float, draws: np.ndarray, rows: int) -> Interval:
    """Of the exponential of such a mean, as the perplexity: its mean's interval, exponentiated."""
    low, high = mean_interval(float(np.log(value)), np.log(draws), rows)
    return [float(np.exp(min(end, LARGEST_EXPONENT))) for end in (low, high)]


def explained_interval(value: float, draws: np.ndarray, rows: int) -> Interval:
    """Of R², which is 1 less a quotient: Student's t of the quotient's logarithm."""
    if 1 - value <= CLOSE:
        return UNKNOWN
    logs = np.log(1 - draws[draws < 1 - CLOSE])
    low, high = student_interval(float(np.log(1 - value)), logs, rows)
    return [float(1 - np.exp(min(end, LARGEST_EXPONENT))) for end in (high, low)]


def correlation_interval(value: float, draws: np.ndarray, rows: int) -> Interval:
    """Of a correlation: Student's t of Fisher's z, its inverse hyperbolic tangent (Fisher, 1921).

    Its error is half of what the middle 68 % of the draws span: those of few rows that are in a line reach infinity.
    """
    inside = draws[np.abs(draws) < 1 - CLOSE]
    if abs(value) >= 1 - CLOSE or is_still(inside, rows):
        return UNKNOWN
    low, high = np.quantile(np.arctanh(inside), CENTRAL)
    half = student(rows) * (high - low) / 2 * np.sqrt(rows / (rows - 1))
    return [float(np.tanh(np.arctanh(value) + side * half)) for side in (-1, 1)]


def area_interval(value: float, draws: np.ndarray, rows: int) -> Interval:
    """Of the area under a ROC curve: Student's t of its log-odds, with the draws' error by the delta method (Pepe, 2003, The
    statistical evaluation of medical tests, section 5.2.4).
    """
    spread = value * (1 - value)
    if spread <= CLOSE or is_still(draws, rows):
        return UNKNOWN
    half = student(rows) * standard_error(draws, rows) / spread
    return [float(expit(logit(value) + side * half)) for side in (-1, 1)]


def gaps_interval(value: float, draws: np.ndarray, rows: int) -> Interval:
    """Of a sum of absolute gaps, as the calibration error, which chance alone lifts above 0: Student's t of its square.

    The draws' squares are above that of the value by as much as its own square is above the truth's, so that much is taken
    off. The measured value stays inside.
    """
    if is_still(draws, rows):
        return UNKNOWN
    squares = draws**2
    middle, half = 2 * value**2 - float(squares.mean()), student(rows) * standard_error(squares, rows)
    low, high = (float(np.sqrt(max(end, 0.0))) for end in (middle - half, middle + half))
    return [min(low, value), max(high, value)]
