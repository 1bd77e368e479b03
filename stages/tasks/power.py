"""What a test split can show: the smallest gain that is likely to be called measurable."""

import math
from functools import cache

from scipy import special

CONFIDENCE, POWER = 0.95, 0.8
FEWEST_UNITS = 5  # test images, or groups of equal size: fewer say nothing about others
# Labelled images of a split: below these numbers there is a warning, or nothing is chosen on them.
ENOUGH_TEST, ENOUGH_VALIDATION = 300, 100
# Labels per class → the share of test images on which exactly one of two models is right. A guess, made
# before anything is trained: on MNIST (SimCLR and scratch) it is 0.25, 0.04 and 0.015; harder images have
# more.
DISAGREEMENT = {1: 0.25, 10: 0.1, 100: 0.05}


@cache
def student(freedom: int) -> float:
    """The quantile of Student's t that leaves the confidence between minus and plus it."""
    return float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2))


def smallest_gain(units: int, labels_per_class: float) -> float:
    """The smallest gain that a test split shows with 80 % power, as a fraction.

    Only the choice of the test images is in it. Few draws of labels make it larger.

    Args:
        units: labelled test images, or groups of equal size (`tasks.scores.effective`).
        labels_per_class: in a budget, on average.
    """
    if units < FEWEST_UNITS:
        return 1.0
    nearest = min(DISAGREEMENT, key=lambda number: abs(math.log(number / max(labels_per_class, 0.1))))
    error = math.sqrt(DISAGREEMENT[nearest] / units)
    return min(1.0, (student(units - 4) + float(special.ndtri(POWER))) * error)
