"""The figures of all methods: the summary, the details, and the tables for plots."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from stages.compare.measured import Evaluations, Measured
from stages.compare.statistics import Design, Estimate
from stages.files.paths import METRICS
from stages.files.tables import read_table
from stages.settings.values import CONTROL, IMPORTED

DIGITS = 4  # decimal places of every figure
NARROW = 0.0005  # half the width of an interval that would be ± 0.0 points with one decimal
SMALLEST_INTERVAL = 0.0001  # of this many decimal places
# The calibration error is too large on few test images, by more than its interval would be: it has none.
BIASED = ("ece",)


def summary(
    evaluations: Evaluations, over_baseline: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None
) -> dict[str, dict[str, dict[str, float]]]:
    """The headline figures as fractions: METHOD → nBUDGET → metric.

    over_baseline: the gains over the best simple baseline, as `SimpleBaselines.gains` returns them.

    `gain` is the mean difference in accuracy to the control, paired by draw and test image. The control
    has no gain. `gain_over_imported` is the same over weights from elsewhere as they came. `distilled` is the
    accuracy after distilling, where it was done; `distilled_gain` is its mean difference to `accuracy`. An
    interval, such as `gain_ci95`, is missing where there is one draw or where nothing varies.
    """
    more = over_baseline or {}
    return {
        method: {
            budget: _headline(evaluations, method, budget) | dict(more.get(method, {}).get(budget, {}))
            for budget in budgets
        }
        for method, budgets in evaluations.items()
    }


def _headline(evaluations: Evaluations, method: str, budget: str) -> dict[str, float]:
    protocols = evaluations[method][budget]
    accuracy = protocols["finetuned"].replicates("accuracy")
    row = {
        "recall_macro": _round(protocols["finetuned"].replicates("recall_macro").estimate().mean),
        "linear_probe": _round(protocols["linear"].replicates("accuracy").estimate().mean),
    }
    row |= named("accuracy", accuracy.estimate())
    if method != CONTROL and CONTROL in evaluations:
        control = evaluations[CONTROL][budget]["finetuned"].replicates("accuracy")
        row |= named("gain", accuracy.over(control).estimate())
    if method not in (CONTROL, IMPORTED) and IMPORTED in evaluations:
        imported = evaluations[IMPORTED][budget]["finetuned"].replicates("accuracy")
        row |= named("gain_over_imported", accuracy.over(imported).estimate())
    if "distilled" in protocols:
        distilled = protocols["distilled"].replicates("accuracy")
        row |= named("distilled", distilled.estimate())
        row |= named("distilled_gain", distilled.over(accuracy).estimate())
    return row


def details(
    evaluations: Evaluations, over_baseline: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None
) -> dict[str, Any]:
    """Every figure with its interval: METHOD → nBUDGET → protocol → metric → mean, ci95.

    Accuracy weights all images equally, macro recall weights all classes equally. For both there is also the
    paired gain over the control: `accuracy_gain` and `recall_macro_gain`.

    over_baseline: the gains of finetuned models, as `SimpleBaselines.recall_gains` returns them.
    """
    figures = {
        method: {
            budget: {
                protocol: _all_figures(measured) | _gains(evaluations, method, budget, protocol)
                for protocol, measured in protocols.items()
            }
            for budget, protocols in budgets.items()
        }
        for method, budgets in evaluations.items()
    }
    for method, of_method in (over_baseline or {}).items():
        for budget, gains in of_method.items():
            figures[method][budget]["finetuned"] |= gains
    return figures


def _gains(evaluations: Evaluations, method: str, budget: str, protocol: str) -> dict[str, Any]:
    """A method's paired gains over the control; nothing for the control, or where it was not run."""
    if method == CONTROL or CONTROL not in evaluations:
        return {}
    measured, control = (evaluations[name][budget][protocol] for name in (method, CONTROL))
    return {
        f"{metric}_gain": mean_and_ci(measured.replicates(metric).over(control.replicates(metric)).estimate())
        for metric in ("accuracy", "recall_macro")
    }


def _all_figures(measured: Measured) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for metric, value in measured.figures[0].items():
        if isinstance(value, list):  # one value for each class; None: the class has no test images
            figures[metric] = [
                None if of_class is None else mean_and_ci(measured.recall(label).estimate())
                for label, of_class in enumerate(value)
            ]
        else:
            estimate = measured.replicates(metric).estimate()
            figures[metric] = mean_and_ci(Estimate(estimate.mean, math.nan) if metric in BIASED else estimate)
    return figures


def label_efficiency(evaluations: Evaluations, labels: dict[str, int]) -> pd.DataFrame:
    """Accuracy and gain with intervals, one row for each protocol, method and budget.

    labels: how many labelled images each budget is.
    """
    rows = []
    for method, budgets in evaluations.items():
        for budget, protocols in budgets.items():
            for protocol, measured in protocols.items():
                accuracy = measured.replicates("accuracy")
                row: dict[str, Any] = {"protocol": protocol, "method": method, "labels": labels[budget]}
                row |= named("accuracy", accuracy.estimate())
                if method != CONTROL and CONTROL in evaluations:
                    control = evaluations[CONTROL][budget][protocol].replicates("accuracy")
                    row |= named("gain", accuracy.over(control).estimate())
                rows.append(row | {"draws": len(measured.figures), "runs": len(set(measured.runs))})
    columns = ["protocol", "method", "labels", "accuracy", "accuracy_ci95", "gain", "gain_ci95"]
    columns += ["draws", "runs"]
    return pd.DataFrame(rows).reindex(columns=columns).sort_values(columns[:3])


def design(efficiency: pd.DataFrame, counts: Mapping[str, int]) -> Design:
    """What the figures are means over.

    Args:
        efficiency: as `label_efficiency` returns it.
        counts: the content of `metrics/data.json`.
    """
    draws, runs = (int(efficiency[name].max()) if len(efficiency) else 0 for name in ("draws", "runs"))
    return Design(draws, runs, counts["test_labelled"], counts["test_units"], counts["pool_labelled"])


def recall(all_details: Mapping[str, Any], labels: Mapping[str, int], classes: Sequence[str]) -> pd.DataFrame:
    """Recall of the finetuned models, one row for each method, budget and class that has test images.

    Args:
        all_details: as `details` returns them.
        labels: how many labelled images each budget is.
        classes: names of the classes.
    """
    rows = [
        {
            "method": method,
            "labels": labels[budget],
            "class": name,
            "recall": figure["mean"],
            "recall_ci95": figure.get("ci95"),
        }
        for method, budgets in all_details.items()
        for budget, protocols in budgets.items()
        for name, figure in zip(classes, protocols["finetuned"]["recall"], strict=True)
        if figure is not None
    ]
    return pd.DataFrame(rows, columns=["method", "labels", "class", "recall", "recall_ci95"])


def gathered(methods: Sequence[str], name: str, only: Mapping[str, Collection[str]]) -> pd.DataFrame:
    """The tables that one stage wrote for each method, as one table with a column `method`.

    Args:
        methods: their names.
        name: the path of a method's table in the folder metrics, such as `pretrain/{method}.csv`.
        only: column → its values, as text, in the rows that are taken.
    """
    tables = []
    for method in methods:
        # As text, because a class may be called 001 or NA.
        table = read_table(METRICS / name.format(method=method), *only, text=True)
        for column, values in only.items():
            table = table[table[column].isin(values)]
        table.insert(0, "method", method)
        tables.append(table)
    return pd.concat(tables)


def control_first(methods: Iterable[str]) -> list[str]:
    """The methods sorted by name, with the control first."""
    return sorted(methods, key=lambda method: (method != CONTROL, method))


def measurable(row: Mapping[str, float], name: str = "gain") -> bool:
    """Whether a gain in a row of the summary has an interval, and the interval excludes 0."""
    return excludes_zero(row.get(name, 0.0), row.get(f"{name}_ci95"))


def excludes_zero(mean: float, half: float | None) -> bool:
    """Whether an interval, given as half its width, leaves no doubt about the sign; None: there is none."""
    return half is not None and 0 < half < abs(mean)


def in_percent(row: Mapping[str, float], name: str, sign: str = "") -> str:
    """A figure in percent, with its interval if it has one: `98.6 ± 0.3`; "" if the row lacks it."""
    if name not in row:
        return ""
    return percent_of(row[name], row.get(f"{name}_ci95"), sign)


def percent_of(mean: float, half: float | None, sign: str = "") -> str:
    """A mean in percent with half the width of its interval, if it has one.

    It has one decimal, or two where one would hide the width, or hide whether the interval of a signed mean
    excludes 0: +0.14 ± 0.12.
    """
    if half is None:
        return f"{100 * mean:{sign}.1f}"
    hidden = half < NARROW or (sign and f"{100 * abs(mean):.1f}" == f"{100 * half:.1f}")
    digits = 2 if hidden else 1
    return f"{100 * mean:{sign}.{digits}f} ± {100 * half:.{digits}f}"


def named(name: str, value: Estimate) -> dict[str, float]:
    """The mean under a name, and its interval if there is one: JSON has no NaN."""
    interval = {f"{name}_ci95": _round_interval(value.ci95)} if value.has_interval else {}
    return {name: _round(value.mean), **interval}


def mean_and_ci(value: Estimate) -> dict[str, float]:
    """The mean, and its interval if there is one."""
    interval = {"ci95": _round_interval(value.ci95)} if value.has_interval else {}
    return {"mean": _round(value.mean), **interval}


def _round(value: float) -> float:
    return round(value, DIGITS) + 0.0  # no negative zero


def _round_interval(ci95: float) -> float:
    return max(_round(ci95), SMALLEST_INTERVAL)  # an interval is never ± 0
