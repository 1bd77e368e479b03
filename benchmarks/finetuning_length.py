"""How long finetuning has to be: validation accuracy by the number of steps and the size of a batch.

    python -m benchmarks.finetuning_length [METHOD ...]

Needs the encoders and the recipes (`dvc repro`). Every length has the same draws, which no evaluation uses,
and the recipe of the budget, so that the differences are paired. Replaces the method's rows in
`benchmarks/results/finetuning_length.csv`.
"""

import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pandas as pd

from stages.choose.trials import Trial
from stages.choose.tryout import Tryout
from stages.errors import reported
from stages.files.tables import write_table
from stages.settings import load
from stages.tasks.chosen import read_recipes, recipes_file
from stages.tasks.draws import CHOOSING
from stages.training.workers import warm_up

RESULT = Path("benchmarks/results/finetuning_length.csv")
# Steps and images of a batch; the others are compared with the first.
LENGTHS = ((300, 64), (300, 32), (150, 64), (100, 64))
DRAWS = range(CHOOSING, CHOOSING + 3)


def main(methods: Sequence[str]) -> None:
    """Measure each method and replace its rows in the table."""
    settings = load.validated(load.read(load.PARAMS))
    warm_up("stages.choose.trials", "torch._dynamo")
    for method in methods or settings.methods:
        rows = measure(method)
        rows.insert(0, "dataset", settings.data.source)
        rows.insert(1, "method", method)
        if RESULT.exists():
            old = pd.read_csv(RESULT)
            same = (old["dataset"] == settings.data.source) & (old["method"] == method)
            rows = pd.concat([old[~same], rows])
        write_table(RESULT, rows)
        print(f"{RESULT}: {method} written")


def measure(method: str) -> pd.DataFrame:
    """The accuracy on the held-out labels of each budget, draw and length, one row each."""
    tryout, recipes = Tryout.open(method, DRAWS, "length"), read_recipes(recipes_file(method)).recipes
    grid = list(product(tryout.splits, LENGTHS))
    schedule = tryout.stage.settings.finetune.schedule
    trials = [
        Trial(
            split, recipes[split.budget],
            schedule.model_copy(update={"steps": steps, "batch_size": batch, "epochs": 0}),
        )
        for split, (steps, batch) in grid
    ]  # fmt: skip
    return pd.DataFrame(
        {
            "budget": split.budget,
            "draw": split.draw,
            "steps": steps,
            "batch_size": batch,
            "validation_accuracy": round(float(result.correct.mean()), 4),
        }
        for (split, (steps, batch)), result in zip(grid, tryout.run(trials), strict=True)
    )


if __name__ == "__main__":
    with reported():
        main(sys.argv[1:])
