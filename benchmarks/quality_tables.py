"""The rows of the quality tables, from what `compare` writes for one experiment."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.statements import ARM, BASELINE, PROBE
from stages.files.json_files import read_json
from stages.files.paths import METRICS
from stages.settings.values import CONTROL, IMPORTED, PUBLIC
from stages.tasks.draws import Budget

PROTOCOLS = (ARM, "distilled", PROBE, BASELINE)
ORDER = ["labels", "protocol", "method"]  # the rows of a table are sorted by these after the first column


def accuracies(table: pd.DataFrame, name: str, budgets: Sequence[Budget]) -> pd.DataFrame:
    """The rows of the label-efficiency table as rows of quality.csv: the accuracy of every method."""
    rows = experiment_rows(table, name, budgets).rename(columns={"accuracy_ci95": "ci95"})
    return rows[["dataset", *ORDER, "accuracy", "ci95", "draws", "runs"]]


def gains(table: pd.DataFrame, summary: dict[str, Any], name: str, budgets: Sequence[Budget]) -> pd.DataFrame:
    """Rows of quality_gains.csv: the paired gains over scratch.

    Finetuned models have those over `imported`, over the best simple baseline and over public weights too, if
    the summary has.

    Args:
        table: the label-efficiency table, which has the gains over scratch.
        summary: the content of summary.json, which has the others.
    """
    columns = ["dataset", *ORDER, "over", "gain", "ci95", "draws", "runs"]
    rows = experiment_rows(table, name, budgets).rename(columns={"gain_ci95": "ci95"})
    tables = [rows.assign(over=CONTROL)]
    finetuned = rows[rows["protocol"] == ARM]
    cells = zip(finetuned["method"], finetuned["labels"], strict=True)
    figures = [summary[method].get(f"n{labels}", {}) for method, labels in cells]
    for over in (IMPORTED, BASELINE, PUBLIC):
        key = f"gain_over_{over}"
        gain, ci95 = ([figure.get(field, np.nan) for figure in figures] for field in (key, f"{key}_ci95"))
        tables.append(finetuned.assign(over=over, gain=gain, ci95=ci95))
    return pd.concat([of_one.dropna(subset="gain")[columns] for of_one in tables])


def recalls(details: dict[str, Any], name: str) -> pd.DataFrame:
    """Rows of quality_recall.csv: macro recall, and its paired gain over scratch.

    details: the content of details.json.
    """
    rows = []
    for method, budgets in details.items():
        for budget, protocols in budgets.items():
            labels = budget.removeprefix("n")
            for protocol in [name for name in PROTOCOLS if name in protocols]:
                figures = protocols[protocol]
                recall, gain = figures["recall_macro"], figures.get("recall_macro_gain", {})
                rows.append({
                    "dataset": name, "labels": labels, "protocol": protocol, "method": method,
                    "recall_macro": recall["mean"], "ci95": recall.get("ci95"),
                    "gain": gain.get("mean"), "gain_ci95": gain.get("ci95"),
                })  # fmt: skip
    return pd.DataFrame(rows)


def by_recall(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of quality_recall.csv as those of quality.csv and quality_gains.csv, for the same statements."""
    keys = ["dataset", *ORDER]
    scores = rows[[*keys, "recall_macro", "ci95"]].rename(columns={"recall_macro": "accuracy"})
    gains = rows.dropna(subset="gain")[[*keys, "gain", "gain_ci95"]].rename(columns={"gain_ci95": "ci95"})
    return scores, gains.assign(over=CONTROL)


def experiment_rows(table: pd.DataFrame, name: str, budgets: Sequence[Budget]) -> pd.DataFrame:
    """The rows of these protocols with the name of the experiment and with the budgets of params.yaml.

    For the budget `all` the label-efficiency table has the size of the pool, a number that is no budget.
    """
    rows = table[table["protocol"].isin(PROTOCOLS)]
    names = {budget: str(budget) for budget in budgets if budget != "all"}
    return rows.assign(dataset=name, labels=[names.get(number, "all") for number in rows["labels"]])


def timings(name: str, methods: Sequence[str]) -> pd.DataFrame:
    """Rows of quality_timings.csv: seconds of pretraining, and of finetuning and distilling all draws."""
    rows = []
    for method in methods:
        figures_by_stage: dict[str, dict[str, Any]] = {
            stage: read_json(METRICS / "timings" / stage / f"{method}.json")
            for stage in ("pretrain", "finetune", "distil")
        }
        row = {"dataset": name, "method": method}
        row |= {f"{stage}_seconds": figures["seconds"] for stage, figures in figures_by_stage.items()}
        row["propagation_seconds"] = figures_by_stage["distil"]["propagation_seconds"]
        rows.append(row | {"hardware": figures_by_stage["pretrain"]["hardware"]})
    return pd.DataFrame(rows)


def replaced(path: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """The table in a file, sorted, with new rows instead of those with the same value in the first column.

    Args:
        path: the file; it need not exist.
    """
    key = rows.columns[0]
    if path.exists():
        # As text, so that the other rows keep every digit.
        old = pd.read_csv(path, dtype=str, keep_default_na=False)
        rows = pd.concat([old[~old[key].isin(rows[key])], rows])
    order = [key, *(name for name in (*ORDER, "over") if name in rows.columns)]
    return rows.sort_values(order, key=lambda column: column.map(_rank), ignore_index=True)


def _rank(value: str) -> tuple[float, str]:
    """The sort key of a field: numbers of labels by size, `all` after them; names alphabetically."""
    return (float(value) if value.isdigit() else float("inf"), value)
