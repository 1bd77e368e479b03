"""The rows of the quality tables, from what `compare` writes for one experiment."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.statements import BASELINE
from stages.files.json_files import read_json
from stages.files.paths import METRICS
from stages.settings.values import CONTROL, IMPORTED
from stages.tasks.draws import Budget

PROTOCOLS = ("finetuned", "distilled", "linear", BASELINE)
ORDER = ["labels", "protocol", "method"]  # the rows of a table are sorted by these after the first column


def accuracies(table: pd.DataFrame, name: str, budgets: Sequence[Budget]) -> pd.DataFrame:
    """The rows of the label-efficiency table as rows of quality.csv: the accuracy of every method."""
    rows = experiment_rows(table, name, budgets).rename(columns={"accuracy_ci95": "ci95"})
    return rows[["dataset", *ORDER, "accuracy", "ci95", "draws", "runs"]]


def gains(table: pd.DataFrame, summary: dict[str, Any], name: str, budgets: Sequence[Budget]) -> pd.DataFrame:
    """Rows of quality_gains.csv: the paired gains of every other method over scratch and over `imported`.

    Args:
        table: the label-efficiency table, which has the gains over scratch.
        summary: the content of summary.json, which has those over `imported`, of finetuned models.
    """
    columns = ["dataset", *ORDER, "over", "gain", "ci95", "draws", "runs"]
    over_scratch = experiment_rows(table, name, budgets).assign(over=CONTROL)
    rows = over_scratch.rename(columns={"gain_ci95": "ci95"}).dropna(subset="gain")[columns]
    finetuned = over_scratch[over_scratch["protocol"] == "finetuned"]
    cells = zip(finetuned["method"], finetuned["labels"], strict=True)
    figures = [summary[method].get(f"n{labels}", {}) for method, labels in cells]
    over_imported = finetuned.assign(
        over=IMPORTED,
        gain=[figure.get("gain_over_imported") for figure in figures],
        ci95=[figure.get("gain_over_imported_ci95") for figure in figures],
    )
    return pd.concat([rows, over_imported.dropna(subset="gain")[columns]])


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
