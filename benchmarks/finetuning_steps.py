"""How many steps finetuning needs: validation accuracy by the number of steps, for each method and budget.

    python -m benchmarks.finetuning_steps [METHOD ...]

Needs the encoders (`dvc repro`). Every number of steps has the same draws, which no evaluation uses, and the
recipe of params.yaml, so that the differences are paired. Replaces the method's rows in
`benchmarks/results/finetuning_steps.csv`.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from stages.errors import reported
from stages.files.tables import write_table
from stages.settings import load
from stages.settings.schema import Params
from stages.tasks.draws import budget_name
from stages.tools.tune import BUDGETS, Task, Trial
from stages.training.progress import progress
from stages.training.workers import Workers, fitting

RESULT = Path("benchmarks/results/finetuning_steps.csv")
STEPS = (100, 150, 300)
DRAWS = (100, 101, 102)  # far from the numbers of the draws that `finetune.draws` counts
KEY = ["dataset", "method"]


def main(methods: Sequence[str]) -> None:
    """Measure each method and replace its rows in the table."""
    settings = load.validated(load.read(load.PARAMS))
    for method in methods or settings.methods:
        rows = measure(method, settings)
        rows.insert(0, "dataset", settings.data.source)
        rows.insert(1, "method", method)
        if RESULT.exists():
            old = pd.read_csv(RESULT)
            same = (old["dataset"] == settings.data.source) & (old["method"] == method)
            rows = pd.concat([old[~same], rows])
        write_table(RESULT, rows)
        print(f"{RESULT}: {method} written")


def measure(method: str, settings: Params) -> pd.DataFrame:
    """The validation accuracy of each budget, draw and number of steps, one row each."""
    tasks = [Task((), budget, draw, steps) for budget in BUDGETS for draw in DRAWS for steps in STEPS]
    images = sum(task.steps or 0 for task in tasks) * settings.finetune.schedule.batch_size
    count = min(fitting(settings.runtime.threads.finetune), len(tasks))
    title, opener = f"steps {method}", partial(Trial.open, method, settings)
    with progress(title, images) as bar, Workers(title, opener, count) as workers:
        accuracies = dict(workers.run(Trial.accuracy, tasks, bar))
    return pd.DataFrame(
        {
            "budget": budget_name(task.budget),
            "draw": task.draw,
            "steps": task.steps,
            "validation_accuracy": round(accuracies[number], 4),
        }
        for number, task in enumerate(tasks)
    )


if __name__ == "__main__":
    with reported():
        main(sys.argv[1:])
