"""Kind: intervals that have no width, or the wrong one, at the edges and of few rows.

Swept over metrics, edges and numbers of rows: no interval of a share is a point, each equals what SciPy or the published
example has, rows of one chat count as one, and known differences are held as often as 95 % says.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ftkit.evaluation.analysis import judge_slices, make_slices
from ftkit.metrics.classification import classification_resamplers, multi_label_resamplers
from ftkit.metrics.estimates import Estimates, estimate_all, from_arrays, to_arrays
from ftkit.metrics.intervals import (
    FEW,
    clopper_pearson,
    difference_interval,
    proportion_interval,
    tango,
    wilson,
)
from ftkit.metrics.regression import regression_resamplers
from ftkit.metrics.resampling import Resampler, by_group, of_means, of_share
from ftkit.metrics.text import health_scores, text_resamplers
from ftkit.metrics.tokens import token_resamplers

RANDOM = np.random.default_rng(5)
UNBOUNDED = {"loss", "length_ratio", "mse", "mae", "r2"}


def estimates(**models: dict[str, Resampler]) -> dict[str, Estimates]:
    return estimate_all(models, seed=0)


def interval_of(metric: Resampler) -> list[float]:
    return estimates(one={"": metric})["one"][""].interval()


def difference(one: Resampler, other: Resampler) -> list[float]:
    found = estimates(one={"": one}, other={"": other})
    return difference_interval(found["one"][""], found["other"][""])


def logits(labels: np.ndarray, count: int) -> np.ndarray:
    return np.eye(count)[labels] * 5.0


def labels_all_right(rows: int) -> dict[str, Resampler]:
    truth = np.arange(rows) % 3
    return classification_resamplers(logits(truth, 3), truth)


def two_labels_all_right(rows: int) -> dict[str, Resampler]:
    truth = np.arange(rows) % 2
    return classification_resamplers(logits(truth, 2), truth)


def labels_all_wrong(rows: int) -> dict[str, Resampler]:
    truth = np.arange(rows) % 3
    return classification_resamplers(logits((truth + 1) % 3, 3), truth)


def sets_all_right(rows: int) -> dict[str, Resampler]:
    truth = np.eye(3)[np.arange(rows) % 3]
    return multi_label_resamplers(truth * 8 - 4, truth)


def texts_all_right(rows: int) -> dict[str, Resampler]:
    texts = [f"the {place} cat sat on its mat" for place in range(rows)]
    return text_resamplers(texts, texts) | health_scores(texts, texts, [True] * rows)


def texts_all_wrong(rows: int) -> dict[str, Resampler]:
    texts = [f"word{place}" for place in range(rows)]
    return text_resamplers(["no"] * rows, texts) | health_scores(["no"] * rows, texts, [False] * rows)


def tags_all_right(rows: int) -> dict[str, Resampler]:
    labels = np.tile([0, 1, 2, 0], (rows, 1))
    return token_resamplers(np.stack([labels, np.zeros_like(labels)], -1), labels, ["O", "B-a", "I-a"])


def numbers_all_right(rows: int) -> dict[str, Resampler]:
    return regression_resamplers(np.arange(rows), np.arange(rows))


EDGES: list[Callable[[int], dict[str, Resampler]]] = [
    labels_all_right, two_labels_all_right, labels_all_wrong, sets_all_right, texts_all_right, texts_all_wrong, tags_all_right,
    numbers_all_right,
]  # fmt: skip


@pytest.mark.parametrize("rows", [6, 30, 300])
@pytest.mark.parametrize("edge", EDGES)
def test_no_interval_at_an_edge_is_a_point(edge: Callable[[int], dict[str, Resampler]], rows: int) -> None:
    found = estimates(one=edge(rows), other=edge(rows))
    for name, one in found["one"].items():
        low, high = one.interval()
        gap_low, gap_high = difference_interval(one, found["other"][name])
        if name in UNBOUNDED:
            assert math.isnan(low) or low < high, name
            assert (gap_low, gap_high) == (0, 0), name  # the very same outputs
        else:
            assert low - 1e-9 <= one.value <= high + 1e-9, name
            assert high - low > (one.bounds.most - one.bounds.least) / rows * one.bounds.counted, name
            assert one.bounds.least <= low
            assert high <= one.bounds.most
            assert gap_low < 0 < gap_high, name


@pytest.mark.parametrize("trials", [1, 5, 16, 30, 100, 1000])
@pytest.mark.parametrize("part", [0.0, 0.03, 0.3, 0.5, 0.97, 1.0])
def test_shares_are_scipys(part: float, trials: int) -> None:
    hits = round(part * trials)
    test = stats.binomtest(hits, trials)
    for ours, method in ((clopper_pearson(hits, trials), "exact"), (wilson(hits / trials, trials), "wilson")):
        theirs = test.proportion_ci(method=method)
        assert ours == pytest.approx([theirs.low, theirs.high], abs=1e-9)
    few = min(hits, trials - hits) < FEW
    wanted = test.proportion_ci(method="exact" if few else "wilson")
    right = np.arange(trials) < hits
    assert interval_of(of_share(right)) == pytest.approx([wanted.low, wanted.high], abs=1e-9)


@pytest.mark.parametrize(("gained", "lost", "trials"), [(12, 2, 44), (0, 0, 16), (5, 5, 30), (1, 9, 25), (30, 0, 30)])
def test_tango_is_the_score_test_turned_round(gained: int, lost: int, trials: int) -> None:
    """At each end the score, with the chances that are likeliest under it, is what the test just refuses."""
    low, high = tango(gained, lost, trials)
    assert tango(lost, gained, trials) == pytest.approx([-high, -low], abs=1e-9)
    assert -1 <= low <= (gained - lost) / trials <= high <= 1
    for end, wanted in ((low, 1.96), (high, -1.96)):
        if abs(end) < 1 - 1e-9:
            chance = likeliest_loss(gained, lost, trials, end)
            spread = math.sqrt(trials * (2 * chance + end - end**2))
            assert (gained - lost - trials * end) / spread == pytest.approx(wanted, abs=2e-3)


def likeliest_loss(gained: int, lost: int, trials: int, gap: float) -> float:
    """The chance that the second alone is right, where the first alone is right by `gap` more often; by trying all."""
    tried = np.linspace(max(0, -gap), (1 - gap) / 2, 2_000_001)[1:-1]
    same = trials - gained - lost
    return float(tried[np.argmax(gained * np.log(tried + gap) + lost * np.log(tried) + same * np.log(1 - 2 * tried - gap))])


def test_none_right_of_16_cannot_be_told() -> None:
    none, all_right = of_share(np.zeros(16)), of_share(np.ones(16))
    assert difference(none, none) == pytest.approx([-0.194, 0.194], abs=2e-3)
    assert difference(all_right, all_right) == pytest.approx([-0.194, 0.194], abs=2e-3)
    low, high = difference(all_right, none)
    assert low == pytest.approx((16 - 1.96**2) / (16 + 1.96**2), abs=1e-3)
    assert high == 1


def test_rows_of_a_chat_count_as_one_where_they_agree() -> None:
    """Three answers a chat, all right or all wrong together: no more is known than of the chats."""
    chats = RANDOM.random(40) < 0.6
    alone, answers = of_share(chats), by_group(of_share(np.repeat(chats, 3)), np.repeat(np.arange(40), 3))
    assert interval_of(answers) == pytest.approx(interval_of(alone), abs=0.01)
    perfect = by_group(of_share(np.ones(120)), np.repeat(np.arange(40), 3))
    assert interval_of(perfect) == pytest.approx(interval_of(of_share(np.ones(40))), abs=1e-9)
    assert difference(perfect, perfect) == pytest.approx(difference(of_share(np.ones(40)), of_share(np.ones(40))), abs=1e-9)
    independent = by_group(of_share(RANDOM.random(120) < 0.6), np.repeat(np.arange(40), 3))
    low, high = interval_of(independent)
    assert high - low < 0.8 * np.subtract(*interval_of(alone)[::-1])


def test_what_is_kept_in_a_file_gives_the_same_difference() -> None:
    truth = RANDOM.integers(0, 2, 50)
    one, other = (classification_resamplers(RANDOM.normal(size=(50, 2)) + logits(truth, 2) / 3, truth) for _ in range(2))
    found = estimates(one=one, other=other)
    kept = {name: from_arrays(to_arrays(metrics), rows=50) for name, metrics in found.items()}
    for name in found["one"]:
        wanted = difference_interval(found["one"][name], found["other"][name])
        assert difference_interval(kept["one"][name], kept["other"][name]) == pytest.approx(wanted, nan_ok=True)
    old = from_arrays({"loss": found["one"]["loss"].draws}, rows=50)  # a run of an earlier version
    assert np.isfinite(difference_interval(old["loss"], kept["other"]["loss"])).all()


def test_slices_have_a_width() -> None:
    right = np.concatenate([np.ones(10), np.zeros(6), np.ones(14)])
    slices = make_slices({"kind": ["a"] * 10 + ["b"] * 6 + ["c"] * 14})
    found = {one["value"]: one for one in judge_slices(slices, right, np.arange(30), "accuracy", 1, seed=0)}
    for value, hits, rows in (("a", 10, 10), ("b", 0, 6), ("c", 14, 14)):
        assert found[value]["interval"] == pytest.approx(proportion_interval(hits / rows, rows))
        low, high = found[value]["difference_interval"]
        assert low <= found[value]["difference"] <= high
        assert high - low > 0.1
    assert next(iter(found)) == "b"
    chats = judge_slices(slices, right, np.arange(30) // 2, "accuracy", 1, seed=0)
    assert {one["value"]: one for one in chats}["a"]["interval"] == pytest.approx(proportion_interval(1, 5))
    losses = judge_slices(slices, -RANDOM.random(30), np.arange(30), "loss", -1, seed=0)
    assert all(one["interval"][0] < one["score"] < one["interval"][1] for one in losses)


def test_a_slice_has_no_loss_below_0() -> None:
    slices = make_slices({"kind": ["few"] * 5 + ["many"] * 35})
    lows = [
        one["interval"][0]
        for seed in range(20)
        for one in judge_slices(slices, -np.random.default_rng(seed).exponential(size=40), np.arange(40), "loss", -1, seed)
    ]
    assert min(lows) == 0


def covered(make: Callable[[], tuple[Resampler, Resampler]], truth: float, runs: int = 200) -> float:
    ends = [difference(*make()) for _ in range(runs)]
    return float(np.mean([low <= truth <= high for low, high in ends]))


def pairs(rows: int, chances: list[float]) -> tuple[Any, Any]:
    """Two models' right and wrong: both, the first alone, the second alone, none."""
    drawn = RANDOM.choice(4, rows, p=chances)
    return (drawn == 0) | (drawn == 1), (drawn == 0) | (drawn == 2)


@pytest.mark.parametrize(
    ("chances", "truth"),
    [([0.5, 0.15, 0.1, 0.25], 0.05), ([0.95, 0.05, 0, 0], 0.05), ([0, 0.05, 0, 0.95], 0.05), ([0.98, 0, 0.02, 0], -0.02)],
)
@pytest.mark.parametrize("rows", [10, 40])
def test_known_differences_are_held(chances: list[float], truth: float, rows: int) -> None:
    """Few rows and runs here; benchmarks/coverage.py has a thousand of each. The plain bootstrap holds 39 % of the second."""
    assert covered(lambda: tuple(map(of_share, pairs(rows, chances))), truth) > 0.9  # type: ignore[arg-type, return-value]


def test_known_differences_of_losses_are_held() -> None:
    def make() -> tuple[Resampler, Resampler]:
        base = np.exp(RANDOM.normal(size=12))
        return of_means(base + RANDOM.normal(0.2, 0.3, 12)), of_means(base)

    assert covered(make, 0.2) > 0.9
