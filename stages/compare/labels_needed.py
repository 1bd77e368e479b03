"""How many labels the control needs for a method's accuracy, read off its curve."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from stages.compare.figures import measurable
from stages.settings.values import CONTROL


@dataclass(frozen=True)
class LabelsNeeded:
    """How many labels the control needs to reach an accuracy, read off its curve.

    Attributes:
        labels: about this many; with a bound, the first or last budget that was measured.
        bound: "": between two measured budgets; "more": more than the last; "fewer": fewer than the first.
    """

    labels: int
    bound: str


def labels_needed(curve: Mapping[int, float], accuracy: float) -> LabelsNeeded:
    """Where a curve first reaches an accuracy, interpolated linearly in log(labels).

    curve: number of labels → accuracy, with at least one entry.
    """
    points = sorted(curve.items())
    if points[0][1] >= accuracy:
        return LabelsNeeded(points[0][0], "fewer" if points[0][1] > accuracy else "")
    for (fewer, lower), (more, higher) in pairwise(points):
        if higher >= accuracy:
            fraction = (accuracy - lower) / (higher - lower)
            labels = math.exp(math.log(fewer) + fraction * math.log(more / fewer))
            return LabelsNeeded(_two_digits(labels), "")
    return LabelsNeeded(points[-1][0], "more")


def _two_digits(value: float) -> int:
    unit = int(10 ** max(0, math.floor(math.log10(value)) - 1))
    return round(value / unit) * unit


def labels_for_same(
    summary: Mapping[str, Any], method: str, budget: str, labels: Mapping[str, int]
) -> LabelsNeeded | None:
    """How many labels the control needs for a method's accuracy, read off the control's mean curve.

    The curve is read from this budget on. None where the method's gain is not measurable or is negative,
    and at the last budget, beyond which nothing was measured.
    """
    row, fewest = summary[method][budget], labels[budget]
    if not measurable(row) or row["gain"] < 0:
        return None
    if fewest == max(labels[name] for name in summary[CONTROL]):
        return None
    curve = {labels[b]: means["accuracy"] for b, means in summary[CONTROL].items() if labels[b] >= fewest}
    return labels_needed(curve, row["accuracy"])


def needed_clause(needed: LabelsNeeded) -> str:
    """How many labels the control needs, as a clause of a sentence."""
    if needed.bound == "more":
        return (
            f"{CONTROL}'s mean does not reach that with {needed.labels:,} labels, the most that were measured"
        )
    if needed.bound == "fewer":
        return f"{CONTROL}'s mean reaches that with fewer than {needed.labels:,} labels"
    return f"{CONTROL} needs about {needed.labels:,} labels to reach the same mean (without an interval)"
