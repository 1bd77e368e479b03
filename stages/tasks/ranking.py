"""How well the probability of one of two classes ranks images, over all thresholds.

T. Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27, 2006; as there, the curves of
several models are averaged vertically.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

GRID = np.linspace(0, 1, 101)  # rates and thresholds at which the curves are taken


@dataclass(frozen=True)
class Ranking:
    """Means over several models that were measured on the same images; the curves are (len(GRID),).

    Attributes:
        positive: the number of the class that is looked for: the one with fewer images, or 1.
        area: under the ROC curve.
        recall: at each rate of false alarms in GRID (the ROC curve).
        precision: at each recall in GRID.
        sensitivity: the recall of the positive class if its probability must reach each threshold in GRID.
        specificity: the recall of the other class at these thresholds.
    """

    positive: int
    area: float
    recall: np.ndarray
    precision: np.ndarray
    sensitivity: np.ndarray
    specificity: np.ndarray

    @staticmethod
    def of(predictions: Sequence[np.ndarray], labels: np.ndarray) -> "Ranking | None":
        """From the probabilities of each model, (N, K), and the labels, (N,).

        None where there are not two classes, or one of them has no image.
        """
        counts = np.bincount(labels, minlength=2)
        if not predictions or predictions[0].shape[1] != 2 or 0 in counts:
            return None
        positive = 0 if counts[0] < counts[1] else 1
        of_models = [_curves(p[:, positive].astype(np.float64), labels == positive) for p in predictions]
        area, *curves = (np.mean(values, axis=0) for values in zip(*of_models, strict=True))
        return Ranking(positive, float(area), *curves)


def _curves(scores: np.ndarray, positive: np.ndarray) -> tuple[float, *tuple[np.ndarray, ...]]:
    """Area and curves of one model, in the order of Ranking's attributes.

    Args:
        scores: the probability of the positive class, (N,).
        positive: whether an image is of this class, (N,).
    """
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-1.0))  # equal scores are one step
    hits = np.cumsum(positive[order])[last]
    alarms = last + 1 - hits
    recall, false_alarms = np.append(0, hits / hits[-1]), np.append(0, alarms / alarms[-1])
    highest = np.append(np.diff(false_alarms) > 0, True)  # of several recalls at the same rate
    at_recall = np.searchsorted(recall[1:], GRID - 1e-12)
    positives, negatives = np.sort(scores[positive]), np.sort(scores[~positive])
    return (
        float(np.trapezoid(recall, false_alarms)),
        np.interp(GRID, false_alarms[highest], recall[highest]),
        (hits / (hits + alarms))[at_recall],
        1 - np.searchsorted(positives, GRID) / len(positives),
        np.searchsorted(negatives, GRID) / len(negatives),
    )
