"""Scores of predictions: all metrics of one model on one labelled set."""

from typing import Any

import numpy as np

BINS = 15  # of the calibration error, of equal width


def measure(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """All metrics of one model.

    Args:
        probabilities: (N, K), each row sums to 1.
        labels: (N,) integers in [0, K).

    Returns:
        accuracy; recall_macro, precision_macro, f1_macro (fractions: a class that is never predicted has
        precision 0, a class without images is excluded from the means); nll (nats per image); ece (fraction);
        recall (of each class, None if it has no images).
    """
    classes = probabilities.shape[1]
    table = confusion(probabilities.argmax(1), labels, classes)
    hits, actual, predicted = np.diag(table), table.sum(1), table.sum(0)
    recall = hits / np.maximum(actual, 1)
    precision = hits / np.maximum(predicted, 1)
    f1 = 2 * hits / np.maximum(actual + predicted, 1)
    present = actual > 0
    return {
        "accuracy": _round(hits.sum() / len(labels)),
        "recall_macro": _round(recall[present].mean()),
        "precision_macro": _round(precision[present].mean()),
        "f1_macro": _round(f1[present].mean()),
        "nll": _round(negative_log_likelihood(probabilities, labels)),
        "ece": _round(calibration_error(probabilities, labels)),
        "recall": [_round(r) if p else None for r, p in zip(recall, present, strict=True)],
    }


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Counts, (K, K): row = actual class, column = predicted class."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean −log p(true class) in nats; probabilities are clipped at 1e-12."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv:1706.04599): Σ share · |accuracy − confidence|."""
    confidence = probabilities.max(1).astype(np.float64)
    correct = probabilities.argmax(1) == labels
    # Bins are (lower, upper], as in the paper.
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gap = np.bincount(bins, correct - confidence, minlength=BINS)
    return float(np.abs(gap).sum() / len(labels))


def _round(value: float) -> float:
    return round(float(value), 4)
