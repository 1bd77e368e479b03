"""How long finetuning has to be: validation accuracy by the number of steps and the size of a batch.

    python -m benchmarks.finetuning_length [METHOD ...]

Needs the encoders (`dvc repro`). Every length has the same draws, which no evaluation uses, and the recipe of
params.yaml, so that the differences are paired. Replaces the method's rows in
`benchmarks/results/finetuning_length.csv`.
"""

import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pandas as pd

from stages.errors import reported
from stages.files.tables import write_table
from stages.settings import load
from stages.settings.schema import Params
from stages.tasks.draws import budget_name
from stages.tools.tune import BUDGETS, Task, validation_accuracies
from stages.training.workers import warm_up

RESULT = Path("benchmarks/results/finetuning_length.csv")
# Steps and images of a batch; the others are compared with the first.
LENGTHS = ((300, 64), (300, 32), (150, 64), (100, 64))
DRAWS = (100, 101, 102)  # far from the numbers of the draws that `finetune.draws` counts


def main(methods: Sequence[str]) -> None:
    """Measure each method and replace its rows in the table."""
    settings = load.validated(load.read(load.PARAMS))
    warm_up("stages.tools.tune", "torch._dynamo")
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
    """The validation accuracy of each budget, draw and length, one row each."""
    grid = list(product(BUDGETS, DRAWS, LENGTHS))
    tasks = [
        Task((), budget, draw, (("steps", steps), ("batch_size", batch), ("epochs", 0)))
        for budget, draw, (steps, batch) in grid
    ]
    accuracies = validation_accuracies(f"length {method}", method, settings, tasks)
    return pd.DataFrame(
        {
            "budget": budget_name(budget),
            "draw": draw,
            "steps": steps,
            "batch_size": batch,
            "validation_accuracy": round(accuracies[number], 4),
        }
        for number, (budget, draw, (steps, batch)) in enumerate(grid)
    )


if __name__ == "__main__":
    with reported():
        main(sys.argv[1:])
