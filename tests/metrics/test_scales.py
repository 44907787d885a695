"""Kind: intervals of what is no share, found on a scale of its own.

Swept over every metric that is none: the interval holds the measured value, has a width, keeps to the metric's bounds, and
narrows with rows; each formula is what SciPy makes of it by another way, and known values are held.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import optimize, stats

from ftkit.metrics.classification import classification_resamplers, multi_label_resamplers
from ftkit.metrics.estimates import FACTS, RESAMPLES, Estimates, as_estimate, estimate_all, from_arrays, to_arrays
from ftkit.metrics.intervals import Estimate, difference_interval
from ftkit.metrics.regression import regression_resamplers
from ftkit.metrics.resampling import Kind, Resampler, by_group, draws, of_means, of_sums
from ftkit.metrics.scales import MOST_SKEW, mean_interval, skewness, unskewed
from ftkit.metrics.text import health_scores, loss_resamplers, text_resamplers
from ftkit.metrics.tokens import token_resamplers

Metrics = dict[str, Resampler]


def estimates(metrics: Metrics) -> Estimates:
    return estimate_all({"one": metrics}, seed=0)["one"]


def numbers(random: np.random.Generator, rows: int) -> Metrics:
    truth = random.standard_normal(rows)
    return regression_resamplers(truth + random.normal(0, 0.5, rows), truth)


def token_losses(random: np.random.Generator, rows: int) -> Metrics:
    tokens = random.integers(5, 60, rows)
    return loss_resamplers(np.stack([random.exponential(size=rows) * tokens, tokens, 4 * tokens], 1))


def labels(random: np.random.Generator, rows: int) -> Metrics:
    truth = np.arange(rows) % 2
    margin = random.normal(0, 1, rows) + truth
    return classification_resamplers(np.stack([-margin, margin], 1), truth)


def label_sets(random: np.random.Generator, rows: int) -> Metrics:
    truth = (np.arange(rows)[:, None] + np.arange(3)) % 2
    return multi_label_resamplers(random.normal(0, 1, (rows, 3)) + truth - 0.5, truth)


def tags(random: np.random.Generator, rows: int) -> Metrics:
    truth = random.integers(0, 3, (rows, 4))
    given = np.where(random.random((rows, 4)) < 0.8, truth, 0)
    return token_resamplers(np.stack([given, random.exponential(size=(rows, 4))], -1), truth, ["O", "B-a", "I-a"])


def texts(random: np.random.Generator, rows: int) -> Metrics:
    said = ["the cat sat " * count for count in random.integers(1, 5, rows)]
    wanted = ["the cat sat on a mat " * count for count in random.integers(1, 3, rows)]
    return text_resamplers(said, wanted) | health_scores(said, wanted, [True] * rows)


MAKERS: list[Callable[[np.random.Generator, int], Metrics]] = [numbers, token_losses, labels, label_sets, tags, texts]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("rows", [3, 10, 40])
def test_every_metric_is_inside_an_interval_with_a_width(make: Callable[..., Metrics], rows: int) -> None:
    for seed in range(2):
        for name, one in estimates(make(np.random.default_rng([seed, rows]), rows)).items():
            low, high = one.interval()
            if (
                math.isfinite(one.value)
                and one.bounds.kind is not Kind.TRIALS
                and one.draws[np.isfinite(one.draws)].std() > 1e-9
            ):
                assert low < high, name
                assert low - 1e-9 <= one.value <= high + 1e-9, name
                assert one.bounds.least <= low, name
                assert high <= one.bounds.most, name


def width(one: Estimate) -> float:
    low, high = one.interval()
    return high - low


@pytest.mark.parametrize("make", MAKERS)
def test_more_rows_make_it_narrower(make: Callable[..., Metrics]) -> None:
    few, many = ([estimates(make(np.random.default_rng([seed, rows]), rows)) for seed in range(2)] for rows in (12, 300))
    for name in few[0]:
        widths = [np.mean([width(one[name]) for one in found]) for found in (few, many)]
        if few[0][name].bounds.kind is not Kind.TRIALS:
            assert widths[1] < 0.5 * widths[0], name


@pytest.mark.parametrize("make", MAKERS)
def test_every_metric_says_what_it_is(make: Callable[..., Metrics]) -> None:
    """One that forgets it would have the percentiles, which hold the truth of ten rows 85 times of 100."""
    for name, metric in make(np.random.default_rng(0), 20).items():
        assert metric.bounds.kind is not Kind.ANY, name
        assert by_group(metric, [row // 2 for row in range(20)]).bounds == metric.bounds


@pytest.mark.parametrize("skew", [-2.0, -0.7, -1e-9, 0.0, 1e-5, 0.3, 2.0])
@pytest.mark.parametrize("point", [-12.7, -2.2, 2.0, 12.7])
def test_hall_s_cubic_is_solved(skew: float, point: float) -> None:
    def cubic(studentized: float) -> float:
        return studentized + skew * studentized**2 / 3 + skew**2 * studentized**3 / 27 + skew / 6 - point

    assert unskewed(point, skew) == pytest.approx(optimize.brentq(cubic, -200, 200), abs=1e-4)


@pytest.mark.parametrize("rows", [3, 10, 200])
def test_a_mean_has_hall_s_interval(rows: int) -> None:
    drawn = np.random.default_rng(rows).gamma(rows, size=1000)
    skew = float(np.clip(stats.skew(drawn) * rows * (rows - 1) / (rows - 2) ** 2, -MOST_SKEW, MOST_SKEW))
    error, point = float(np.std(drawn)) * math.sqrt(rows / (rows - 1)), float(stats.t.ppf(0.975, rows - 1))
    wanted = [rows - error * unskewed(side * point, skew) for side in (1, -1)]
    assert mean_interval(rows, drawn, rows) == pytest.approx(wanted)
    even = np.concatenate([drawn, 2 * drawn.mean() - drawn])  # not skewed: Student's own
    half = point * float(np.std(even)) * math.sqrt(rows / (rows - 1))
    assert skewness(even, rows) == pytest.approx(0, abs=1e-9)
    assert mean_interval(5.0, even, rows) == pytest.approx([5 - half, 5 + half])


def test_a_mean_moves_and_grows_with_its_values() -> None:
    values = np.random.default_rng(1).exponential(size=15)
    low, high = estimates({"": of_means(values)})[""].interval()
    assert estimates({"": of_means(3 * values + 7)})[""].interval() == pytest.approx([3 * low + 7, 3 * high + 7])
    assert estimates({"": of_means(-values)})[""].interval() == pytest.approx([-high, -low])


def test_perplexity_and_bits_follow_the_loss() -> None:
    random = np.random.default_rng(2)
    tokens = random.integers(5, 9, 12)
    found = estimates(loss_resamplers(np.stack([random.exponential(size=12) * tokens, tokens, tokens], 1)))
    low, high = found["loss"].interval()
    assert found["perplexity"].interval() == pytest.approx([math.exp(low), math.exp(high)])
    assert found["bits_per_byte"].interval() == pytest.approx([low / math.log(2), high / math.log(2)])


def test_r2_correlations_and_areas_have_student_s_on_their_scale() -> None:
    found = {name: one for make in (numbers, labels) for name, one in estimates(make(np.random.default_rng(3), 40)).items()}
    point, wider = float(stats.t.ppf(0.975, 39)), math.sqrt(40 / 39)

    def at(name: str, onto: Callable[[float], float], back: Callable[[float], float], error: float) -> list[float]:
        middle = onto(found[name].value)
        return sorted(float(back(middle + side * point * wider * error)) for side in (-1, 1))

    logs = np.log1p(-found["r2"].draws)
    assert found["r2"].interval() == pytest.approx(at("r2", lambda x: math.log1p(-x), lambda z: -math.expm1(z), logs.std()))
    for name in ("pearson", "spearman"):
        z = np.arctanh(found[name].draws)
        error = float(np.diff(np.quantile(z, stats.norm.cdf([-1, 1])))[0]) / 2
        assert found[name].interval() == pytest.approx(at(name, math.atanh, math.tanh, error)), name
    area = found["roc_auc"]
    error = area.draws[np.isfinite(area.draws)].std() / (area.value * (1 - area.value))
    logit = stats.logistic.ppf, stats.logistic.cdf
    assert area.interval() == pytest.approx(at("roc_auc", *logit, error))


def held(make: Callable[[np.random.Generator], Resampler], rows: int, truth: float, runs: int = 150) -> float:
    random, weights = np.random.default_rng(4), np.concatenate([*draws(rows, RESAMPLES, seed=0)])
    metrics = [make(random) for _ in range(runs)]
    ends = [as_estimate(metric, metric.compute(weights)).interval() for metric in metrics]
    return float(np.mean([low <= truth <= high for low, high in ends]))


def test_known_values_are_held() -> None:
    """Few runs here; benchmarks/coverage.py has a thousand of each. Percentiles hold 85 to 89 % of the first."""

    def squares(random: np.random.Generator) -> Resampler:
        return regression_resamplers(random.standard_normal(10), np.zeros(10))["mse"]

    def calibrated(random: np.random.Generator) -> Resampler:
        margin = random.normal(0, 1.5, 60)
        truth = (random.random(60) < 1 / (1 + np.exp(-margin))).astype(int)
        return classification_resamplers(np.stack([np.zeros(60), margin], 1), truth)["calibration_error"]

    def explained(random: np.random.Generator) -> Resampler:
        truth = random.standard_normal(10)
        return regression_resamplers(truth + random.normal(0, 0.5, 10), truth)["r2"]

    assert held(squares, 10, 1.0) > 0.91
    assert held(calibrated, 60, 0.0) > 0.93  # of percentiles none
    assert held(explained, 10, 0.75) > 0.91


def test_rows_of_one_label_say_nothing_of_matthews_coefficient() -> None:
    truth, given = np.zeros(10, int), np.eye(2)[np.arange(10) % 2]
    sets = multi_label_resamplers(given - 0.5, np.zeros((10, 2)))["matthews_correlation"]
    one = classification_resamplers(given, truth)["matthews_correlation"]
    for metric in (one, sets):
        found = estimates({"": metric})[""]
        assert (found.value, found.interval()) == (0, [-1, 1])


@pytest.mark.parametrize("make", MAKERS)
def test_a_file_keeps_the_kind(make: Callable[..., Metrics]) -> None:
    found = estimates(make(np.random.default_rng(5), 20))
    kept = from_arrays(to_arrays(found), rows=20)
    for name, one in found.items():
        assert kept[name].bounds == one.bounds, name
        assert kept[name].interval() == pytest.approx(one.interval(), nan_ok=True), name


def test_a_file_of_an_earlier_version_is_read() -> None:
    drawn = np.random.default_rng(6).normal(3, 0.1, 1000)
    arrays = {"loss": drawn, FACTS + "loss": np.array([3, 50, np.nan, np.nan, 0]), "f1": drawn / 4}
    arrays |= {FACTS + "f1": np.array([0.75, 50, 0, 1, 1])}
    found = from_arrays(arrays, rows=50)
    assert (found["loss"].bounds.kind, found["f1"].bounds.kind) == (Kind.ANY, Kind.TRIALS)
    assert found["loss"].interval() == pytest.approx([2.8, 3.2], abs=0.03)
    assert 0 <= found["f1"].interval()[0] < 0.75 < found["f1"].interval()[1] <= 1


@pytest.mark.filterwarnings("error")
def test_a_metric_that_no_draw_has_is_read_without_a_word() -> None:
    truth = np.zeros(10, int)
    found = estimates(classification_resamplers(np.eye(2)[truth], truth))
    assert np.isnan(found["roc_auc"].draws).all()
    assert np.isnan(from_arrays(to_arrays(found), rows=10)["roc_auc"].value)


def test_a_metric_of_which_nothing_is_known_has_spread_percentiles() -> None:
    values = np.random.default_rng(7).exponential(size=10)
    found = estimates({"": of_sums(values[:, None], lambda sums: np.sqrt(sums[:, 0]))})[""]
    tail = stats.norm.cdf(-stats.t.ppf(0.975, 9) * math.sqrt(10 / 9))
    assert found.interval() == pytest.approx(np.quantile(found.draws, [tail, 1 - tail]).tolist())


def test_differences_of_calibration_errors_have_student_s() -> None:
    random = np.random.default_rng(8)
    one, other = (labels(random, 40)["calibration_error"] for _ in range(2))
    found = estimate_all({"one": {"": one}, "other": {"": other}}, seed=0)
    tuned, base = found["one"][""], found["other"][""]
    half = float(stats.t.ppf(0.975, 39)) * float(np.std(tuned.draws - base.draws)) * math.sqrt(40 / 39)
    gap = tuned.value - base.value
    assert difference_interval(tuned, base) == pytest.approx([gap - half, gap + half])
    low, high = difference_interval(tuned, tuned)
    assert low < 0 < high
