"""The summary in a terminal. It starts fast, because it needs neither PyTorch nor Matplotlib."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from stages.compare import figures, other_code, written, written_figures
from stages.compare.verdict import is_one_sided
from stages.compare.written_tables import CLASSES, EFFICIENCY, read_columns
from stages.errors import InputError, one_line
from stages.files.paths import (
    COMPARED,
    DATA,
    DATA_CLASSES,
    DETAILS,
    LABEL_EFFICIENCY,
    METRICS,
    PREPARED,
    REPORT,
    SUMMARY,
)
from stages.files.records import read_record, read_recorded, require_recorded
from stages.settings.values import BASELINE

NAMES = {"accuracy": "accuracy", "recall_macro": "macro recall"}


def show() -> None:
    """Print metrics/summary.json as a table in percent, narrow enough for a terminal of 80 columns.

    The score that comes first, with its gain, is accuracy, or macro recall where one class has most images.

    Raises:
        InputError: a file is damaged, is not what its stage writes, or lacks a figure that another has.
        FileNotFoundError: a file is missing.
    """
    summary, details = (
        read_recorded(SUMMARY, COMPARED, written_figures.Summary),
        read_recorded(DETAILS, COMPARED, written_figures.Details),
    )
    if not summary:
        raise InputError(f"{SUMMARY}: has no method; run `dvc repro`")
    require_recorded(COMPARED, LABEL_EFFICIENCY)
    require_recorded(PREPARED, DATA_CLASSES)
    efficiency = read_columns(LABEL_EFFICIENCY, EFFICIENCY)
    design = figures.design(efficiency, read_recorded(DATA, PREPARED, written.DesignCounts))
    tested = read_columns(DATA_CLASSES, CLASSES)["test"].astype(int).tolist()
    scores = ("recall_macro", "accuracy") if is_one_sided(tested) else ("accuracy", "recall_macro")
    simple = list(efficiency[efficiency["protocol"] == BASELINE]["method"].unique())
    title = "test split, in %"
    if design.draws > 1:
        title += f": mean over {design.draws} draws ± 95% interval"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    first, second = (NAMES[score] for score in scores)
    for heading in ("labels", "method", first, "over scratch", second, "distil", "probe"):
        table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    budgets = next(iter(summary.values()))
    every_interval = True
    for budget in sorted(budgets, key=lambda name: (name == "nall", len(name), name)):
        for method in figures.control_first(summary):
            row = figures_in(SUMMARY, summary, method, budget)
            of_protocol = figures_in(DETAILS, details, method, budget, "finetuned")
            gain = of_protocol.get(f"{scores[0]}_gain")
            cells = [
                cell(of_protocol[scores[0]]),
                cell(gain, sign="+") if gain else "",
                cell(of_protocol[scores[1]]),
            ]
            every_interval &= all("±" in text for text in cells if text)
            means = [
                f"{100 * row[name]:.1f}" if name in row else "" for name in ("distilled", "linear_probe")
            ]
            table.add_row(budget.removeprefix("n"), method, *cells, *means)
        for name in simple:
            of_baseline = figures_in(DETAILS, details, name, budget, BASELINE)
            of_first, of_second = (cell(of_baseline[score]) for score in scores)
            table.add_row(budget.removeprefix("n"), name, of_first, "", of_second, style="dim")
        table.add_section()
    Console().print(table)
    if not every_interval:
        print(f"no ±: {design.why_no_recall_interval()}")
    if simple:
        others = one_line(", ".join(simple))
        print(f"scores: of finetuned models, and of what they are compared with: {others}")
    for method in summary:
        health = read_record(METRICS / "pretrain" / f"{method}.json", written.Health)
        if health["collapse"] is not None:
            print(one_line(f"warning: pretrain {method}: collapse at {health['collapse']}"))
        for doubt in health.get("doubts", []):
            print(one_line(f"warning: pretrain {method}: {doubt}"))
    if other := other_code.note(list(summary)):
        print(f"warning: {other}")
    if REPORT.is_file():
        print(f"full report: {REPORT} (open it in a browser)")


def cell(figure: Mapping[str, float], sign: str = "") -> str:
    """A figure in percent with its interval, if it has one."""
    return figures.percent_of(figure["mean"], figure.get("ci95"), sign)


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
