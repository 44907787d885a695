"""Our metrics are, to all digits, what the standard implementations say of the frozen files; freeze.py wrote these."""

import json
import re
from typing import Any

import freeze
import numpy as np
import pytest

from ftkit.data.encode import IGNORED
from ftkit.metrics.classification import classification_metrics, label_scores, multi_label_metrics
from ftkit.metrics.regression import regression_metrics
from ftkit.metrics.text import signatures, text_metrics, token_f1
from ftkit.metrics.tokens import entity_scores, token_metrics
from ftkit.recipe.tasks import TASK_SPECS, TEXT_METRICS

EXPECTED = json.loads((freeze.FROZEN / "expected.json").read_text(encoding="utf-8"))
# Computed from other intermediate values than by the standard implementation, so that the last digit may differ.
ROUNDED = {"loss", "pearson", "calibration_error", "roc_auc", "token_f1", *freeze.ROUGE}
TEXTS, TAGS = ("texts", *freeze.SENTENCES), ("tags", "one_type")
TASK_OF = dict.fromkeys(TEXTS, "instruction") | dict.fromkeys(TAGS, "token-classification") | {"numbers": "text-regression"}
WITHOUT_A_LABEL = ("absent_labels", "one_class", "absent_sets")  # which have no area under a curve


def ours(name: str) -> dict[str, Any]:
    rows = freeze.frozen_rows(name)
    given, wanted = freeze.column(rows, "prediction"), freeze.column(rows, "reference")
    if name in TEXTS:
        said = {f"{metric} signature": words for metric, words in signatures(wanted).items()}
        return text_metrics(given, wanted) | said
    if name == "numbers":
        return regression_metrics(np.array(given), np.array(wanted))
    if name in TAGS:
        found, labels, names = as_tokens(given, wanted)
        return token_metrics(found, labels, names) | {"by_label": entity_scores(found, labels, names)}
    logits, labels = np.array(given), np.array(wanted)
    several = labels.ndim == 2
    predicted = (logits > 0).astype(int) if several else logits.argmax(1)
    metrics = (multi_label_metrics if several else classification_metrics)(logits, labels)
    scores = label_scores([str(label) for label in range(logits.shape[1])], predicted, labels)
    return metrics | {"by_label": [one for one in scores if one["f1"] is not None]}


def as_tokens(given: list[list[str]], wanted: list[list[str]]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    names = sorted({tag for row in given + wanted for tag in row})
    longest = max(map(len, wanted))
    both = np.array(
        [[[names.index(tag) for tag in row] + [IGNORED] * (longest - len(row)) for row in rows] for rows in (given, wanted)]
    )
    return np.stack([both[0], np.zeros_like(both[0])], axis=-1), both[1], names


def assert_same(found: dict[str, Any], expected: dict[str, Any], file: str, name: str) -> None:
    if file in TAGS and name == "by_label":  # each F1 from counts, where seqeval goes by precision and recall
        assert by_name(found[name]) == pytest.approx(by_name(expected[name]), rel=1e-12)
    elif name in ROUNDED or (file in TAGS and name in ("f1", "f1_macro")):
        assert found[name] == pytest.approx(expected[name], rel=1e-12, abs=1e-12)
    elif name.endswith("signature"):  # which ends with the version of sacreBLEU
        assert re.sub(r"\|version:.*", "", found[name]) == re.sub(r"\|version:.*", "", expected[name])
    else:
        assert found[name] == expected[name]


def by_name(entries: list[dict[str, Any]]) -> dict[str, float]:
    return {f"{one['label']} {name}": value for one in entries for name, value in one.items() if name != "label"}


CASES = [(file, name) for file in freeze.FILES for name in EXPECTED[file]]


@pytest.fixture(scope="module")
def figures() -> dict[str, dict[str, Any]]:
    return {file: ours(file) for file in freeze.FILES}


@pytest.mark.parametrize(("file", "name"), CASES)
def test_ours_is_the_frozen_figure(figures: dict[str, dict[str, Any]], file: str, name: str) -> None:
    assert_same(figures[file], EXPECTED[file], file, name)


@pytest.mark.parametrize("file", freeze.FILES)
def test_the_libraries_still_say_so(file: str) -> None:
    if file in TAGS:
        pytest.importorskip(
            "seqeval.metrics", reason="seqeval is no dependency; tests/metrics/freeze.py says how to compare"
        )
    live = freeze.FILES[file][1](freeze.frozen_rows(file))
    assert live.keys() == EXPECTED[file].keys()
    for name in live:
        assert_same(live, EXPECTED[file], file, name)


@pytest.mark.parametrize("file", freeze.FILES)
def test_every_metric_of_the_task_is_frozen(file: str) -> None:
    task = TASK_OF.get(file, "text-classification")
    metrics = TEXT_METRICS if task == "instruction" else TASK_SPECS[task].metrics
    given_elsewhere = {"loss"} if file in (*TAGS, "numbers") else set()  # the mean of what the model gives; the MSE
    given_elsewhere |= {"roc_auc"} if file in WITHOUT_A_LABEL else set()
    assert metrics.keys() - given_elsewhere <= EXPECTED[file].keys()


@pytest.mark.parametrize(
    "figure",
    [
        figure
        for file in freeze.FILES
        if file != "one_class"
        for figure in EXPECTED[file].items()
        if isinstance(figure[1], float)
    ],
)
def test_no_frozen_figure_is_at_its_end(figure: tuple[str, float]) -> None:
    """Of predictions that are all right or all wrong, or of no rows, many a wrong formula says the same."""
    assert figure[1] > 0.02
    assert figure[1] not in (1.0, 100.0)


@pytest.mark.parametrize(
    ("prediction", "reference", "wanted"),
    [
        ("the cat sat", "a cat sat down", 4 / 5),  # 2 of 2 and 2 of 3
        ("cat cat cat", "cat", 1 / 2),  # a word counts as often as both have it
        ("The", "an", 1),  # both say nothing
        ("The", "cat", 0),
        ("don't, stop!", "dont stop", 1),
        ("up", "down", 0),
    ],
)
def test_token_f1_by_hand(prediction: str, reference: str, wanted: float) -> None:
    assert token_f1(prediction, reference) == pytest.approx(wanted, abs=1e-15)
    assert freeze.squad_f1(prediction, reference) == pytest.approx(wanted, abs=1e-15)


def test_token_f1_of_each_frozen_text_is_the_independent_one() -> None:
    for row in freeze.frozen_rows("texts"):
        assert token_f1(row["prediction"], row["reference"]) == pytest.approx(
            freeze.squad_f1(row["prediction"], row["reference"]), abs=1e-15
        )
