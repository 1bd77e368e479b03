"""Folds for cross-validation, with the images of a group always on one side; that of the linear probe."""

import numpy as np
import torch
from torch import Tensor

from stages.tasks.probe import fit_linear
from stages.training.randomness import Stream


def assign(labels: np.ndarray, groups: np.ndarray, folds: int, stream: Stream) -> np.ndarray:
    """The fold of each image, (n,) integers from 0 on: classes are spread evenly, groups stay together.

    Group by group, the largest first: each goes to the fold that has the fewest images of its classes, then
    the fewest images.

    Args:
        labels: (n,) int64.
        groups: (n,) integers; an image without a group has a number of its own.
        folds: their number; fewer where there are fewer groups.
    """
    names, sizes = np.unique(groups, return_counts=True)
    order = stream.permutation(len(names)).numpy()
    order = order[np.argsort(-sizes[order], kind="stable")]
    classes = int(labels.max()) + 1
    counts = np.zeros((min(folds, len(names)), classes), int)
    result = np.zeros(len(labels), int)
    for name in names[order]:
        members = groups == name
        added = np.bincount(labels[members], minlength=classes)
        fold = min(range(len(counts)), key=lambda n: (int(counts[n] @ added), int(counts[n].sum()), n))
        result[members] = fold
        counts[fold] += added
    return result


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
        numbers = assign(labels.cpu().numpy(), units, folds, stream.at("split", split))
        fold = torch.from_numpy(numbers).to(labels.device)
        for number in range(numbers.max() + 1):
            held_out = fold == number
            probe = fit_linear(features[~held_out], labels[~held_out], classes, l2)
            with torch.no_grad():
                right = probe(features[held_out]).argmax(1) == labels[held_out]
            correct[held_out.cpu()] += right.float().cpu()
    return (correct / splits).numpy()


def balanced(correct: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What each image contributes to the balanced accuracy, in which all classes count the same, (n,).

    It is the mean of these; they are its derivatives by the weight of each image (as `scores.contributions`).

    Args:
        correct: how often each image is classified rightly, (n,) in [0, 1].
        labels: (n,) integers.
    """
    _, number, counts = np.unique(labels, return_inverse=True, return_counts=True)
    recall = np.bincount(number, weights=correct) / counts
    weight = len(labels) / (len(counts) * counts)
    return np.asarray(recall.mean() + (correct - recall[number]) * weight[number])


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
