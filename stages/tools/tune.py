"""Tune the finetuning recipe of each method, with more draws and a wider grid than the stage `choose`.

    python -m stages.tools.tune [METHOD …] [--draws N] [--steps N …] [--write]

Needs the encoders (`dvc repro`). The grid is that of `choose` in params.yaml, the same for every method. Each
point is trained in full on draws of its own, for the budgets of params.yaml, and scored as `choose` does: on
validation, or by cross-validation where validation has fewer than 100 labels; never on test. The best point
has the lowest geometric mean of the error over the budgets: halving the error counts the same at 10 labels
as at 1,000. Where it lies at the edge of the grid, the grid is extended there, until it lies inside. A method
has one recipe for all budgets, and another for those of `finetune.schedule.many` labels or more.

A training that is done is not done again: a command that was killed resumes. The accuracy of every point is
written into `benchmarks/results/tuning.csv`, in place of the rows of the same method and `data.source`.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.choose.search import FACTOR, IN_FULL, neat
from stages.choose.trials import Trial, accuracy_of
from stages.choose.tryout import Tryout
from stages.errors import InputError, reported
from stages.files.tables import read_table, write_table
from stages.settings import load
from stages.settings.findings import unknown
from stages.settings.recipes import Finetune, FixedRecipe, Recipe, Schedule
from stages.settings.values import DEFAULT
from stages.tasks.draws import CHOOSING
from stages.tasks.finetuning import steps_for
from stages.tools.params_file import write_values
from stages.training.workers import warm_up

RESULT = Path("benchmarks/results/tuning.csv")
KNOBS = ["encoder_learning_rate", "weight_decay"]
FACTORS = {"encoder_learning_rate": FACTOR, "weight_decay": 4.0}  # from the edge of the grid to a new value
ROUNDS = 8  # extensions at most: the accuracy of a value far outside tells of a mistake elsewhere


@dataclass(frozen=True)
class Grid:
    """What is tried. It starts with the rates of the stage `choose` and the decay of the default recipe."""

    encoder_learning_rate: tuple[float, ...]
    weight_decay: tuple[float, ...]

    def points(self, default: FixedRecipe) -> list[Recipe]:
        """All points, the weakest first; the frozen encoder once, because no decay changes it."""
        rates, decays = sorted(self.encoder_learning_rate), sorted(self.weight_decay)
        pairs = product(rates, decays)
        return [default.with_rate(rate, decay) for rate, decay in pairs if rate or decay == decays[0]]


@dataclass(frozen=True)
class Tuned:
    """What was measured for a method.

    Attributes:
        rows: budget, labels, steps, the knobs, accuracy; one row for each point, budget and number of steps.
        few, many: the best point of the budgets with fewer, and with many labels, by the number of steps;
            None: there is no such budget.
    """

    method: str
    rows: pd.DataFrame
    few: dict[int, pd.Series | None]
    many: dict[int, pd.Series | None]


def main(arguments: Sequence[str]) -> None:
    """Measure the grid for each method, write the table and, if asked to, the recipes."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.tools.tune",
        description="Tune the finetuning recipe of each method on labels of validation or of the draws. "
        "Run `dvc repro` first. A killed command resumes.",
    )
    parser.add_argument("methods", metavar="METHOD", nargs="*", help="(default: all methods in params.yaml)")
    parser.add_argument("--draws", type=int, default=5, metavar="N", help="draws of labels (default: 5)")
    parser.add_argument(
        "--steps", type=int, nargs="+", metavar="N",
        help="lengths of finetuning to compare (default: finetune.schedule.steps)",
    )  # fmt: skip
    parser.add_argument(
        "--write", action="store_true",
        help="write the recipes and the best of several --steps into params.yaml",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    settings = load.validated(load.read(load.PARAMS))
    for method in options.methods:
        if method not in settings.methods:
            raise InputError(f"METHOD: {unknown(method, list(settings.methods))}")
    if options.draws < 1 or min(options.steps or [1]) < 1:
        raise InputError("--draws and --steps: allowed: whole numbers from 1 on")
    if RESULT.exists():
        read_table(RESULT, "dataset", "method")  # what cannot be added to is refused before the hours of work
    warm_up("stages.choose.trials", "torch._dynamo")
    lengths = options.steps or [settings.finetune.schedule.steps]
    tuned = [tune(method, lengths, options.draws) for method in options.methods or settings.methods]
    # The schedule is the same for every method: its length is the best of all of them together.
    steps = min(lengths, key=lambda length: sum(error_at(one, length) for one in tuned))
    values: dict[str, Any] = {"finetune.schedule.steps": steps} if options.steps else {}
    for one in tuned:
        recipe = recipe_of(one, steps)
        save(RESULT, settings.data.source, one, steps, options.draws)
        values[f"finetune.recipe.{one.method}"] = recipe
        print(f"best recipe for {one.method}: {recipe}, with {steps} steps; {RESULT}: written")
    if options.write:
        write_values(values)
        print(f"{load.PARAMS}: written ({', '.join(values)})")
    else:
        print(f"to use them, enter them under finetune.recipe in {load.PARAMS}, or add --write")


def tune(method: str, lengths: Sequence[int], draws: int) -> Tuned:
    """Measure the grid for a method, and extend it until the best point lies inside."""
    tryout = Tryout.open(method, range(CHOOSING, CHOOSING + draws), "tune")
    settings = tryout.stage.settings
    if not tryout.splits:
        raise InputError("tune: no budget has labels on which a recipe can be scored")
    default, sizes = (
        settings.finetune.recipe[DEFAULT],
        {split.budget: split.labels for split in tryout.splits},
    )
    grid = Grid(settings.choose.encoder_learning_rates, (default.weight_decay,))
    for _ in range(1 + ROUNDS):
        points = grid.points(default)
        trials = [
            Trial.of(split, point, with_steps(settings.finetune, length), IN_FULL)
            for split, point, length in product(tryout.splits, points, lengths)
        ]
        results = tryout.run(trials)
        parts = []
        for budget, length in product(sizes, lengths):
            steps = steps_for(sizes[budget], with_steps(settings.finetune, length))
            pairs = [(t, r) for t, r in zip(trials, results, strict=True) if t.schedule.steps == steps]
            accuracy = accuracy_of(budget, *zip(*pairs, strict=True))
            knobs = pd.DataFrame([point.model_dump() for point in points])
            parts.append(knobs.assign(budget=budget, labels=sizes[budget], steps=length, accuracy=accuracy))
        rows = pd.concat(parts, ignore_index=True)
        is_many = rows["labels"] >= settings.finetune.schedule.many
        few, many = (
            {length: best(part[part["steps"] == length]) for length in lengths}
            for part in (rows[~is_many], rows[is_many])
        )
        chosen = [point for point in (*few.values(), *many.values()) if point is not None]
        wider = extended(grid, chosen)
        if wider == grid:
            break
        print(f"tune {method}: a best value is at the edge, so the grid is extended", flush=True)
        grid = wider
    return Tuned(method, rows, few, many)


def with_steps(finetune: Finetune, steps: int) -> Schedule:
    """The schedule with another number of steps."""
    return finetune.schedule.model_copy(update={"steps": steps})


def log_error(accuracy: pd.Series) -> float:
    """The mean logarithm of the error; its power of e is the geometric mean."""
    return float(np.log((1 - accuracy.to_numpy(float)).clip(min=1e-4)).mean())


def best(rows: pd.DataFrame) -> pd.Series | None:
    """The knobs with the lowest error; None: there are no rows."""
    if rows.empty:
        return None
    points = {point: log_error(part["accuracy"]) for point, part in rows.groupby(KNOBS)}
    rate, decay = min(points, key=lambda point: points[point])
    return pd.Series({"encoder_learning_rate": rate, "weight_decay": decay})


def error_at(tuned: Tuned, steps: int) -> float:
    """The mean logarithm of the error of the best points of each budget, with a number of steps."""
    rows = tuned.rows[tuned.rows["steps"] == steps]
    return log_error(rows.groupby("budget")["accuracy"].max())


def extended(grid: Grid, chosen: Sequence[pd.Series]) -> Grid:
    """The grid with a further value beside each chosen one at its edge; the frozen encoder is no edge."""
    lists: dict[str, tuple[float, ...]] = {}
    for knob in KNOBS:
        before = getattr(grid, knob)
        values = {value for value in before if value > 0}
        positive = set(values)
        for point in chosen:
            if point["encoder_learning_rate"] == 0 or not positive:
                continue
            if point[knob] == min(positive):
                values.add(neat(min(positive) / FACTORS[knob]))
            if point[knob] == max(positive):
                values.add(min(10.0, neat(max(positive) * FACTORS[knob])))
        lists[knob] = before if values <= set(before) else tuple(sorted({*values, *before}))
    return Grid(**lists)


def recipe_of(tuned: Tuned, steps: int) -> dict[str, float]:
    """The recipe of a method for params.yaml."""
    recipe: dict[str, float] = {}
    for point, end in ((tuned.few[steps], ""), (tuned.many[steps], "_many")):
        recipe |= {} if point is None else {f"{knob}{end}": float(point[knob]) for knob in KNOBS}
    return recipe


def save(file: Path, dataset: str, tuned: Tuned, steps: int, draws: int) -> None:
    """Replace a method's rows in the table; the rows of the recipe in use are marked as chosen."""
    rows = tuned.rows.rename(columns={"accuracy": "validation_accuracy"}).round({"validation_accuracy": 4})
    marks = pd.Series(False, index=rows.index)
    for part in (tuned.few, tuned.many):
        if (point := part[steps]) is not None:
            marks |= (rows[KNOBS] == point).all(axis=1) & (rows["steps"] == steps)
    rows = rows.assign(dataset=dataset, method=tuned.method, draws=draws, chosen=marks)
    columns = ["dataset", "method", "budget", "steps", *KNOBS, "head_learning_rate", "draws"]
    rows = rows[[*columns, "validation_accuracy", "chosen"]]
    if file.exists():
        old = read_table(file, "dataset", "method")
        rows = pd.concat([old[(old["dataset"] != dataset) | (old["method"] != tuned.method)], rows])
    write_table(file, rows)


if __name__ == "__main__":
    with reported():
        main(sys.argv[1:])
