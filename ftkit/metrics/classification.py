"""Metrics of classification, computed by scikit-learn.

The functions import it: half a second that other tasks need not take.

Logits have shape (rows, labels); labels have shape (rows,) with one label a row, or (rows, labels) of 0 and 1 with several.
"""

import warnings
from typing import Any

import numpy as np
from scipy.special import expit, log_softmax, softmax

from ftkit.metrics.resampling import (
    POSITIVE_BOUNDS,
    SHARE_BOUNDS,
    Bounds,
    Kind,
    Resampler,
    f_shares,
    of_means,
    of_ranks_auc,
    of_ratio,
    of_share,
    of_sums,
    ratio,
)

CALIBRATION_BINS = 15
SIGNED_BOUNDS = Bounds(-1, 1, counted=True)
GAP_BOUNDS = Bounds(0, 1, False, Kind.GAPS)
F_NAMES = ("precision", "recall", "f1")


def classification_metrics(logits: np.ndarray, labels: np.ndarray, positive: int = 1) -> dict[str, float]:
    """All metrics for one label a row.

    `f1`, `precision` and `recall` are those of the label `positive` where there are two labels, else the unweighted mean
    over the labels that a row has or was given. `roc_auc` is one against the rest, and left out where a label is absent.
    """
    from sklearn import metrics as sk

    predicted, known = logits.argmax(axis=-1), list(range(logits.shape[1]))
    scores = label_metrics(predicted, labels, len(known), positive)
    probability = softmax(logits.astype(np.float64), axis=-1)
    scores["calibration_error"] = calibration_error(probability.max(1)[:, None], (predicted == labels)[:, None])
    if len(set(labels.tolist())) == logits.shape[1] and np.isfinite(logits).all():
        probability = probability[:, 1] if len(known) == 2 else probability
        scores["roc_auc"] = float(sk.roc_auc_score(labels, probability, multi_class="ovr", labels=known))
    scores["loss"] = float(-log_softmax(logits.astype(np.float64), axis=-1)[np.arange(len(labels)), labels].mean())
    return scores


def label_metrics(predicted: np.ndarray, labels: np.ndarray, count: int, positive: int = 1) -> dict[str, float]:
    """Those that need no more than the predicted label of each row, of `count` labels."""
    from sklearn import metrics as sk

    scores = _f_scores(labels, predicted, positive if count == 2 else None)
    scores["accuracy"] = float(sk.accuracy_score(labels, predicted))
    scores["matthews_correlation"] = matthews_correlation(labels, predicted)
    return scores


def matthews_correlation(labels: np.ndarray, predicted: np.ndarray) -> float:
    from sklearn import metrics as sk

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one label alone among the predictions: the coefficient is 0 by definition
        return float(sk.matthews_corrcoef(labels, predicted))


def multi_label_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """All metrics for several labels a row; a label is predicted from a probability of one half on.

    `accuracy` is the share of rows with every label right.
    """
    from sklearn import metrics as sk

    predicted, labels = (logits > 0).astype(int), labels.astype(int)
    scores = label_set_metrics(predicted, labels)
    if np.isfinite(logits).all() and all(0 < column.sum() < len(column) for column in labels.T):
        scores["roc_auc"] = float(sk.roc_auc_score(labels, expit(logits.astype(np.float64)), average="macro"))
    scores["calibration_error"] = calibration_error(expit(np.abs(logits.astype(np.float64))), predicted == labels)
    signed = np.where(labels == 1, logits, -logits).astype(np.float64)
    scores["loss"] = float(np.logaddexp(0, -signed).mean())
    return scores


def label_set_metrics(predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Those that need no more than the predicted labels of each row, as 0 and 1."""
    from sklearn import metrics as sk

    scores = _f_scores(labels, predicted, None, np.flatnonzero((labels + predicted).any(0)).tolist())
    scores["accuracy"] = float(sk.accuracy_score(labels, predicted))
    scores["matthews_correlation"] = matthews_correlation(labels.ravel(), predicted.ravel())
    return scores


def label_scores(names: list[str], predicted: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """Precision, recall, F1 and number of rows of each label, None where no row has it or was given it."""
    from sklearn import metrics as sk

    known = range(len(names))
    scores = sk.precision_recall_fscore_support(labels, predicted, labels=known, average=None, zero_division=0)
    seen = (labels + predicted).any(0) if labels.ndim == 2 else np.isin(known, [labels, predicted])
    return [
        {"label": name, **dict.fromkeys(F_NAMES)} | (dict(zip(F_NAMES, map(float, found), strict=True)) if is_seen else {})
        | {"support": int(rows)}
        for name, is_seen, rows, *found in zip(names, seen, scores[3], *scores[:3], strict=True)
    ]  # fmt: skip


def _f_scores(
    labels: np.ndarray, predicted: np.ndarray, positive: int | None, columns: list[int] | None = None
) -> dict[str, float]:
    """Precision, recall and F1 with their averages.

    Args:
        positive: whose they are where no average is named; None for the mean over labels.
        columns: of several labels a row, those that occur; scikit-learn itself finds them where a row has one.
    """
    from sklearn import metrics as sk

    def of(kind: str, **options: Any) -> list[float]:
        found = sk.precision_recall_fscore_support(labels, predicted, average=kind, zero_division=0, **options)
        return [float(value) for value in found[:3]]

    macro = of("macro", labels=columns) if columns != [] else [0.0] * 3
    own = macro if positive is None else of("binary", pos_label=positive)
    several = {
        f"{name}_{kind}": value
        for kind, values in (("micro", of("micro")), ("macro", macro))
        for name, value in zip(F_NAMES, values, strict=True)
    }
    return dict(zip(F_NAMES, own, strict=True)) | several | {"f1_weighted": of("weighted")[2]}


def classification_resamplers(logits: np.ndarray, labels: np.ndarray, positive: int = 1) -> dict[str, Resampler]:
    """The metrics of `classification_metrics` for any weights of the rows."""
    count, rows = logits.shape[1], np.arange(len(labels))
    truth, predicted = (np.eye(count)[column] for column in (labels, logits.argmax(axis=-1)))
    probability = softmax(logits.astype(np.float64), axis=-1)
    right = (truth * predicted).sum(1)
    bounds = _matthews_bounds(several=len(set(labels.tolist())) > 1)
    found = _f_resamplers(truth, predicted, only=positive if count == 2 else None)
    found |= {
        "accuracy": of_share(right),
        "matthews_correlation": of_sums(np.concatenate([truth * predicted, predicted, truth], 1), _matthews, bounds),
        "loss": of_means(-np.log(np.maximum(probability[rows, labels], 1e-300)), POSITIVE_BOUNDS),
        "calibration_error": calibration_resampler(probability.max(1)[:, None], right[:, None]),
    }
    if np.isfinite(logits).all():
        areas = [of_ranks_auc(probability[:, label], labels == label) for label in ([1] if count == 2 else range(count))]
        found["roc_auc"] = _mean_of(areas)
    return found


def multi_label_resamplers(logits: np.ndarray, labels: np.ndarray) -> dict[str, Resampler]:
    """The metrics of `multi_label_metrics` for any weights of the rows."""
    truth, predicted = labels.astype(float), (logits > 0).astype(float)
    right = (truth == predicted).all(1)
    signed = np.where(labels == 1, logits, -logits).astype(np.float64)
    both = [truth * predicted, (1 - truth) * predicted, truth * (1 - predicted), (1 - truth) * (1 - predicted)]
    bounds = _matthews_bounds(several=bool(truth.any() and not truth.all()))
    found = _f_resamplers(truth, predicted, only=None)
    found |= {
        "accuracy": of_share(right),
        "matthews_correlation": of_sums(np.stack([part.sum(1) for part in both], 1), _matthews_binary, bounds),
        "loss": of_ratio(np.logaddexp(0, -signed).sum(1), np.full(len(labels), labels.shape[1]), POSITIVE_BOUNDS),
        "calibration_error": calibration_resampler(expit(np.abs(logits.astype(np.float64))), truth == predicted),
    }
    if np.isfinite(logits).all():
        columns = range(labels.shape[1])
        found["roc_auc"] = _mean_of([of_ranks_auc(logits[:, column], truth[:, column] == 1) for column in columns])
    return found


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error over 15 bins of equal width (Guo et al., 2017, https://arxiv.org/abs/1706.04599).

    Args:
        confidence: the probability of each prediction, shape (rows, predictions).
        right: 1 where the prediction is, of the same shape.
    """
    return float(calibration_resampler(confidence, right).compute(np.ones((1, len(right))))[0])


def calibration_resampler(confidence: np.ndarray, right: np.ndarray) -> Resampler:
    bins = np.eye(CALIBRATION_BINS)[np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, None)]
    gaps = (bins * (confidence - right)[..., None]).sum(1)
    counts = np.full((len(right), 1), right.shape[1])

    def finish(sums: np.ndarray) -> np.ndarray:
        return ratio(np.abs(sums[:, :-1]).sum(1), sums[:, -1])

    return of_sums(np.concatenate([gaps, counts], 1), finish, GAP_BOUNDS)


def _f_resamplers(truth: np.ndarray, predicted: np.ndarray, only: int | None) -> dict[str, Resampler]:
    """Precision, recall and F1 from the rows' labels as 0 and 1, shape (rows, labels).

    They are of one label, or the mean over those that a drawn row has or was given.
    """
    hits, columns = truth * predicted, np.concatenate([truth * predicted, predicted, truth], 1)

    def of_all(part: int) -> Resampler:
        def finish(sums: np.ndarray) -> np.ndarray:
            shared, found, wanted = np.split(sums, 3, axis=1)
            scores = ratio(*((shared, found), (shared, wanted), (2 * shared, found + wanted))[part])
            return ratio(scores.sum(1), (found + wanted > 0).sum(1))

        return of_sums(columns, finish, SHARE_BOUNDS)

    def weighted(sums: np.ndarray) -> np.ndarray:
        shared, found, wanted = np.split(sums, 3, axis=1)
        return ratio((ratio(2 * shared, found + wanted) * wanted).sum(1), wanted.sum(1))

    macro = {name: of_all(part) for part, name in enumerate(F_NAMES)}
    micro = f_shares(*(counts.sum(1) for counts in (hits, predicted, truth)))
    own = macro if only is None else f_shares(hits[:, only], predicted[:, only], truth[:, only])
    named = own | {f"{name}_micro": micro[name] for name in F_NAMES} | {f"{name}_macro": macro[name] for name in F_NAMES}
    return named | {"f1_weighted": of_sums(columns, weighted, SHARE_BOUNDS)}


def _matthews(sums: np.ndarray) -> np.ndarray:
    """Gorodkin's coefficient (2004) from hits, predictions and truths by label."""
    hits, found, wanted = np.split(sums, 3, axis=1)
    rows = wanted.sum(1)
    spread = np.sqrt(np.maximum(rows**2 - (found**2).sum(1), 0) * np.maximum(rows**2 - (wanted**2).sum(1), 0))
    return ratio(hits.sum(1) * rows - (found * wanted).sum(1), spread)


def _matthews_bounds(*, several: bool) -> Bounds:
    """Of rows whose truth is one label alone the coefficient is 0, whatever the model can."""
    return SIGNED_BOUNDS if several else SIGNED_BOUNDS._replace(kind=Kind.UNDEFINED)


def _matthews_binary(sums: np.ndarray) -> np.ndarray:
    hits, false, missed, rest = sums.T
    return ratio(
        hits * rest - false * missed,
        np.sqrt((hits + false) * (hits + missed) * (rest + false) * (rest + missed)),
    )


def _mean_of(parts: list[Resampler]) -> Resampler:
    return Resampler(
        parts[0].rows, lambda weights: np.mean([part.compute(weights) for part in parts], axis=0), parts[0].bounds
    )
