"""Tables for the report besides the figures: confusion, calibration, mistakes, a map of the features."""

from typing import Any

import numpy as np
import pandas as pd

from stages.tasks.scores import BINS

WORST = 24  # mistakes in the table and in the gallery
POINTS = 800  # of the map, at most


def confusion_table(counts: np.ndarray, classes: list[str], draws: int, budget: str) -> pd.DataFrame:
    """The confusion matrix in long form, one row for each pair of an actual and a predicted class.

    Args:
        counts: (K, K) over all draws; rows: actual, columns: predicted.
        draws: the number of draws, by which the column `images` is divided.

    Returns:
        Columns budget, actual, predicted, images (mean of the draws) and share (of the actual class).
    """
    actual, predicted = np.indices(counts.shape)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return pd.DataFrame(
        {
            "budget": budget,
            "actual": np.take(classes, actual.ravel()),
            "predicted": np.take(classes, predicted.ravel()),
            "images": (counts / draws).round(1).ravel(),
            "share": share.round(4).ravel(),
        }
    )


def reliability_table(draws: list[np.ndarray], labels: np.ndarray, budget: str) -> pd.DataFrame:
    """Accuracy by confidence, over all draws together, one row for each bin that has images.

    Bins are (low, high], as those of the calibration error.

    Args:
        draws: probabilities, (N, K) each.
        labels: (N,).
    """
    confidence = np.concatenate([p.max(1) for p in draws]).astype(np.float64)
    correct = np.concatenate([p.argmax(1) == labels for p in draws])
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    filled = np.flatnonzero(counts)
    return pd.DataFrame(
        {
            "budget": budget,
            "low": (filled / BINS).round(4),
            "high": ((filled + 1) / BINS).round(4),
            "confidence": (np.bincount(bins, confidence, BINS)[filled] / counts[filled]).round(4),
            "accuracy": (np.bincount(bins, correct, BINS)[filled] / counts[filled]).round(4),
            "share": (counts[filled] / counts.sum()).round(4),
        }
    )


def mistakes_table(
    draws: list[np.ndarray], labels: np.ndarray, classes: list[str], names: pd.DataFrame, budget: str
) -> tuple[pd.DataFrame, np.ndarray]:
    """The misclassified images with the highest confidence, by the mean probabilities of all draws.

    Args:
        draws: probabilities, (N, K) each.
        labels: (N,).
        names: the columns id and file, one row for each image.

    Returns:
        The table, highest confidence first, and the rows of its images, (n,).
    """
    mean = np.mean([p.astype(np.float64) for p in draws], axis=0)
    predicted = mean.argmax(1)
    wrong = np.flatnonzero(predicted != labels)
    rows = wrong[np.argsort(-mean[wrong].max(1), kind="stable")][:WORST]
    table = pd.DataFrame(
        {
            "budget": budget,
            "rank": np.arange(1, len(rows) + 1),
            "id": names["id"].to_numpy()[rows],
            "file": names["file"].to_numpy()[rows],
            "actual": [classes[label] for label in labels[rows]],
            "predicted": [classes[label] for label in predicted[rows]],
            "probability": mean[rows].max(1).round(4),
            "draws_wrong": [sum(int(p[row].argmax() != labels[row]) for p in draws) for row in rows],
        }
    )
    return table, rows


def feature_map(
    features: np.ndarray, labels: np.ndarray, classes: list[str]
) -> tuple[pd.DataFrame, list[float]]:
    """Test images in the plane of the first two principal components of their features.

    Args:
        features: (N, D), of all test images; at most POINTS of them, evenly spaced, become points.
        labels: (N,).

    Returns:
        A table with columns x, y (in standard deviations of the first component) and class, and the fraction
        of the variance that each component explains.
    """
    x = features.astype(np.float64)
    x = x - x.mean(0)
    variances, axes = np.linalg.eigh(x.T @ x / len(x))  # ascending
    axes = axes[:, :-3:-1]
    # The sign of an axis is arbitrary: the largest entry is made positive, so that equal features give equal
    # maps.
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), range(axes.shape[1])])
    scale = np.sqrt(max(float(variances[-1]), 1e-24))
    rows = np.unique(np.linspace(0, len(x) - 1, min(POINTS, len(x))).astype(int))
    points = (x[rows] @ axes / scale).round(3) + 0.0  # no negative zero
    table = pd.DataFrame(
        {"x": points[:, 0], "y": points[:, 1], "class": [classes[label] for label in labels[rows]]}
    )
    total = max(float(variances.clip(0).sum()), 1e-24)
    return table, [round(float(v) / total, 4) for v in variances[:-3:-1]]


def empty_tables() -> dict[str, pd.DataFrame]:
    """The tables if there are no models: only their columns."""
    columns: dict[str, list[Any]] = {
        "confusion": ["budget", "actual", "predicted", "images", "share"],
        "reliability": ["budget", "low", "high", "confidence", "accuracy", "share"],
        "mistakes": [
            "budget",
            "rank",
            "id",
            "file",
            "actual",
            "predicted",
            "probability",
            "draws_wrong",
        ],
        "map": ["x", "y", "class"],
    }
    return {name: pd.DataFrame(columns=names) for name, names in columns.items()}
