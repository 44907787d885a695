"""Kind: F1, precision and recall of labels that not every row set has; the class and the average of a metric are said.

Swept over which labels the truth and the predictions have: each figure is scikit-learn's over the labels that occur, by
every road to it (a run's metrics, `load_metric`, the draws of an interval), and a label that nobody has is no 0.
"""

from itertools import product
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from ftkit import UserError, load_metric
from ftkit.metrics.classification import (
    classification_metrics,
    classification_resamplers,
    label_scores,
    multi_label_metrics,
    multi_label_resamplers,
)
from ftkit.metrics.names import by_shown_name, shown_name
from ftkit.recipe.schema import Data
from ftkit.tasks.text_classification import TextClassification
from ftkit.tasks.token_classification import TokenClassification

SCORES: dict[str, Any] = {"f1": sk.f1_score, "precision": sk.precision_score, "recall": sk.recall_score}
SUBSETS = [(0,), (2,), (0, 1), (1, 4), (0, 2, 3), (0, 1, 2, 3, 4)]
ROWS = 40


def drawn(among: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(among, ROWS)


def logits_of(labels: np.ndarray, count: int) -> np.ndarray:
    return np.eye(count)[labels] * 3.0


@pytest.mark.parametrize(("true", "given"), [*product(SUBSETS, SUBSETS)])
def test_labels_that_no_row_has_are_in_no_mean(true: tuple[int, ...], given: tuple[int, ...]) -> None:
    truth, predicted = drawn(true, 1), drawn(given, 2)
    found = classification_metrics(logits_of(predicted, 5), truth)
    draws = classification_resamplers(logits_of(predicted, 5), truth)
    for name, score in SCORES.items():
        for kind in ("macro", "micro"):
            wanted = score(truth, predicted, average=kind, zero_division=0)
            assert found[f"{name}_{kind}"] == draws[f"{name}_{kind}"].value() == pytest.approx(wanted, abs=1e-12)
        assert found[name] == found[f"{name}_macro"]
        loaded = load_metric(name).compute(predictions=predicted, references=truth, num_labels=5)
        assert loaded[name] == found[name]
    assert found["f1_weighted"] == pytest.approx(sk.f1_score(truth, predicted, average="weighted"), abs=1e-12)


@pytest.mark.parametrize("true", SUBSETS)
def test_all_right_is_1_whatever_labels_are_absent(true: tuple[int, ...]) -> None:
    truth = drawn(true, 3)
    found = classification_metrics(logits_of(truth, 5), truth)
    assert {found[f"{name}{kind}"] for name in SCORES for kind in ("", "_macro", "_micro")} == {1.0}
    sets = np.eye(5)[truth]
    several = multi_label_metrics(sets * 4 - 2, sets)
    assert {several[name] for name in SCORES} == {1.0}


@pytest.mark.parametrize(
    ("true", "given"), [((0,), (0, 2)), ((1, 4), (1,)), ((0, 1, 2, 3, 4), (0, 2)), ((), (1, 3)), ((), ())]
)
def test_several_labels_at_once(true: tuple[int, ...], given: tuple[int, ...]) -> None:
    random = np.random.default_rng(4)
    truth, predicted = (np.isin(range(5), among) & (random.random((ROWS, 5)) < 0.6) for among in (true, given))
    found = multi_label_metrics(predicted * 4.0 - 2, truth.astype(float))
    draws = multi_label_resamplers(predicted * 4.0 - 2, truth.astype(float))
    seen = sorted({*true, *given})
    for name, score in SCORES.items():
        wanted = score(truth, predicted, average="macro", labels=seen, zero_division=0) if seen else 0.0
        assert found[name] == draws[name].value() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(("positive", "true"), [*product((0, 1), [(0,), (1,), (0, 1)])])
def test_the_positive_one_of_two_labels(positive: int, true: tuple[int, ...]) -> None:
    truth, predicted = drawn(true, 5), drawn((0, 1), 6)
    found = classification_metrics(logits_of(predicted, 2), truth, positive)
    draws = classification_resamplers(logits_of(predicted, 2), truth, positive)
    for name, score in SCORES.items():
        wanted = score(truth, predicted, pos_label=positive, zero_division=0)
        assert found[name] == draws[name].value() == pytest.approx(wanted, abs=1e-12)
        loaded = load_metric(name).compute(predictions=predicted, references=truth, pos_label=positive)
        assert loaded[name] == found[name]


def test_a_label_that_nobody_has_has_no_score_of_its_own() -> None:
    truth, predicted = np.array([0, 0, 2]), np.array([0, 2, 2])
    one, absent, other = label_scores(["a", "b", "c"], predicted, truth)
    assert (absent["precision"], absent["recall"], absent["f1"], absent["support"]) == (None, None, None, 0)
    assert (one["f1"], other["f1"]) == pytest.approx(sk.f1_score(truth, predicted, average=None))


def task_of(labels: list[str], **data: Any) -> TextClassification:
    task = TextClassification(Data(train="rows.csv", **data))
    task.labels = labels
    task._require_positive()
    return task


@pytest.mark.parametrize(
    ("task", "shown"),
    [
        (task_of(["fraud", "legit"]), "f1 (class legit)"),
        (task_of(["fraud", "legit"], positive_label="fraud"), "f1 (class fraud)"),
        (task_of(["a", "b", "c"]), "f1 (macro)"),
        (TokenClassification(Data(train="rows.jsonl")), "f1 (entities, micro)"),
    ],
)
def test_what_a_metric_is_of_stands_in_its_name(task: Any, shown: str) -> None:
    assert shown_name("f1", task.metric_details()) == shown
    assert by_shown_name({"f1": 1.0, "loss": 2.0}, task.metric_details()) == {shown: 1.0, "loss": 2.0}
    assert shown_name("f1", None) == "f1"  # as a run of an earlier version has it


@pytest.mark.parametrize(
    ("labels", "name", "words"),
    [
        (["fraud", "legit"], "frauds", "there is no label 'frauds'; did you mean 'fraud'?"),
        (["a", "b", "c"], "a", "there are 3 labels, of which none is the positive one"),
    ],
)
def test_a_positive_label_that_cannot_be(labels: list[str], name: str, words: str) -> None:
    with pytest.raises(UserError, match="positive_label") as raised:
        task_of(labels, positive_label=name)
    assert words in str(raised.value)
