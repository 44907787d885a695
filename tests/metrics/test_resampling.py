"""A metric of weighed rows is the metric of the rows drawn so often, for every metric."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ftkit.metrics.classification import (
    classification_metrics,
    classification_resamplers,
    multi_label_metrics,
    multi_label_resamplers,
)
from ftkit.metrics.regression import regression_metrics, regression_resamplers
from ftkit.metrics.resampling import by_group, draws
from ftkit.metrics.text import loss_metrics, loss_resamplers, text_metrics, text_resamplers
from ftkit.metrics.tokens import token_metrics, token_resamplers

RANDOM = np.random.default_rng(1)
ROWS = 60
LABELS = RANDOM.integers(0, 3, ROWS)
SENTENCES = [f"the {a} saw {b} and {a} at home" for a, b in RANDOM.integers(0, 5, (ROWS, 2))]
TAGS = ("O", "B-a", "I-a", "B-b")


def tokens() -> np.ndarray:
    return np.stack([RANDOM.integers(0, 4, (ROWS, 9)), RANDOM.random((ROWS, 9))], axis=-1)


CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[np.ndarray | list[str], ...]]] = {
    "two labels": (classification_metrics, classification_resamplers, (RANDOM.normal(size=(ROWS, 2)), LABELS // 2)),
    "three labels": (classification_metrics, classification_resamplers, (RANDOM.normal(size=(ROWS, 3)), LABELS)),
    "tied scores": (classification_metrics, classification_resamplers, (RANDOM.integers(0, 3, (ROWS, 2)).astype(float), LABELS // 2)),
    "several labels": (multi_label_metrics, multi_label_resamplers, (RANDOM.normal(size=(ROWS, 4)), RANDOM.integers(0, 2, (ROWS, 4)))),
    "numbers": (regression_metrics, regression_resamplers, (RANDOM.normal(size=ROWS), RANDOM.integers(1, 6, ROWS) + 0.5)),
    "losses": (loss_metrics, loss_resamplers, (RANDOM.random((ROWS, 3)) * [9, 5, 20] + 1,)),
    "text": (text_metrics, text_resamplers, (SENTENCES, SENTENCES[1:] + SENTENCES[:1])),
    "tags": (lambda p, y: token_metrics(p, y, TAGS), lambda p, y: token_resamplers(p, y, TAGS), (tokens(), RANDOM.integers(0, 4, (ROWS, 9)))),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_weights_count_as_repeats(case: str) -> None:
    metrics, resamplers, columns = CASES[case]
    found = resamplers(*columns)
    weights = np.concatenate([np.ones((1, ROWS)), *draws(ROWS, 3, seed=0)])
    for line, weight in enumerate(weights):
        chosen = np.repeat(np.arange(ROWS), weight.astype(int))
        drawn = [[column[i] for i in chosen] if isinstance(column, list) else column[chosen] for column in columns]
        expected = metrics(*drawn)
        assert expected.keys() == found.keys()
        for name, resampler in found.items():
            assert resampler.compute(weights)[line] == pytest.approx(expected[name], rel=1e-9, abs=1e-12), name


def test_draws_are_seeded_and_as_large_as_the_rows() -> None:
    one, again, other = (np.concatenate([*draws(7, 120, seed)]) for seed in (1, 1, 2))
    assert one.shape == (120, 7)
    assert (one.sum(1) == 7).all()
    assert (one == again).all()
    assert (one != other).any()


@pytest.mark.parametrize("case", CASES)
def test_rows_of_a_group_are_drawn_together(case: str) -> None:
    """As the answers of one chat, which are not independent: alone they would make an interval too narrow."""
    _, resamplers, columns = CASES[case]
    groups = np.arange(ROWS) // 3
    for name, own in resamplers(*columns).items():
        grouped = by_group(own, groups)
        weights = np.concatenate([*draws(ROWS // 3, 3, seed=0)])
        assert grouped.rows == ROWS // 3
        assert grouped.value() == pytest.approx(own.value(), rel=1e-9)
        assert grouped.compute(weights) == pytest.approx(own.compute(np.repeat(weights, 3, axis=1)), rel=1e-9), name
        assert by_group(own, np.arange(ROWS)[::-1]) is own


def test_an_interval_over_copies_is_that_over_the_rows() -> None:
    sums = np.add(RANDOM.random((40, 2)), [0, 1])
    alone = loss_resamplers(sums)["loss"]
    copies = by_group(loss_resamplers(np.repeat(sums, 5, axis=0))["loss"], np.repeat(np.arange(40), 5))
    weights = np.concatenate([*draws(40, 50, seed=3)])
    assert copies.compute(weights) == pytest.approx(alone.compute(weights), rel=1e-9)
