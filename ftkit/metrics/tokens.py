"""Metrics of token classification: entities found, by type and exact borders, and tags right.

Entities are read from tags as conlleval and seqeval (https://github.com/chakki-works/seqeval, its default mode) read them,
tests/metrics/test_tokens.py compares the two. seqeval itself is no dependency: its last release is of 2020 and has no wheel.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ftkit.data.encode import IGNORED
from ftkit.metrics.resampling import (
    POSITIVE_BOUNDS,
    SHARE_BOUNDS,
    Resampler,
    f_shares,
    of_ratio,
    of_share,
    of_sums,
    ratio,
)

OUTSIDE = "O"
UNSEEN = -1  # the predicted label of a word that stands behind the cut: it counts as missed, and in no loss
_TAG = re.compile(r"([BIESLU])(?:-(.+))?", re.DOTALL)  # BIO, BIOES and BILOU


class Entity(NamedTuple):
    """Words from `first` to `last`, both counted from 0 and both inside, that name one thing."""

    kind: str
    first: int
    last: int


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of a row, in their order.

    An entity also begins at an I- tag after O or after another type. Tags without a prefix, as those of parts of speech,
    make one entity of neighbours that are alike.
    """
    found: list[Entity] = []
    before, kind_before = OUTSIDE, ""
    for place, tag in enumerate(tags):
        prefix, kind = _split(tag)
        if prefix != OUTSIDE:
            inside = before not in (OUTSIDE, "E", "S") and prefix not in ("B", "S") and kind == kind_before
            found.append(found.pop()._replace(last=place) if inside else Entity(kind, place, place))
        before, kind_before = prefix, kind
    return found


def token_metrics(predictions: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """All metrics; those of entities over all types together (micro), zero where there are none.

    Args:
        predictions: shape (rows, tokens, 2), each token's predicted label, or UNSEEN, and its loss in nats.
        labels: shape (rows, tokens), -100 where a token is not labelled.
        names: the tag of each label.
    """
    found = token_resamplers(predictions, labels, names)
    whole = np.ones((1, len(labels)))
    return {name: float(metric.compute(whole)[0]) for name, metric in found.items()}


def token_resamplers(predictions: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, Resampler]:
    """The metrics of `token_metrics` for any weights of the rows."""
    counts, by_kind = [], []
    for row, truth in zip(predictions, labels, strict=True):
        right, found = (set(entities(tags)) for tags in tags_of(row, truth, names))
        counts.append((len(right), len(found), len(right & found)))
        by_kind.append(tuple(Counter(entity.kind for entity in members) for members in (right & found, found, right)))
    expected, predicted, shared = np.array(counts, dtype=np.float64).T
    counted = labels != IGNORED
    seen = counted & (predictions[..., 0] != UNSEEN)
    return {
        **f_shares(shared, predicted, expected),
        "f1_macro": _macro_f1(by_kind),
        "accuracy": of_share(((predictions[..., 0] == labels) & counted).sum(1), counted.sum(1)),
        "loss": of_ratio(np.where(seen, predictions[..., 1], 0).astype(np.float64).sum(1), seen.sum(1), POSITIVE_BOUNDS),
    }


def _macro_f1(rows: list[tuple[Counter[str], ...]]) -> Resampler:
    """The mean over types of entities that are there or were found, from each row's shared, found and expected of a type."""
    kinds = sorted({kind for row in rows for counts in row for kind in counts})
    columns = np.array([[counts[kind] for counts in row for kind in kinds] for row in rows], dtype=np.float64)

    def finish(sums: np.ndarray) -> np.ndarray:
        shared, found, expected = np.split(sums, 3, axis=1)
        return ratio(ratio(2 * shared, found + expected).sum(1), (found + expected > 0).sum(1))

    return of_sums(columns, finish, SHARE_BOUNDS)


def entity_scores(predictions: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and number of the entities of each type; the arguments are those of `token_metrics`."""
    wanted, found, shared = (Counter[str]() for _ in range(3))
    for row, truth in zip(predictions, labels, strict=True):
        right, given = (set(entities(tags)) for tags in tags_of(row, truth, names))
        for counts, members in ((wanted, right), (found, given), (shared, right & given)):
            counts.update(entity.kind for entity in members)
    return [
        {
            "label": kind,
            "precision": shared[kind] / max(found[kind], 1),
            "recall": shared[kind] / max(wanted[kind], 1),
            "f1": 2 * shared[kind] / (wanted[kind] + found[kind]),
            "support": wanted[kind],
        }
        for kind in sorted(wanted | found)
    ]


def tags_of(row: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The true and the predicted tag of each word of one row.

    Args:
        row: shape (tokens, 2), as a row of `token_metrics`.
        labels: shape (tokens,).
    """
    counted = labels != IGNORED
    truth, found = labels[counted].tolist(), row[counted, 0].astype(int).tolist()
    return [names[label] for label in truth], [OUTSIDE if label == UNSEEN else names[label] for label in found]


def add_unseen(predictions: np.ndarray, labels: np.ndarray, lost: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels with the words that no token of a row stands for, behind the row's tokens.

    Args:
        lost: the labels of each row's such words; empty where no row has any.
    """
    most = max(map(len, lost), default=0)
    if not most:
        return predictions, labels
    wider = np.full((len(labels), most), IGNORED, labels.dtype)
    for row, own in enumerate(lost):
        wider[row, : len(own)] = own
    unseen = np.stack([np.full(wider.shape, UNSEEN), np.zeros(wider.shape)], axis=-1).astype(predictions.dtype)
    return np.concatenate([predictions, unseen], axis=1), np.concatenate([labels, wider], axis=1)


def join_entries(predictions: np.ndarray, labels: np.ndarray, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The labelled tokens of the entries of each row, one entry behind the other, in the order in which rows come.

    Args:
        rows: which row each entry is of.

    Returns:
        Predictions of shape (rows, most words of a row, 2), and labels, -100 behind a row's words.
    """
    counted = labels != IGNORED
    places: dict[int, list[int]] = {}
    for entry, row in enumerate(rows):
        places.setdefault(row, []).append(entry)
    most = max(int(counted[entries].sum()) for entries in places.values())
    joined = np.full((len(places), most, 2), IGNORED, predictions.dtype), np.full((len(places), most), IGNORED, labels.dtype)
    for row, entries in enumerate(places.values()):
        for values, made in zip((predictions, labels), joined, strict=True):
            words = values[entries][counted[entries]]
            made[row, : len(words)] = words
    return joined


def _split(tag: str) -> tuple[str, str]:
    """A tag's prefix, L read as E and U as S, and its type."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    if match := _TAG.fullmatch(tag):
        return {"L": "E", "U": "S"}.get(match[1], match[1]), match[2] or ""
    return "I", tag
