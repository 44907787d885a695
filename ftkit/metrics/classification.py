"""Metrics of classification, computed by scikit-learn.

Logits have shape (rows, labels); labels have shape (rows,) with one label a row, or (rows, labels) of 0 and 1 with several.
"""

import warnings

import numpy as np
from scipy.special import expit, log_softmax, softmax
from sklearn import metrics as sk


def classification_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """All metrics for one label a row.

    `f1`, `precision` and `recall` are those of label 1 where there are two labels, else the unweighted mean over labels.
    `roc_auc` is one against the rest, and left out where a label is absent.
    """
    predicted = logits.argmax(axis=-1)
    average = "binary" if logits.shape[1] == 2 else "macro"
    known = list(range(logits.shape[1]))
    scores = _f_scores(labels, predicted, average, None if average == "binary" else known)
    scores["accuracy"] = float(sk.accuracy_score(labels, predicted))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one label alone among the predictions: the coefficient is 0 by definition
        scores["matthews_correlation"] = float(sk.matthews_corrcoef(labels, predicted))
    if len(set(labels.tolist())) == logits.shape[1] and np.isfinite(logits).all():
        probability = softmax(logits.astype(np.float64), axis=-1)
        probability = probability[:, 1] if average == "binary" else probability
        scores["roc_auc"] = float(sk.roc_auc_score(labels, probability, multi_class="ovr", labels=known))
    scores["loss"] = float(-log_softmax(logits.astype(np.float64), axis=-1)[np.arange(len(labels)), labels].mean())
    return scores


def multi_label_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """All metrics for several labels a row; a label is predicted from a probability of one half on.

    `accuracy` is the share of rows with every label right.
    """
    predicted, labels = (logits > 0).astype(int), labels.astype(int)
    scores = _f_scores(labels, predicted, "macro", None)
    scores["accuracy"] = float(sk.accuracy_score(labels, predicted))
    scores["matthews_correlation"] = float(sk.matthews_corrcoef(labels.ravel(), predicted.ravel()))
    if np.isfinite(logits).all() and all(0 < column.sum() < len(column) for column in labels.T):
        scores["roc_auc"] = float(sk.roc_auc_score(labels, expit(logits.astype(np.float64)), average="macro"))
    signed = np.where(labels == 1, logits, -logits).astype(np.float64)
    scores["loss"] = float(np.logaddexp(0, -signed).mean())
    return scores


def _f_scores(labels: np.ndarray, predicted: np.ndarray, average: str, known: list[int] | None) -> dict[str, float]:
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        labels, predicted, average=average, labels=known, zero_division=0
    )
    return {
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "f1_micro": float(sk.f1_score(labels, predicted, average="micro", zero_division=0)),
        "f1_weighted": float(sk.f1_score(labels, predicted, average="weighted", zero_division=0)),
    }
