"""What the figures say, in a sentence: computed, never more than the interval allows."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from stages.settings.schema import CONTROL

Number = Callable[[str, str, str], str]  # what is written, its name in the summary, the unit behind it


@dataclass(frozen=True)
class Needed:
    """How many labels the control needs for an accuracy, read off its curve.

    Attributes:
        labels: about so many; at a bound of what was measured, that bound.
        bound: "": between two budgets that were measured; "more" or "fewer": beyond the last or the first.
    """

    labels: int
    bound: str


def needed(curve: Mapping[int, float], accuracy: float) -> Needed:
    """Where a curve of accuracies over labels first reaches an accuracy, linear in log(labels).

    curve: labels → accuracy, at least one.
    """
    points = sorted(curve.items())
    if points[0][1] >= accuracy:
        return Needed(points[0][0], "fewer" if points[0][1] > accuracy else "")
    for (fewer, lower), (more, higher) in pairwise(points):
        if higher >= accuracy:
            way = (accuracy - lower) / (higher - lower)
            return Needed(_two_digits(math.exp(math.log(fewer) + way * math.log(more / fewer))), "")
    return Needed(points[-1][0], "more")


def _two_digits(value: float) -> int:
    unit = int(10 ** max(0, math.floor(math.log10(value)) - 1))
    return round(value / unit) * unit


def measurable(figures: Mapping[str, float]) -> bool:
    """Whether a gain's interval leaves out 0."""
    return "gain_ci95" in figures and abs(figures["gain"]) > figures["gain_ci95"]


def headline(knn: Mapping[str, float | None]) -> str:
    """The method that the verdict is about: the best by kNN on validation, so that the test chooses nothing.

    knn: of every method; the control counts only where it is alone.
    """
    pretrained = [method for method in knn if method != CONTROL] or list(knn)
    return max(pretrained, key=lambda method: knn[method] or 0.0)


def plain(text: str, key: str, unit: str) -> str:
    """A number as it is read."""
    return f"{text}{unit}"


def sentence(
    summary: Mapping[str, Any], method: str, budget: str, labels: Mapping[str, int], draws: int,
    number: Number = plain,
) -> str:  # fmt: skip
    """What pretraining by a method bought at one budget.

    Args:
        summary: as `metrics/summary.json`; labels: how many each budget's name stands for.
        draws: behind each mean.
        number: writes a figure of the summary.
    """
    own = summary[method][budget]
    start = f"With {labels[budget]:,} labels, {method}"
    many = f"over {draws} draws" if draws > 1 else "on one draw, which has no interval"

    def figure(of: str, name: str, unit: str = "", sign: str = "") -> str:
        value = 100 * summary[of][budget][name]
        return number(f"{value:{sign}.2f}", f"{of}.{budget}.{name}", unit)

    after = figure(method, "accuracy", " %")
    if "gain" not in own:
        interval = f" ± {figure(method, 'accuracy_ci95')} points" if "accuracy_ci95" in own else ""
        reason = "nothing was pretrained" if method == CONTROL else "there is no scratch arm beside it"
        return f"{start} reaches {after}{interval}, {many}; {reason}."
    before = figure(CONTROL, "accuracy", " %")
    interval = f" ± {figure(method, 'gain_ci95')}" if "gain_ci95" in own else ""
    gain = f"{figure(method, 'gain', sign='+')}{interval} points, {many}"
    if not interval:
        return f"{start} pretraining moves accuracy from {before} to {after}, {gain}."
    if not measurable(own):
        return f"{start} pretraining brings no measurable gain: {before} without it, {after} with it, {gain}."
    if own["gain"] < 0:
        return f"{start} pretraining lowers accuracy from {before} to {after}, {gain}."
    need = saved(summary, method, budget, labels)
    clause = f"; {says(need)}" if need else ""
    return f"{start} pretraining lifts accuracy from {before} to {after}, {gain}{clause}."


def saved(summary: Mapping[str, Any], method: str, budget: str, labels: Mapping[str, int]) -> Needed | None:
    """How many labels the control needs for what a method reaches, where its gain is measurable and positive.

    Read off the control's mean curve from this budget on; None at the last one, where no more is known.
    """
    own, least = summary[method][budget], labels[budget]
    if not measurable(own) or own["gain"] < 0 or least == max(labels[name] for name in summary[CONTROL]):
        return None
    curve = {labels[name]: row["accuracy"] for name, row in summary[CONTROL].items() if labels[name] >= least}
    return needed(curve, own["accuracy"])


def says(need: Needed) -> str:
    """How many labels scratch needs, as a clause."""
    if need.bound == "more":
        return f"scratch does not reach that with the {need.labels:,} labels that it was given at most"
    if need.bound == "fewer":
        return f"scratch reaches that with fewer than {need.labels:,} labels"
    return f"scratch needs about {need.labels:,} labels to reach the same"
