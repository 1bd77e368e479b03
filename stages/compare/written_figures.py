"""Models of metrics/summary.json and details.json, as `--show` and the tools need these files."""

from pydantic import RootModel

from stages.compare.written import BudgetName, Content, Gain, HalfWidth, Name
from stages.settings.values import Fraction


class Reached(Content):
    """Of a row of metrics/summary.json: what the finetuned models reach."""

    accuracy: Fraction


class SummaryRow(Reached):
    """A method at a budget. What has a default may be missing, but is not null."""

    recall_macro: Fraction
    linear_probe: Fraction
    accuracy_ci95: HalfWidth = 1
    gain: Gain = 0
    gain_ci95: HalfWidth = 1
    distilled: Fraction = 0


class Classifiers(RootModel[dict[Name, dict[BudgetName, Reached]]]):
    """metrics/summary.json: which classifiers there are."""


class Summary(RootModel[dict[Name, dict[BudgetName, SummaryRow]]]):
    """metrics/summary.json."""


class Figure(Content):
    """A mean with the half-width of its interval, if it has one."""

    mean: Fraction
    ci95: HalfWidth = 1


class Change(Content):
    """A gain with the half-width of its interval, if it has one."""

    mean: Gain
    ci95: HalfWidth = 1


class ProtocolFigures(Content):
    """What models reach by one protocol."""

    accuracy: Figure
    recall_macro: Figure
    accuracy_gain: Change | None = None
    recall_macro_gain: Change | None = None
    recall_macro_gain_over_baseline: Change | None = None
    recall_macro_gain_over_imagenet: Change | None = None


class Details(RootModel[dict[Name, dict[BudgetName, dict[Name, ProtocolFigures]]]]):
    """metrics/details.json, as `--show` needs it."""
