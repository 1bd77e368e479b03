"""What is doubtful about a pretraining that has ended: too short a training, or features that got worse."""

from collections.abc import Sequence

import numpy as np

from stages.pretrain.length import passes
from stages.tasks.power import ENOUGH_VALIDATION
from stages.training.loop import Length, Row

STEEP = 0.35
REMEDY = "raise pretrain.{method}.images or steps"


def doubts(
    method: str, curve: Sequence[Row], length: Length, pool: int, enough: int, labels: int
) -> list[str]:
    """One sentence for each doubt about a training.

    Args:
        curve: its rows; the first is of the untrained encoder.
        pool: number of images in the pool.
        enough: the fewest steps with which the method was seen to be of use.
        labels: number of validation labels that the kNN accuracy rests on.
    """
    remedy, sentences = REMEDY.format(method=method), []
    if length.steps < enough:
        sentences.append(f"{length.steps:,} steps are few: {method} needs {enough:,} or more; {remedy}")
    elif (share := late_fall(curve)) > STEEP:
        sentences.append(
            f"the loss was still falling when the training ended ({share:.0%} of its fall came in the second "
            f"half); {remedy}"
        )
    if (seen := passes(length, pool)) < 1:
        sentences.append(f"{1 - seen:.0%} of the pool's images were never seen; {remedy}")
    before, after = curve[0].get("knn"), curve[-1].get("knn")
    if before is not None and after is not None and after < before:
        sentences.append(
            f"the kNN accuracy is below that of the untrained encoder, {after:.1%} after {before:.1%} (on "
            f"{labels:,} labels{few(labels)}): the views may destroy what the labels depend on, or the "
            "training is too short"
        )
    return sentences


def few(labels: int) -> str:
    """A remark where labels are too few to choose by their accuracy; empty where they are enough."""
    return "" if labels >= ENOUGH_VALIDATION else ", too few to choose anything by"


def late_fall(curve: Sequence[Row]) -> float:
    """The share of the loss's fall that comes in the second half of the training, 0 to 1.

    The fall begins after the first tenth, in which the rate rises and any loss falls steeply. Each level is
    the mean over a tenth of the steps. 0 if the loss does not fall, or the curve has too few rows.
    """
    rows = [(row["step"], row["loss"]) for row in curve if row["loss"] is not None]
    if len(rows) < 20:
        return 0.0
    steps, losses = np.array(rows, dtype=float).T
    done = steps / steps[-1]

    def level(start: float) -> float:
        return float(losses[(done > start) & (done <= start + 0.1)].mean())

    start, middle, end = level(0.1), level(0.45), level(0.9)
    return max(0.0, middle - end) / (start - end) if start > end else 0.0
