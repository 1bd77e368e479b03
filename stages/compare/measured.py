"""All figures of a method's models at a budget, and what each test image contributes to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.compare.statistics import Replicates
from stages.tasks.ranking import Ranking
from stages.tasks.scores import (
    accuracy_bounds,
    by_unit,
    contributions,
    effective,
    independent,
    measure,
    recall_bounds,
)

FEWEST_OF_CLASS = 2  # test images of each class, or groups of equal size, for an interval of macro recall


@dataclass(frozen=True)
class Measured:
    """All models of one method, budget and protocol, in the order of their draws.

    Attributes:
        figures: the metrics of each model.
        contributed: metric → what each unit contributes, (R, U).
        right: whether each model is right on each image, (R, N).
        labels, units: the class and the unit of each image, (N,).
        runs: the pretraining run of each model.
        overlap: as in `Replicates`.
        ranking: of two classes, over all thresholds; None: there are more, or one has no image.
    """

    figures: Sequence[Mapping[str, Any]]
    contributed: Mapping[str, np.ndarray]
    right: np.ndarray
    labels: np.ndarray
    units: np.ndarray
    runs: Sequence[int]
    overlap: float
    ranking: Ranking | None = None

    @staticmethod
    def of(
        predictions: Sequence[np.ndarray],
        labels: np.ndarray,
        units: np.ndarray,
        runs: Sequence[int],
        overlap: float,
    ) -> "Measured":
        """From the probabilities of each model, (N, K), and the labels and units of the images, (N,)."""
        figures = [measure(of_model, labels) for of_model in predictions]
        of_models = [contributions(of_model, labels, units) for of_model in predictions]
        contributed = {
            metric: np.stack([by_unit(of_model[metric], units) for of_model in of_models])
            for metric in of_models[0]
        }
        right = np.stack([of_model.argmax(1) == labels for of_model in predictions])
        ranking = Ranking.of(predictions, labels)
        return Measured(figures, contributed, right, labels, units, runs, overlap, ranking)

    def replicates(self, metric: str) -> Replicates:
        """One metric of each model."""
        values = [figures[metric] for figures in self.figures]
        bounds: tuple[float, ...] | None = None
        count = effective(self.units)
        if metric == "accuracy":
            bounds = accuracy_bounds(self.right.mean(), self.units)
        elif metric == "recall_macro":
            classes = np.unique(self.labels)
            recalls = [self.right[:, self.labels == label].mean() for label in classes]
            bounds = recall_bounds(recalls, self.labels, self.units)
            count = units_for_recall(self.labels, self.units)
        return Replicates(values, self.contributed[metric], self.runs, self.overlap, bounds, count)

    def recall(self, label: int) -> Replicates:
        """The recall of a class: the accuracy on its images, with the units that have such images."""
        values = [figures["recall"][label] for figures in self.figures]
        rows = self.labels == label
        units = np.unique(self.units[rows], return_inverse=True)[1]
        right = by_unit(self.right[:, rows].astype(float), units)
        bounds = accuracy_bounds(self.right[:, rows].mean(), units)
        return Replicates(values, right, self.runs, self.overlap, bounds, effective(units))


Evaluations = Mapping[str, Mapping[str, Mapping[str, Measured]]]  # method → budget → protocol


def units_for_recall(labels: np.ndarray, units: np.ndarray) -> int:
    """How many independent images the macro recall is measured on (`tasks.scores.effective`).

    0 where a class has one image or group, which does not tell how they vary.

    Args:
        labels, units: the class and the unit of each image, (N,).
    """
    enough = independent(labels, units, np.unique(labels)).min() >= FEWEST_OF_CLASS
    return effective(units) if enough else 0
