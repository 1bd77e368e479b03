"""Means with intervals, and paired gains."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over draws and the half-width of its 95% interval; NaN where there is one draw alone."""

    mean: float
    ci95: float

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return not math.isnan(self.ci95)


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and half-width of the 95% interval, by Student's t over the draws.

    The interval covers the choice of labels and the finetuning's own randomness. It does not
    cover pretraining: all draws start from one pretrained encoder. One draw has no interval.

    Raises:
        ValueError: there is no value.
    """
    n = len(values)
    if n < 1:
        raise ValueError("a mean needs at least 1 draw, not 0")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, math.nan)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    quantile = float(special.stdtrit(n - 1, (1 + CONFIDENCE) / 2))
    return Estimate(mean, quantile * math.sqrt(variance / n))


def paired_gain(values: Sequence[float], control: Sequence[float]) -> Estimate:
    """The gain over the control on the same draws: the difference is taken draw by draw."""
    return estimate([value - base for value, base in zip(values, control, strict=True)])
