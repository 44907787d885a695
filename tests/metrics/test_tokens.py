"""Entities and their scores equal those of conlleval and seqeval."""

import math

import numpy as np
import pytest

from ftkit.data.encode import IGNORED
from ftkit.metrics.tokens import entities, entity_scores, token_metrics
from ftkit.recipe.tasks import TASK_SPECS

BIO = ["O", "B-x", "I-x", "B-y", "I-y"]
BIOES = [*BIO, "E-x", "S-x", "E-y", "S-y"]


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O O", []),
        ("B-x I-x O B-x", [("x", 0, 1), ("x", 3, 3)]),
        ("B-x B-x I-x", [("x", 0, 0), ("x", 1, 2)]),
        ("I-x I-x I-y", [("x", 0, 1), ("y", 2, 2)]),  # no B-: begins after O, and where the type changes
        ("B-x I-y O I-x", [("x", 0, 0), ("y", 1, 1), ("x", 3, 3)]),
        ("B-x I-x E-x S-x I-x", [("x", 0, 2), ("x", 3, 3), ("x", 4, 4)]),
        ("B-x L-x U-y", [("x", 0, 1), ("y", 2, 2)]),  # BILOU
        ("B-creative-work I-creative-work", [("creative-work", 0, 1)]),
        ("B I O", [("", 0, 1)]),
        ("DET NOUN NOUN", [("DET", 0, 0), ("NOUN", 1, 2)]),
    ],
)
def test_entities(tags: str, found: list[tuple[str, int, int]]) -> None:
    assert entities(tags.split()) == found


@pytest.mark.parametrize("names", [BIO, BIOES])
def test_scores_are_seqevals(names: list[str]) -> None:
    seqeval = pytest.importorskip("seqeval.metrics", reason="seqeval is no dependency; `pip install seqeval` to compare")
    random = np.random.default_rng(0)
    for _ in range(50):
        labels = random.integers(0, len(names), (20, 12))
        found = np.where(random.random(labels.shape) < 0.7, labels, random.integers(0, len(names), labels.shape))
        tags = [[[names[tag] for tag in row] for row in part.tolist()] for part in (labels, found)]
        scores = token_metrics(np.stack([found, np.zeros_like(found)], -1), labels, names)
        for name in ("f1", "precision", "recall", "accuracy"):
            wanted = getattr(seqeval, f"{name}_score")(*tags)
            assert scores[name] == pytest.approx(wanted, abs=1e-12)


def test_scores_by_hand() -> None:
    """Of two entities one is found; what is found beside it has a wrong border."""
    labels = np.array([[IGNORED, 1, 2, IGNORED, 0, 3], [IGNORED, 0, IGNORED, IGNORED, IGNORED, IGNORED]])
    found = np.array([[4, 1, 0, 4, 0, 3], [4, 0, -100, -100, -100, -100]])
    loss = np.array([[9, 1, 2, 9, 3, 4], [9, 5, 9, 9, 9, 9]])
    scores = token_metrics(np.stack([found, loss], -1).astype(np.float32), labels, BIO)
    assert scores == {"f1": 0.5, "f1_macro": 0.5, "precision": 0.5, "recall": 0.5, "accuracy": 0.8, "loss": 3.0}
    assert scores.keys() == TASK_SPECS["token-classification"].metrics.keys()


def test_entities_by_type_by_hand() -> None:
    """Of two x one is found, and an x where there is a y."""
    labels = np.array([[1, 2, 0, 1], [3, 0, 0, 0]])
    found = np.array([[1, 2, 0, 0], [1, 0, 0, 0]])
    assert entity_scores(np.stack([found, found], -1), labels, BIO) == [
        {"label": "x", "precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2},
        {"label": "y", "precision": 0, "recall": 0, "f1": 0, "support": 1},
    ]


def test_rows_without_entities_are_no_crash() -> None:
    scores = token_metrics(np.zeros((1, 3, 2)), np.zeros((1, 3), int), BIO)
    assert (scores["f1"], scores["precision"], scores["recall"], scores["accuracy"]) == (0, 0, 0, 1)
    assert not math.isnan(scores["loss"])
