"""What the report shows of a method beside its figures: confusion, calibration, mistakes, a map."""

from typing import Any

import numpy as np
import pandas as pd

from stages.tasks.scores import BINS

WORST, ACROSS = 24, 8  # mistakes in the gallery, and in a row of it
POINTS = 800  # of the map


def confusion_table(counts: np.ndarray, classes: list[str], draws: int, budget: str) -> pd.DataFrame:
    """The confusion matrix in long form: the share of each actual class that was predicted as what."""
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
    """How often the models are right by how sure they are, over all draws together, a row for each bin.

    Bins are (low, high] as those of the calibration error; one without an image has no row.

    Args:
        draws: probabilities, (N, K) each; labels: (N,).
    """
    sure = np.concatenate([p.max(1) for p in draws]).astype(np.float64)
    right = np.concatenate([p.argmax(1) == labels for p in draws])
    bins = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    there = np.flatnonzero(counts)
    return pd.DataFrame(
        {
            "budget": budget,
            "low": (there / BINS).round(4),
            "high": ((there + 1) / BINS).round(4),
            "confidence": (np.bincount(bins, sure, BINS)[there] / counts[there]).round(4),
            "accuracy": (np.bincount(bins, right, BINS)[there] / counts[there]).round(4),
            "share": (counts[there] / counts.sum()).round(4),
        }
    )


def mistakes_table(
    draws: list[np.ndarray], labels: np.ndarray, classes: list[str], ids: list[str], budget: str
) -> tuple[pd.DataFrame, np.ndarray]:
    """The images that the draws' mean is most surely wrong about, the surest first; and their rows, (n,).

    Args:
        draws: probabilities, (N, K) each; labels: (N,); ids: of the images.
    """
    mean = np.mean([p.astype(np.float64) for p in draws], axis=0)
    predicted = mean.argmax(1)
    wrong = np.flatnonzero(predicted != labels)
    rows = wrong[np.argsort(-mean[wrong].max(1), kind="stable")][:WORST]
    table = pd.DataFrame(
        {
            "budget": budget,
            "rank": np.arange(1, len(rows) + 1),
            "id": [ids[row] for row in rows],
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
    """Test images in the plane of the features' first two principal components; the variance each explains.

    Args:
        features: (N, D) of all test images; at most POINTS of them, evenly spaced, become points.

    Returns:
        Columns x, y (in standard deviations of the first component) and class; and two fractions.
    """
    x = features.astype(np.float64)
    x = x - x.mean(0)
    variances, axes = np.linalg.eigh(x.T @ x / len(x))  # ascending
    axes = axes[:, :-3:-1]
    # An axis may point either way: its largest part is made positive, so that equal features give equal maps.
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), range(axes.shape[1])])
    scale = np.sqrt(max(float(variances[-1]), 1e-24))
    rows = np.unique(np.linspace(0, len(x) - 1, min(POINTS, len(x))).astype(int))
    points = (x[rows] @ axes / scale).round(3) + 0.0  # no negative zero
    table = pd.DataFrame(
        {"x": points[:, 0], "y": points[:, 1], "class": [classes[label] for label in labels[rows]]}
    )
    total = max(float(variances.clip(0).sum()), 1e-24)
    return table, [round(float(v) / total, 4) for v in variances[:-3:-1]]


def nothing() -> dict[str, pd.DataFrame]:
    """The tables where nothing was finetuned: their heads alone."""
    heads: dict[str, list[Any]] = {
        "confusion": ["budget", "actual", "predicted", "images", "share"],
        "reliability": ["budget", "low", "high", "confidence", "accuracy", "share"],
        "mistakes": ["budget", "rank", "id", "actual", "predicted", "probability", "draws_wrong"],
        "map": ["x", "y", "class"],
    }
    return {name: pd.DataFrame(columns=head) for name, head in heads.items()}
