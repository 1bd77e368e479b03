"""Stage compare: the methods side by side, each gain with its interval.

python -m stages.compare            write summary, details, tables, picture and report
python -m stages.compare --show     print the summary that is there
"""

import sys

from stages import artifacts, params
from stages.compare import charts, page, report, sheets
from stages.draws import budget_name, fitting
from stages.errors import InputError, reported

SUMMARY, DETAILS = artifacts.METRICS / "summary.json", artifacts.METRICS / "details.json"
REPORT = artifacts.METRICS / "report.html"


def main() -> None:
    """Gather the evaluations of exactly the methods and budgets in params.yaml that there are labels for."""
    settings = params.load("compare")
    artifacts.require_writable(SUMMARY, REPORT)
    data = sheets.read_prepared()
    labelled = data.counts["pool_labelled"]
    budgets = fitting(settings.finetune.budgets, labelled, len(data.class_names))
    names = [budget_name(budget) for budget in budgets]
    evaluations: report.Evaluations = {}
    for method in settings.methods:
        path = artifacts.METRICS / "evaluate" / f"{method}.json"
        found = artifacts.read_json(path)
        missing = [name for name in names if name not in found]
        if missing:
            raise InputError(f"{path}: has no budget {', '.join(missing)}; run `dvc repro`")
        evaluations[method] = {name: found[name] for name in names}
    labels = {budget_name(b): labelled if b == "all" else int(b) for b in budgets}
    table = report.label_efficiency(evaluations, labels)
    summary, details = report.summary(evaluations), report.details(evaluations)
    draws = int(table["draws"].max()) if len(table) else 0
    artifacts.write_json(SUMMARY, summary)
    artifacts.write_json(DETAILS, details)
    artifacts.write_table(artifacts.METRICS / "label_efficiency.csv", table)
    artifacts.write_table(artifacts.METRICS / "recall.csv", report.recall(details, labels, data.class_names))
    gather(settings.methods, names)
    charts.write_efficiency(table, artifacts.METRICS / "label_efficiency.png")
    page.write(REPORT, page.evidence_of(summary, details, table, labels, draws, data))


def gather(methods: tuple[str, ...], budgets: list[str]) -> None:
    """Write the tables of all methods as one each, for `dvc plots`."""
    for name, of_method, kept in (
        ("training_curves", "pretrain/{method}.csv", None),
        ("confusion", "evaluate/{method}_confusion.csv", budgets),
        ("reliability", "evaluate/{method}_reliability.csv", budgets),
        ("feature_map", "evaluate/{method}_map.csv", None),
    ):
        artifacts.write_table(artifacts.METRICS / f"{name}.csv", report.gathered(methods, of_method, kept))


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
    summary, details = artifacts.read_json(SUMMARY), artifacts.read_json(DETAILS)
    budgets = next(iter(summary.values()))
    for budget in sorted(budgets, key=lambda name: (name == "nall", len(name), name)):
        for method in report.control_first(summary):
            row = dict(summary[method][budget])
            if "ci95" in (recall := details[method][budget]["finetuned"]["recall_macro"]):
                row["recall_macro_ci95"] = recall["ci95"]
            table.add_row(
                budget.removeprefix("n"),
                method,
                report.in_percent(row, "accuracy"),
                report.in_percent(row, "gain", sign="+"),
                report.in_percent(row, "recall_macro"),
                report.in_percent(row, "linear_probe"),
            )
        table.add_section()
    Console().print(table)
    for method in summary:
        collapse = artifacts.read_json(artifacts.METRICS / "pretrain" / f"{method}.json")["collapse"]
        if collapse is not None:
            print(f"warning: pretrain {method}: collapse at {collapse}")
    if REPORT.is_file():
        print(f"more in {REPORT}, for a browser")


if __name__ == "__main__":
    with reported():
        show() if sys.argv[1:] == ["--show"] else main()
