"""What people and programs read: the summary, the finer figures, the tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from stages.compare.statistics import Estimate, estimate, paired_gain
from stages.files.paths import METRICS
from stages.files.tables import read_table
from stages.settings.schema import CONTROL

Evaluations = dict[str, dict[str, dict[str, list[dict[str, Any]]]]]  # method → budget → protocol → draws


def summary(evaluations: Evaluations) -> dict[str, dict[str, dict[str, float]]]:
    """The headline figures, METHOD → nBUDGET → metric, as fractions.

    `gain` is the mean paired difference in accuracy to the control on the same draws; the control
    itself has none.
    """
    return {
        method: {budget: _headline(evaluations, method, budget) for budget in budgets}
        for method, budgets in evaluations.items()
    }


def _headline(evaluations: Evaluations, method: str, budget: str) -> dict[str, float]:
    protocols = evaluations[method][budget]
    accuracy = of_draws(protocols["finetuned"], "accuracy")
    row = {
        "recall_macro": _round(estimate(of_draws(protocols["finetuned"], "recall_macro")).mean),
        "linear_probe": _round(estimate(of_draws(protocols["linear"], "accuracy")).mean),
    }
    row |= _named("accuracy", estimate(accuracy))
    if method != CONTROL and CONTROL in evaluations:
        control = of_draws(evaluations[CONTROL][budget]["finetuned"], "accuracy")
        row |= _named("gain", paired_gain(accuracy, control))
    return row


def details(evaluations: Evaluations) -> dict[str, Any]:
    """Every figure with its interval: METHOD → nBUDGET → protocol → metric → mean, ci95.

    Beside accuracy and macro recall, which count images and classes alike, stand their paired gains over the
    control, `accuracy_gain` and `recall_macro_gain`.
    """
    return {
        method: {
            budget: {
                protocol: _all_figures(draws) | _gains(evaluations, method, budget, protocol)
                for protocol, draws in protocols.items()
            }
            for budget, protocols in budgets.items()
        }
        for method, budgets in evaluations.items()
    }


def _gains(evaluations: Evaluations, method: str, budget: str, protocol: str) -> dict[str, Any]:
    """Of a method over the control, where there are both."""
    if method == CONTROL or CONTROL not in evaluations:
        return {}
    ours, control = (evaluations[name][budget][protocol] for name in (method, CONTROL))
    return {
        f"{metric}_gain": _mean_and_ci(
            [a - b for a, b in zip(of_draws(ours, metric), of_draws(control, metric), strict=True)]
        )
        for metric in ("accuracy", "recall_macro")
    }


def _all_figures(draws: list[dict[str, Any]]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for metric, value in draws[0].items():
        if isinstance(value, list):  # per class
            figures[metric] = [
                None if one is None else _mean_and_ci([draw[metric][label] for draw in draws])
                for label, one in enumerate(value)
            ]
        else:
            figures[metric] = _mean_and_ci(of_draws(draws, metric))
    return figures


def label_efficiency(evaluations: Evaluations, labels: dict[str, int]) -> pd.DataFrame:
    """One row per protocol, method and budget: accuracy with its interval, and the gain.

    labels: how many labelled images each budget's name stands for.
    """
    rows = []
    for method, budgets in evaluations.items():
        for budget, protocols in budgets.items():
            for protocol, draws in protocols.items():
                accuracy = of_draws(draws, "accuracy")
                row: dict[str, Any] = {"protocol": protocol, "method": method, "labels": labels[budget]}
                row |= _named("accuracy", estimate(accuracy))
                if method != CONTROL and CONTROL in evaluations:
                    control = of_draws(evaluations[CONTROL][budget][protocol], "accuracy")
                    row |= _named("gain", paired_gain(accuracy, control))
                rows.append(row | {"draws": len(draws)})
    columns = ["protocol", "method", "labels", "accuracy", "accuracy_ci95", "gain", "gain_ci95", "draws"]
    return pd.DataFrame(rows).reindex(columns=columns).sort_values(columns[:3])


def recall(details: Mapping[str, Any], labels: Mapping[str, int], classes: Sequence[str]) -> pd.DataFrame:
    """The recall of the finetuned models, one row per method, budget and class with test images.

    details, labels: as of `details` and `label_efficiency`.
    """
    rows = [
        {
            "method": method,
            "labels": labels[budget],
            "class": name,
            "recall": found["mean"],
            "recall_ci95": found.get("ci95"),
        }
        for method, budgets in details.items()
        for budget, protocols in budgets.items()
        for name, found in zip(classes, protocols["finetuned"]["recall"], strict=True)
        if found is not None
    ]
    return pd.DataFrame(rows, columns=["method", "labels", "class", "recall", "recall_ci95"])


def gathered(methods: Sequence[str], suffix: str, budgets: Sequence[str] | None = None) -> pd.DataFrame:
    """The tables that one stage wrote for every method, as one table with a column `method`.

    suffix: where a method's table is, such as `pretrain/{method}.csv`; budgets: the only ones kept.
    """
    tables = []
    for method in methods:
        # As text: a class may be called 001 or NA.
        table = read_table(METRICS / suffix.format(method=method), text=True)
        if budgets is not None:
            table = table[table["budget"].isin(budgets)]
        table.insert(0, "method", method)
        tables.append(table)
    return pd.concat(tables)


def control_first(methods: Iterable[str]) -> list[str]:
    """The methods in the order in which people compare them."""
    return sorted(methods, key=lambda method: (method != CONTROL, method))


def of_draws(draws: list[dict[str, Any]], metric: str) -> list[float]:
    """One metric of all draws, in their order."""
    return [draw[metric] for draw in draws]


def in_percent(row: Mapping[str, float], name: str, sign: str = "", digits: int = 2) -> str:
    """A figure of a row with its interval, where it has them: `98.62 ± 0.03`; else nothing."""
    if name not in row:
        return ""
    half = f"{name}_ci95"
    interval = f" ± {100 * row[half]:.{digits}f}" if half in row else ""
    return f"{100 * row[name]:{sign}.{digits}f}{interval}"


def _named(name: str, value: Estimate) -> dict[str, float]:
    """The mean under its name, and its interval where there is one: JSON knows no NaN."""
    interval = {f"{name}_ci95": _round(value.ci95)} if value.known else {}
    return {name: _round(value.mean), **interval}


def _mean_and_ci(values: list[float]) -> dict[str, float]:
    value = estimate(values)
    return {"mean": _round(value.mean)} | ({"ci95": _round(value.ci95)} if value.known else {})


def _round(value: float) -> float:
    return round(value, 4) + 0.0  # no negative zero
