"""Stage compare: the methods side by side, each gain with its interval.

python -m stages.compare            write summary, details, tables, picture and report
python -m stages.compare --show     print the summary that is there
"""

import sys

from stages.compare import charts, figures, inputs, report
from stages.errors import InputError, reported
from stages.files.json_files import read_json, write_json
from stages.files.locks import require_writable
from stages.files.paths import METRICS
from stages.files.tables import write_table
from stages.settings import load
from stages.tasks.draws import budget_name, fitting

SUMMARY, DETAILS = METRICS / "summary.json", METRICS / "details.json"
REPORT = METRICS / "report.html"


def main() -> None:
    """Gather the evaluations of exactly the methods and budgets in params.yaml that there are labels for."""
    settings = load.parameters("compare")
    require_writable(SUMMARY, REPORT)
    data = inputs.read_prepared()
    labelled = data.counts["pool_labelled"]
    budgets = fitting(settings.finetune.budgets, labelled, len(data.class_names))
    names = [budget_name(budget) for budget in budgets]
    evaluations: figures.Evaluations = {}
    for method in settings.methods:
        path = METRICS / "evaluate" / f"{method}.json"
        found = read_json(path)
        missing = [name for name in names if name not in found]
        if missing:
            raise InputError(f"{path}: has no budget {', '.join(missing)}; run `dvc repro`")
        evaluations[method] = {name: found[name] for name in names}
    labels = {budget_name(b): labelled if b == "all" else int(b) for b in budgets}
    table = figures.label_efficiency(evaluations, labels)
    summary, details = figures.summary(evaluations), figures.details(evaluations)
    draws = int(table["draws"].max()) if len(table) else 0
    write_json(SUMMARY, summary)
    write_json(DETAILS, details)
    write_table(METRICS / "label_efficiency.csv", table)
    write_table(METRICS / "recall.csv", figures.recall(details, labels, data.class_names))
    gather(settings.methods, names)
    charts.write_efficiency(table, METRICS / "label_efficiency.png")
    report.write(REPORT, report.evidence_of(summary, details, table, labels, draws, data))


def gather(methods: tuple[str, ...], budgets: list[str]) -> None:
    """Write the tables of all methods as one each, for `dvc plots`."""
    for name, of_method, kept in (
        ("training_curves", "pretrain/{method}.csv", None),
        ("confusion", "evaluate/{method}_confusion.csv", budgets),
        ("reliability", "evaluate/{method}_reliability.csv", budgets),
        ("feature_map", "evaluate/{method}_map.csv", None),
    ):
        write_table(METRICS / f"{name}.csv", figures.gathered(methods, of_method, kept))


def show() -> None:
    """Print metrics/summary.json as a table, in percent."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    # Narrow enough for a terminal of 80 columns.
    title = "test accuracy in %, mean over draws ± 95% interval"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("labels", "method", "finetuned", "over scratch", "macro recall", "probe"):
        table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    summary, details = read_json(SUMMARY), read_json(DETAILS)
    budgets = next(iter(summary.values()))
    for budget in sorted(budgets, key=lambda name: (name == "nall", len(name), name)):
        for method in figures.control_first(summary):
            row = dict(summary[method][budget])
            if "ci95" in (recall := details[method][budget]["finetuned"]["recall_macro"]):
                row["recall_macro_ci95"] = recall["ci95"]
            table.add_row(
                budget.removeprefix("n"),
                method,
                figures.in_percent(row, "accuracy"),
                figures.in_percent(row, "gain", sign="+"),
                figures.in_percent(row, "recall_macro"),
                figures.in_percent(row, "linear_probe"),
            )
        table.add_section()
    Console().print(table)
    for method in summary:
        collapse = read_json(METRICS / "pretrain" / f"{method}.json")["collapse"]
        if collapse is not None:
            print(f"warning: pretrain {method}: collapse at {collapse}")
    if REPORT.is_file():
        print(f"more in {REPORT}, for a browser")


if __name__ == "__main__":
    with reported():
        show() if sys.argv[1:] == ["--show"] else main()
