"""Cross-validation of the linear probe, with the images of a group always on one side."""

import numpy as np
import torch
from torch import Tensor

from stages.tasks.probe import fit_linear
from stages.training.randomness import Stream


def assign(labels: Tensor, units: np.ndarray, folds: int, stream: Stream) -> Tensor:
    """The fold of each image, (n,) int64. Units are spread at random, those of each class evenly.

    Args:
        labels: (n,) int64.
        units: (n,), the unit of each image: a group of images, or the image alone.
        folds: their number.
        stream: the random numbers of this split.
    """
    names, first, unit = np.unique(units, return_index=True, return_inverse=True)
    shuffled = stream.permutation(len(names))
    by_class = labels[torch.from_numpy(first)][shuffled].argsort(stable=True)  # of a unit's first image
    fold = torch.empty(len(names), dtype=torch.int64)
    fold[shuffled[by_class]] = torch.arange(len(names)) % folds
    return fold[torch.from_numpy(unit)]


def probe_correct(
    features: Tensor, labels: Tensor, units: np.ndarray, l2: float, folds: int, splits: int, stream: Stream
) -> np.ndarray:
    """How often the linear probe of the other folds is right about each image, (n,) float in [0, 1].

    Args:
        features: (n, D) float.
        labels: (n,) int64 from 0 on, on the features' device.
        units: (n,), the unit of each image.
        l2: strength of the probe's penalty.
        folds: parts of which each is predicted once from the others.
        splits: how often the images are split anew.
    """
    correct, classes = torch.zeros(len(labels)), int(labels.max()) + 1
    for split in range(splits):
        fold = assign(labels.cpu(), units, folds, stream.at("split", split)).to(labels.device)
        for number in range(folds):
            held_out = fold == number
            probe = fit_linear(features[~held_out], labels[~held_out], classes, l2)
            with torch.no_grad():
                right = probe(features[held_out]).argmax(1) == labels[held_out]
            correct[held_out.cpu()] += right.float().cpu()
    return (correct / splits).numpy()


def standard_error(values: np.ndarray, units: np.ndarray) -> float:
    """The standard error of the mean of values (n,), where the values of one unit are not independent.

    That of a ratio of sums over units: S. L. Lohr, "Sampling: Design and Analysis", 2010, section 5.2.
    Infinite for a single unit.
    """
    unit = np.unique(units, return_inverse=True)[1]
    sums = np.bincount(unit, weights=values - values.mean())
    count = len(sums)
    if count < 2:
        return float("inf")
    return float(np.sqrt(count / (count - 1) * np.square(sums).sum()) / len(values))
