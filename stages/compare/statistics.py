"""Means with 95% intervals, and paired gains."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

CONFIDENCE = 0.95
ROUNDING = 1e-12  # differences of fractions that are equal on paper, 0.8 - 0.7 and 0.9 - 0.8, differ by less


@dataclass(frozen=True)
class Estimate:
    """A mean over draws with its 95% interval.

    Attributes:
        mean: the mean over the draws.
        ci95: half the width of the interval, greater than 0; NaN where there is no interval.
    """

    mean: float
    ci95: float

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval: it needs at least 2 draws that differ."""
        return not math.isnan(self.ci95)


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and half-width of the 95% interval, by Student's t over the draws.

    The interval covers the choice of labels and the randomness of finetuning. It does not cover the
    randomness of pretraining, because all draws start from one pretrained encoder.

    One draw has no interval. Equal draws have none either: their variance of 0 does not show that the
    mean is exact, only that the draws do not measure its error.

    Raises:
        ValueError: `values` is empty.
    """
    n = len(values)
    if n < 1:
        raise ValueError("a mean needs at least 1 draw, not 0")
    mean = math.fsum(values) / n
    if max(values) - min(values) <= ROUNDING:
        return Estimate(mean, math.nan)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    quantile = float(special.stdtrit(n - 1, (1 + CONFIDENCE) / 2))
    return Estimate(mean, quantile * math.sqrt(variance / n))


def paired_gain(values: Sequence[float], control: Sequence[float]) -> Estimate:
    """Mean and interval of the gain over the control, taken draw by draw.

    Raises:
        ValueError: `values` and `control` differ in length, or are empty.
    """
    return estimate([value - base for value, base in zip(values, control, strict=True)])


def why_no_interval(draws: int) -> str:
    """The reason why a figure has no interval, as a clause.

    draws: how many draws the figure is the mean of, at least 1.
    """
    return "one draw has no interval" if draws == 1 else "equal draws have no interval"
