"""Metrics of numbers, computed by scikit-learn and SciPy. Predictions and labels have shape (rows,)."""

import math
import warnings

import numpy as np

from ftkit.metrics.resampling import (
    POSITIVE_BOUNDS,
    Bounds,
    Kind,
    Resampler,
    of_correlation,
    of_means,
    of_rank_correlation,
    of_sums,
    ratio,
)

R2_BOUNDS = Bounds(-math.inf, 1, False, Kind.EXPLAINED)


def regression_metrics(predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Mean squared and absolute error, R², and the correlations of Pearson and Spearman, absent where one does not vary."""
    from scipy import stats  # with the next, half a second that other tasks need not take
    from sklearn import metrics as sk

    predicted, labels = predicted.astype(np.float64), labels.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a column that does not vary has no correlation
        scores = {
            "mse": float(sk.mean_squared_error(labels, predicted)),
            "mae": float(sk.mean_absolute_error(labels, predicted)),
            "r2": float(sk.r2_score(labels, predicted)) if len(labels) > 1 else math.nan,
            "pearson": float(stats.pearsonr(predicted, labels)[0]) if len(labels) > 1 else math.nan,
            "spearman": float(stats.spearmanr(predicted, labels)[0]) if len(labels) > 1 else math.nan,
        }
    scores["loss"] = scores["mse"]
    return {name: value for name, value in scores.items() if math.isfinite(value)}


def regression_resamplers(predicted: np.ndarray, labels: np.ndarray) -> dict[str, Resampler]:
    """The metrics of `regression_metrics` for any weights of the rows."""
    predicted, labels = predicted.astype(np.float64), labels.astype(np.float64)
    squares, centred = (predicted - labels) ** 2, labels - labels.mean()

    def explained(sums: np.ndarray) -> np.ndarray:
        rows, error, total, spread = sums.T
        return 1 - ratio(error, spread - ratio(total**2, rows))

    columns = np.stack([np.ones_like(labels), squares, centred, centred**2], axis=1)
    return {
        "mse": of_means(squares, POSITIVE_BOUNDS),
        "mae": of_means(np.abs(predicted - labels), POSITIVE_BOUNDS),
        "r2": of_sums(columns, explained, R2_BOUNDS),
        "pearson": of_correlation(predicted, labels),
        "spearman": of_rank_correlation(predicted, labels),
        "loss": of_means(squares, POSITIVE_BOUNDS),
    }
