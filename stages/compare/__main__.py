"""Stage compare: all methods side by side, each gain with its interval.

python -m stages.compare            write the summary, details, tables, picture and report
python -m stages.compare --show     print the summary that was written
"""

import sys
from collections.abc import Sequence

from stages.compare import charts, figures, inputs, report
from stages.compare.leftovers import remove_leftovers
from stages.compare.statistics import why_no_interval
from stages.errors import InputError, reported
from stages.files.json_files import read_json, write_json
from stages.files.locks import require_writable
from stages.files.paths import METRICS
from stages.files.tables import read_table, write_table
from stages.settings import load
from stages.tasks.draws import budget_name, usable_budgets

SUMMARY, DETAILS = METRICS / "summary.json", METRICS / "details.json"
LABEL_EFFICIENCY = METRICS / "label_efficiency.csv"
REPORT = METRICS / "report.html"


def main() -> None:
    """Compare the methods of params.yaml at those of its budgets for which there are enough labels."""
    settings = load.parameters("compare")
    require_writable(SUMMARY, REPORT)
    data = inputs.read_data()
    labelled = data.counts["pool_labelled"]
    budgets = usable_budgets(settings.finetune.budgets, labelled, len(data.class_names))
    names = [budget_name(budget) for budget in budgets]
    evaluations = read_evaluations(settings.methods, names)
    remove_leftovers(settings.methods)
    labels = {budget_name(b): labelled if b == "all" else int(b) for b in budgets}
    efficiency = figures.label_efficiency(evaluations, labels)
    summary, details = figures.summary(evaluations), figures.details(evaluations)
    draws = int(efficiency["draws"].max()) if len(efficiency) else 0
    write_json(SUMMARY, summary)
    write_json(DETAILS, details)
    write_table(LABEL_EFFICIENCY, efficiency)
    write_table(METRICS / "recall.csv", figures.recall(details, labels, data.class_names))
    gather(settings.methods, names)
    charts.write_efficiency(efficiency, METRICS / "label_efficiency.png")
    report.write(REPORT, report.collect(summary, details, efficiency, labels, draws, data))


def read_evaluations(methods: Sequence[str], budgets: Sequence[str]) -> figures.Evaluations:
    """Read what evaluate wrote for each method.

    Raises:
        InputError: a file is damaged, or lacks a budget.
    """
    evaluations: figures.Evaluations = {}
    for method in methods:
        path = METRICS / "evaluate" / f"{method}.json"
        evaluation = read_json(path)
        if missing := [budget for budget in budgets if budget not in evaluation]:
            raise InputError(f"{path}: has no budget {', '.join(missing)}; run `dvc repro`")
        evaluations[method] = {budget: evaluation[budget] for budget in budgets}
    return evaluations


def gather(methods: Sequence[str], budgets: Sequence[str]) -> None:
    """Write the methods' tables as one table of each kind, for `dvc plots`."""
    for name, of_method, of_budgets in (
        ("training_curves", "pretrain/{method}.csv", None),
        ("confusion", "evaluate/{method}_confusion.csv", budgets),
        ("reliability", "evaluate/{method}_reliability.csv", budgets),
        ("feature_map", "evaluate/{method}_map.csv", None),
    ):
        write_table(METRICS / f"{name}.csv", figures.gathered(methods, of_method, of_budgets))


def show() -> None:
    """Print metrics/summary.json as a table in percent, narrow enough for a terminal of 80 columns."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    summary, details = read_json(SUMMARY), read_json(DETAILS)
    draws = int(read_table(LABEL_EFFICIENCY, "draws")["draws"].max()) if next(iter(summary.values())) else 0
    title = f"test split, in %: mean over {draws} draws ± 95% interval" if draws > 1 else "test split, in %"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("labels", "method", "finetuned", "over scratch", "macro recall", "probe"):
        table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    budgets = next(iter(summary.values()))
    every_interval = True
    for budget in sorted(budgets, key=lambda name: (name == "nall", len(name), name)):
        for method in figures.control_first(summary):
            row = dict(summary[method][budget])
            if "ci95" in (recall := details[method][budget]["finetuned"]["recall_macro"]):
                row["recall_macro_ci95"] = recall["ci95"]
            cells = [
                figures.in_percent(row, "accuracy"),
                figures.in_percent(row, "gain", sign="+"),
                figures.in_percent(row, "recall_macro"),
            ]
            every_interval &= all("±" in cell for cell in cells if cell)
            table.add_row(budget.removeprefix("n"), method, *cells, figures.in_percent(row, "linear_probe"))
        table.add_section()
    Console().print(table)
    if not every_interval:
        print(f"no ±: {why_no_interval(draws)}")
    for method in summary:
        collapse = read_json(METRICS / "pretrain" / f"{method}.json")["collapse"]
        if collapse is not None:
            print(f"warning: pretrain {method}: collapse at {collapse}")
    if REPORT.is_file():
        print(f"full report: {REPORT} (open it in a browser)")


if __name__ == "__main__":
    with reported():
        show() if sys.argv[1:] == ["--show"] else main()
