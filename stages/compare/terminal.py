"""The summary in a terminal. It starts fast, because it needs neither PyTorch nor Matplotlib."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from stages.compare import figures, other_code, written
from stages.compare.written_tables import EFFICIENCY, read_columns
from stages.errors import InputError
from stages.files.json_files import read_json
from stages.files.paths import DETAILS, LABEL_EFFICIENCY, METRICS, REPORT, SUMMARY
from stages.settings.values import BASELINE

NARROW = 0.0005  # half the width of an interval that would be ± 0.0 points with one decimal


def show() -> None:
    """Print metrics/summary.json as a table in percent, narrow enough for a terminal of 80 columns.

    Raises:
        InputError: a file is damaged, is not what its stage writes, or lacks a figure that another has.
        FileNotFoundError: a file is missing.
    """
    summary, details = read_json(SUMMARY, written.Summary), read_json(DETAILS, written.Details)
    if not summary:
        raise InputError(f"{SUMMARY}: has no method; run `dvc repro`")
    efficiency = read_columns(LABEL_EFFICIENCY, EFFICIENCY)
    design = figures.design(efficiency, read_json(METRICS / "data.json", written.DesignCounts))
    simple = list(efficiency[efficiency["protocol"] == BASELINE]["method"].unique())
    title = "test split, in %"
    if design.draws > 1:
        title += f": mean over {design.draws} draws ± 95% interval"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("labels", "method", "accuracy", "over scratch", "macro recall", "distil", "probe"):
        table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    budgets = next(iter(summary.values()))
    every_interval = True
    for budget in sorted(budgets, key=lambda name: (name == "nall", len(name), name)):
        for method in figures.control_first(summary):
            row = dict(figures_in(SUMMARY, summary, method, budget))
            if "ci95" in (
                recall := figures_in(DETAILS, details, method, budget, "finetuned")["recall_macro"]
            ):
                row["recall_macro_ci95"] = recall["ci95"]
            cells = [
                cell(row, "accuracy"),
                cell(row, "gain", sign="+"),
                cell(row, "recall_macro"),
            ]
            every_interval &= all("±" in cell for cell in cells if cell)
            means = [
                f"{100 * row[name]:.1f}" if name in row else "" for name in ("distilled", "linear_probe")
            ]
            table.add_row(budget.removeprefix("n"), method, *cells, *means)
        for name in simple:
            of_baseline = figures_in(DETAILS, details, name, budget, BASELINE)
            row = flat({metric: of_baseline[metric] for metric in ("accuracy", "recall_macro")})
            accuracy, recall = (cell(row, metric) for metric in ("accuracy", "recall_macro"))
            table.add_row(budget.removeprefix("n"), name, accuracy, "", recall, style="dim")
        table.add_section()
    Console().print(table)
    if not every_interval:
        print(f"no ±: {design.why_no_interval()}")
    if simple:
        print(f"accuracy: of finetuned models, and of what they are compared with: {', '.join(simple)}")
    for method in summary:
        health = read_json(METRICS / "pretrain" / f"{method}.json", written.Health)
        if health["collapse"] is not None:
            print(f"warning: pretrain {method}: collapse at {health['collapse']}")
        for doubt in health.get("doubts", []):
            print(f"warning: pretrain {method}: {doubt}")
    if other := other_code.note(list(summary)):
        print(f"warning: {other}")
    if REPORT.is_file():
        print(f"full report: {REPORT} (open it in a browser)")


def cell(row: Mapping[str, float], name: str, sign: str = "") -> str:
    """A figure in percent with its interval: one decimal, for 80 columns, or two if it is narrow."""
    return figures.in_percent(row, name, sign, digits=1 if row.get(f"{name}_ci95", 1) >= NARROW else 2)


def figures_in(path: Path, content: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """The figures under some keys of a file's content, one below the other.

    Raises:
        InputError: it lacks a key.
    """
    for key in keys:
        if key not in content:
            raise InputError(f"{path}: has no {'.'.join(keys)}; run `dvc repro`")
        content = content[key]
    return content


def flat(of: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Figures of the details as those of the summary: a mean under its name, its interval under NAME_ci95."""
    return {
        name if key == "mean" else f"{name}_{key}": value
        for name, figure in of.items()
        for key, value in figure.items()
    }
