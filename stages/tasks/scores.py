"""Scores of predictions: all metrics of one model on one labelled set."""

from collections.abc import Sequence
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


def balanced_accuracy(correct: np.ndarray, labels: np.ndarray) -> float:
    """The macro recall, from whether each image is right and from its class; both arrays are (N,)."""
    return float(np.mean([correct[labels == label].mean() for label in np.unique(labels)]))


def contributions(
    probabilities: np.ndarray, labels: np.ndarray, units: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """What each image contributes to each metric of `measure` but `recall`: the metric is the mean over them.

    Accuracy, log-likelihood and calibration error are such means. A ratio, such as the recall of a class, is
    made one by its derivative with respect to the weight of each image (the infinitesimal jackknife: L. A.
    Jaeckel 1972; B. Efron, "Nonparametric estimates of standard error", Biometrika 68, 1981).

    Args:
        probabilities: (N, K), each row sums to 1.
        labels: (N,) integers in [0, K).
        units: (N,) integers from 0 on, the unit of each image; None: each is one of its own.

    Returns:
        (N,) for each metric. The recall of a class is the accuracy on its images.
    """
    count, classes = probabilities.shape
    guesses, numbers = probabilities.argmax(1), np.arange(classes)[:, None]
    actual, predicted = labels == numbers, guesses == numbers  # (K, N)
    hits = actual & predicted
    present = actual.any(1)
    counts = independent(labels, np.arange(count) if units is None else units, numbers[:, 0])
    recall, precision = _ratio(hits, actual, counts), _ratio(hits, predicted, empty=0.0)
    f1 = _ratio(2.0 * hits, actual.astype(float) + predicted, empty=0.0)
    confidence = probabilities.max(1).astype(np.float64)
    gap = (guesses == labels) - confidence
    bins = _bins(confidence)
    chosen = probabilities[np.arange(count), labels].astype(np.float64)
    return {
        "accuracy": (guesses == labels).astype(np.float64),
        "recall_macro": recall[present].mean(0),
        "precision_macro": precision[present].mean(0),
        "f1_macro": f1[present].mean(0),
        "nll": -np.log(np.maximum(chosen, 1e-12)),
        "ece": np.sign(np.bincount(bins, gap, minlength=BINS))[bins] * gap,
    }


def accuracy_bounds(accuracy: float, units: np.ndarray) -> tuple[float, float]:
    """What the largest unit contributes to the accuracy if all its images are right, and if all are wrong.

    None of few units is all wrong in one sample and one is in another: an interval needs to know what could
    have been.

    Args:
        accuracy: on all images.
        units: (N,) integers from 0 on, the unit of each image.
    """
    sizes = np.bincount(units)
    weight = float(sizes.max() * len(sizes) / len(units))  # 1 where each image is a unit
    return accuracy + (1 - accuracy) * weight, accuracy - accuracy * weight


def recall_bounds(recalls: Sequence[float], labels: np.ndarray, units: np.ndarray) -> tuple[float, ...]:
    """As `accuracy_bounds` for the macro recall: those of the largest unit of each class.

    Args:
        recalls: of each class that has images, in the order of their numbers.
        labels, units: (N,) integers, the class and the unit of each image.
    """
    classes, counts = np.unique(labels, return_counts=True)
    largest = np.array([np.bincount(units[labels == label]).max() for label in classes])
    weights = (
        largest * (units.max() + 1) / (len(classes) * counts) * _few(independent(labels, units, classes))
    )
    macro, of_class = np.mean(recalls), np.asarray(recalls)
    return (*(macro + (1 - of_class) * weights), *(macro - of_class * weights))


def independent(labels: np.ndarray, units: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """How many units of equal size say as much as those of each class (`effective`, not rounded), (K,)."""
    return np.array([_kish(units[labels == label]) for label in classes])


def _few(counts: np.ndarray) -> np.ndarray:
    """By how much the spread of few images is enlarged, so that it is that of n - 1 degrees of freedom."""
    return np.asarray(np.sqrt(counts / np.maximum(counts - 1, 1)))


def _ratio(
    hits: np.ndarray, of: np.ndarray, counts: np.ndarray | None = None, empty: float = np.nan
) -> np.ndarray:
    """What each image contributes to Σ hits / Σ of, for each class, (K, N); `empty` where Σ of is 0.

    counts: of what is independent in each class, (K,); None: Σ of.
    """
    totals = of.sum(1, keepdims=True).astype(np.float64)
    ratio = np.where(totals > 0, hits.sum(1, keepdims=True) / np.maximum(totals, 1), empty)
    linear = (hits - ratio * of) * (hits.shape[1] / np.maximum(totals, 1))
    linear *= _few(totals if counts is None else counts[:, None])
    return np.asarray(ratio + np.where(totals > 0, linear, 0.0))


def by_unit(contributed: np.ndarray, units: np.ndarray) -> np.ndarray:
    """What each unit contributes, from what each image does: the mean over the units is that over the images.

    Args:
        contributed: (…, N), of each image.
        units: (N,) integers from 0 on, the unit of each image: a group of images, or the image alone.

    Returns:
        (…, U).
    """
    count = int(units.max(initial=-1)) + 1
    mean = contributed.mean(-1, keepdims=True)
    sums = np.zeros((count, *contributed.shape[:-1]))
    np.add.at(sums, units, np.moveaxis(contributed - mean, -1, 0))
    return np.asarray(mean + np.moveaxis(sums, 0, -1) * (count / len(units)))


def effective(units: np.ndarray) -> int:
    """How many units of equal size say as much as these: one of them may have most of the images.

    (Σ n)² / Σ n², rounded down (L. Kish, "Survey Sampling", 1965, for weights).

    Args:
        units: (N,) integers from 0 on, the unit of each image.
    """
    return int(_kish(units))


def _kish(units: np.ndarray) -> float:
    sizes = np.bincount(units)
    return float(sizes.sum() ** 2 / max((sizes**2).sum(), 1))


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
    gap = np.bincount(_bins(confidence), correct - confidence, minlength=BINS)
    return float(np.abs(gap).sum() / len(labels))


def _bins(confidence: np.ndarray) -> np.ndarray:
    """The bin of each confidence. Bins are (lower, upper], as in the paper."""
    return np.asarray(np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1))


def _round(value: float) -> float:
    return round(float(value), 4)
