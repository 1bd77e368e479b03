"""Stage compare: the methods side by side, each gain with its interval.

python -m stages.compare            write summary, details, table and picture
python -m stages.compare --show     print the summary that is there
"""

import sys

from stages import artifacts, params
from stages.compare import report
from stages.draws import budget_name, fitting
from stages.errors import InputError, reported

SUMMARY = artifacts.METRICS / "summary.json"


def main() -> None:
    """Gather the evaluations of exactly the methods and budgets in params.yaml that there are labels for."""
    settings = params.load("compare")
    artifacts.require_writable(SUMMARY)
    pool = artifacts.read_labels(artifacts.LABELS / "pool.csv")
    classes = artifacts.read_json(artifacts.LABELS / "classes.json")
    budgets = fitting(settings.finetune.budgets, pool, len(classes))
    names = [budget_name(budget) for budget in budgets]
    evaluations: report.Evaluations = {}
    for method in settings.methods:
        path = artifacts.METRICS / "evaluate" / f"{method}.json"
        found = artifacts.read_json(path)
        missing = [name for name in names if name not in found]
        if missing:
            raise InputError(f"{path}: has no budget {', '.join(missing)}; run `dvc repro`")
        evaluations[method] = {name: found[name] for name in names}
    labelled = int((pool >= 0).sum())
    labels = {budget_name(b): labelled if b == "all" else int(b) for b in budgets}
    table = report.label_efficiency(evaluations, labels)
    artifacts.write_json(SUMMARY, report.summary(evaluations))
    artifacts.write_json(artifacts.METRICS / "details.json", report.details(evaluations))
    artifacts.write_table(artifacts.METRICS / "label_efficiency.csv", table)
    curves = report.gathered(settings.methods, "pretrain/{method}.csv")
    confusion = report.gathered(settings.methods, "evaluate/{method}_confusion.csv", names)
    artifacts.write_table(artifacts.METRICS / "training_curves.csv", curves)
    artifacts.write_table(artifacts.METRICS / "confusion.csv", confusion)
    report.draw_curve(table, artifacts.METRICS / "label_efficiency.png")


def show() -> None:
    """Print metrics/summary.json as a table, in percent."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    # Narrow enough for a terminal of 80 columns.
    title = "test accuracy in %, mean over draws ± 95% interval"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("labels", "method", "finetuned", "over scratch", "macro recall", "linear probe"):
        table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    summary = artifacts.read_json(SUMMARY)
    budgets = next(iter(summary.values()))
    for budget in sorted(budgets, key=lambda name: (name == "nall", len(name), name)):
        for method in report.control_first(summary):
            row = summary[method][budget]
            gain = f"{100 * row['gain']:+.2f} ± {100 * row['gain_ci95']:.2f}" if "gain" in row else ""
            table.add_row(
                budget.removeprefix("n"),
                method,
                f"{100 * row['accuracy']:.2f} ± {100 * row['accuracy_ci95']:.2f}",
                gain,
                f"{100 * row['recall_macro']:.2f}",
                f"{100 * row['linear_probe']:.2f}",
            )
        table.add_section()
    Console().print(table)
    for method in summary:
        collapse = artifacts.read_json(artifacts.METRICS / "pretrain" / f"{method}.json")["collapse"]
        if collapse is not None:
            print(f"warning: pretrain {method}: collapse at {collapse}")


if __name__ == "__main__":
    with reported():
        show() if sys.argv[1:] == ["--show"] else main()
