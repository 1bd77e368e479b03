"""Means with 95% intervals over replicates and test images, and paired gains.

A figure is a mean over replicates (a draw of labels, with a pretraining run) and over test images. Both vary,
and every replicate is measured on the same images. This is the crossed design of multi-reader multi-case
studies in medical imaging, where readers read the same cases: B. D. Gallas, "One-shot estimate of MRMC
variance: AUC", Academic Radiology 13, 2006; S. L. Hillis, K. S. Berbaum, C. E. Metz, "Recent developments in
the Dorfman-Berbaum-Metz procedure for multireader ROC study analysis", Academic Radiology 15, 2008.

`python -m benchmarks.coverage` simulates known truths and counts how often the intervals hold them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.tasks.power import FEWEST_UNITS, student

ONE_DRAW, EQUAL_DRAWS = "one draw has no interval", "equal draws have no interval"
FEW_UNITS = f"a test that counts as fewer than {FEWEST_UNITS} images has no interval"
FEW_OF_CLASS = "equal draws, and a class with one test image or group, have no interval"
ROUNDING = 1e-9  # what is equal on paper differs by less


@dataclass(frozen=True)
class Design:
    """What the figures are means over.

    Attributes:
        draws: of labelled images, of each budget; 0 where nothing was finetuned.
        runs: pretrainings of each method.
        images: labelled test images.
        units: independent test images that say as much: as many as there are, or fewer where they are in
            groups (`tasks.scores.effective`).
        labelled: images of the pool that have a label: with a budget of so many, all draws are the same.
    """

    draws: int
    runs: int
    images: int
    units: int
    labelled: int

    def why_no_interval(self) -> str:
        """The reason why a figure has no interval, as a clause."""
        if self.draws == 1:
            return ONE_DRAW
        return FEW_UNITS if self.units < FEWEST_UNITS else EQUAL_DRAWS

    def why_no_recall_interval(self) -> str:
        """The same for macro recall, which also needs several test images of each class."""
        others = self.draws == 1 or self.units < FEWEST_UNITS
        return self.why_no_interval() if others else FEW_OF_CLASS

    def covered(self) -> str:
        """What an interval covers, as a sentence; "" where there is none."""
        if self.draws < 2 or self.units < FEWEST_UNITS:
            return ""
        tested = f"{self.images:,} test images"
        if self.units < self.images:
            tested += f", whose groups count as {self.units:,}"
        pretraining = f", of pretraining ({self.runs} runs)" if self.runs > 1 else ""
        parts = f"the choice of the labels ({self.draws} draws), the randomness of finetuning{pretraining}"
        return f"An interval covers {parts}, and the choice of the {tested}."

    def not_covered(self) -> str:
        """What an interval does not cover, as a sentence."""
        recipe = "the choice of the recipe, which is made once for all draws"
        if self.runs > 1:
            return f"It does not cover {recipe}."
        return f"It does not cover the randomness of pretraining, of which there is one run, nor {recipe}."


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
        """Whether there is an interval."""
        return not math.isnan(self.ci95)


@dataclass(frozen=True)
class Replicates:
    """One score of several models that were measured on the same test images.

    Attributes:
        values: the score of each replicate.
        units: what each unit contributes to it, (replicates, units): the score is the mean over the units. A
            unit is a test image, or a group of them (`tasks.scores.by_unit`).
        runs: the pretraining run of each replicate.
        overlap: the share of labelled images that two draws have in common, on average; 1: they have all.
        bounds: the extreme contributions that a unit can have, such as 0 and 1 to an accuracy, where each
            unit is an image; None: not known.
        effective: how many units of equal size say as much (`tasks.scores.effective`); None: as many as there
            are.
    """

    values: Sequence[float]
    units: np.ndarray
    runs: Sequence[int]
    overlap: float
    bounds: tuple[float, ...] | None = None
    effective: int | None = None

    def over(self, control: "Replicates") -> "Replicates":
        """The gain over the control, replicate by replicate and unit by unit.

        Raises:
            ValueError: the two do not have the same replicates.
        """
        pairs = zip(self.values, control.values, strict=True)
        gains = [value - base for value, base in pairs]
        return Replicates(
            gains, self.units - control.units, self.runs, self.overlap, effective=self.effective
        )

    def estimate(self) -> Estimate:
        """Mean and half-width of the 95% interval.

        The interval covers which images were labelled, the randomness of finetuning, which images are in the
        test split, and, with several runs, the randomness of pretraining. Where all draws have the same
        labels (`overlap` 1), it holds for these labels.

        Raises:
            ValueError: there is no replicate.
        """
        if not self.values:
            raise ValueError("a mean needs at least 1 draw, not 0")
        mean = math.fsum(self.values) / len(self.values)
        equal = bool((np.ptp(self.units, axis=0) <= ROUNDING).all())
        effective = self.units.shape[1] if self.effective is None else self.effective
        if len(self.values) == 1 or effective < FEWEST_UNITS:
            return Estimate(mean, math.nan)
        # Equal draws of different labels do not measure how much draws vary. Where all draws have the same
        # labels, a protocol without randomness gives equal draws, and only the test images vary.
        if (equal and self.overlap < 1) or np.ptp(self.units) <= ROUNDING:
            return Estimate(mean, math.nan)
        return Estimate(mean, half_width(self.units, self.runs, self.overlap, self.bounds, effective))


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and half-width of the 95% interval by Student's t over draws alone.

    For benchmarks that keep no predictions. The interval does not cover the choice of the test images.

    Raises:
        ValueError: `values` is empty.
    """
    if not values:
        raise ValueError("a mean needs at least 1 draw, not 0")
    mean, count = math.fsum(values) / len(values), len(values)
    if max(values) - min(values) <= ROUNDING:
        return Estimate(mean, math.nan)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return Estimate(mean, student(count - 1) * math.sqrt(variance / count))


def paired_gain(values: Sequence[float], control: Sequence[float]) -> Estimate:
    """`estimate` of the gain over the control, taken draw by draw.

    Raises:
        ValueError: `values` and `control` differ in length, or are empty.
    """
    return estimate([value - base for value, base in zip(values, control, strict=True)])


def half_width(
    units: np.ndarray,
    runs: Sequence[int],
    overlap: float,
    bounds: tuple[float, ...] | None = None,
    effective: int | None = None,
) -> float:
    """Half the width of the 95% interval of the mean of all entries.

    The variance of the mean has parts: of the replicates, of the units, and of their interaction, which is in
    both. Each part is multiplied by the square of its own quantile of Student's t before they are added,
    because few replicates estimate their part badly.

    - Draws that share labels vary less than draws of other labels would: with an average overlap of ρ, the
      variance between draws is (1 - ρ) of the whole, and their mean keeps ρ of it however many there are (C.
      Nadeau, Y. Bengio, "Inference for the generalization error", Machine Learning 52, 2003).
    - Replicates of one pretraining run vary together: what varies between runs and is not explained by the
      replicates is added, with the degrees of freedom of the runs.
    - The mean of few units is skewed where most are right. Therefore the spread of each extreme of the units
      (of what they can be, where it is known) is added once more, as A. Agresti and Y. Min add observations
      (Biometrics 61, 2005), and three degrees of freedom are subtracted: with three, intervals of six groups
      reach their coverage in the simulations.

    Args:
        units: (R, U), R at least 2.
        runs: of each replicate.
        overlap: in [0, 1]; 1: the draws have the same labels, and the interval holds for these.
        bounds, effective: as in `Replicates`.
    """
    count, size = units.shape
    grand, of_replicate, of_unit = units.mean(), units.mean(1), units.mean(0)
    between_replicates = float(((of_replicate - grand) ** 2).sum())
    between_units = float(((of_unit - grand) ** 2).sum())
    rest = float(((units - grand) ** 2).sum()) - size * between_replicates - count * between_units
    interaction = max(rest, 0.0) / ((count - 1) * (size - 1)) / (count * size)

    replicates = between_replicates / (count - 1) / count
    extremes = sum((end - grand) ** 2 for end in bounds or (of_unit.min(), of_unit.max()))
    of_units = (between_units + float(extremes)) / (size - 1) / size
    of_units = max(of_units - interaction, of_units / 4)  # the interaction is estimated: it may be too large

    squared = student(count - 1) ** 2 * replicates + student(max((effective or size) - 4, 1)) ** 2 * of_units
    if overlap < 1:
        # The interaction is noise of the images, which draws do not share. Where it hides the rest, half of
        # the variance counts as that of the labels.
        of_labels = max(replicates - interaction, replicates / 2)
        squared += student(count - 1) ** 2 * of_labels * count * overlap / (1 - overlap)
    return math.sqrt(squared + _of_runs(of_replicate, runs, replicates))


def _of_runs(of_replicate: np.ndarray, runs: Sequence[int], replicates: float) -> float:
    """What pretraining runs add to the squared half-width.

    Nothing where there is one run, or where each replicate has its own and `replicates` has their variance.

    Args:
        of_replicate: the mean of each replicate.
        replicates: the variance of their mean, as if they were independent.
    """
    members = [np.flatnonzero(np.asarray(runs) == run) for run in dict.fromkeys(runs)]
    if not 1 < len(members) < len(of_replicate):
        return 0.0
    between = sum(len(rows) * (of_replicate[rows].mean() - of_replicate.mean()) ** 2 for rows in members)
    of_runs = float(between) / (len(members) - 1) / len(of_replicate)
    return student(len(members) - 1) ** 2 * max(of_runs - replicates, 0.0)
