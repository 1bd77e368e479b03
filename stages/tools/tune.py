"""The same grid of finetuning recipes for every method, measured on validation, never on test.

    python -m benchmarks.tune [METHOD …]            few labels
    python -m benchmarks.tune --many [METHOD …]     all labels, after the recipe for few is in params.yaml

Needs the encoders (`dvc repro`). For each method, recipe and budget it finetunes on a few draws
of its own, which no evaluation uses, and writes `benchmarks/results/tuning.csv`: the validation
accuracy of every point, and `chosen` on the recipe with the lowest geometric mean of the error
over the budgets, so that halving an error counts alike at 10 labels and at 1,000. With `--many` it
chooses the encoder's rate and the decay where all images are labelled, into `tuning_many.csv`. The
chosen values are what stands under `finetune.recipe` in `params.yaml` and, for another dataset, in its
experiment. The head's learning rate is the same for all.
"""

import itertools
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.errors import reported
from stages.files import weights
from stages.files.packs import read_pack
from stages.files.paths import ENCODERS, IMAGES
from stages.files.tables import write_table
from stages.finetune.propagation import Neighbourhood
from stages.finetune.train import Labelled, finetune, propagates, start, steps_for
from stages.images.tensors import as_tensor
from stages.networks.encoder import Encoder
from stages.settings import load
from stages.settings.load import PARAMS
from stages.settings.schema import Params, Recipe
from stages.tasks.draws import Budget, budget_name, draw_labelled
from stages.tasks.features import encode
from stages.tasks.labels import read_labels, read_pool_labels
from stages.training.machine import Machine, set_up
from stages.training.progress import Bar, progress
from stages.training.randomness import Stream

RESULT = Path("benchmarks/results/tuning.csv")
RESULT_MANY = Path("benchmarks/results/tuning_many.csv")
GRID: dict[str, list[Any]] = {
    "encoder_learning_rate": [0.00001, 0.001, 0.003, 0.01, 0.03],
    "weight_decay": [0.5, 2.0],
    "head_learning_rate": [0.01],
    "labels": ["own", "propagated"],
}
MANY: dict[str, list[Any]] = {
    "encoder_learning_rate_many": [0.001, 0.003, 0.01, 0.03],
    "weight_decay_many": [0.05, 0.2, 2.0],
}
BUDGETS = (10, 100, 1000)
KNOBS = list(GRID)
DRAWS = (100, 101)  # far from the numbers that `finetune.draws` counts


def main(arguments: list[str]) -> None:
    """Measure the grid for each method and replace its rows in the table."""
    many, methods = "--many" in arguments, [name for name in arguments if name != "--many"]
    settings = load.validated(load.read(PARAMS))
    here = set_up(settings.runtime)
    schedule, source = settings.finetune.schedule, settings.data.source
    for method in methods or settings.methods:
        trial = Trial(method, settings, here)
        if many:
            rows = trial.grid(MANY, ["all"], DRAWS[:1]).assign(epochs=schedule.epochs)
            save(RESULT_MANY, source, method, list(MANY), rows)
        else:
            rows = trial.grid(GRID, BUDGETS, DRAWS).assign(steps=schedule.steps)
            save(RESULT, source, method, KNOBS, rows)


class Trial:
    """Finetunes one method's encoder on one draw after another, each with its recipe."""

    def __init__(self, method: str, settings: Params, here: Machine) -> None:
        self.method, self.settings, self.here = method, settings, here
        self.images = read_pack(IMAGES / "pool.npy")
        self.labels, self.classes = read_pool_labels()
        self.held_out = as_tensor(read_pack(IMAGES / "validation.npy"))
        self.expected = read_labels(IMAGES / "validation.csv")

    @cached_property
    def neighbourhood(self) -> Neighbourhood:
        """The pool's graph, which only few labels need."""
        return Neighbourhood(self.encoder(), self.images, self.here)

    def encoder(self) -> Encoder:
        """The pretrained encoder, as it was written."""
        return weights.read_encoder(ENCODERS / f"{self.method}.safetensors").to(self.here.device)

    def grid(
        self, grid: dict[str, list[Any]], budgets: Sequence[Budget], draws: Sequence[int]
    ) -> pd.DataFrame:
        """One row for each point of the grid and each budget: the mean validation accuracy over the draws."""
        points = [dict(zip(grid, point, strict=True)) for point in itertools.product(*grid.values())]
        schedule, recipe = self.settings.finetune.schedule, self.settings.finetune.recipe[self.method]
        sizes = [len(self.labels) if budget == "all" else int(budget) for budget in budgets]
        steps = sum(steps_for(size, schedule) for size in sizes) * len(points) * len(draws)
        rows = []
        with progress(f"tune {self.method}", steps * schedule.batch_size) as bar:
            for point, budget in itertools.product(points, budgets):
                changed = recipe.model_copy(update=point)
                mean = np.mean([self.accuracy(changed, budget, draw, bar) for draw in draws])
                row = {"budget": budget_name(budget), **point, "draws": len(draws)}
                rows.append({**row, "validation_accuracy": round(float(mean), 4)})
        return pd.DataFrame(rows)

    def accuracy(self, recipe: Recipe, budget: Budget, draw: int, bar: Bar) -> float:
        """The accuracy on the validation split, a fraction."""
        settings, here, classes = self.settings, self.here, len(self.classes)
        encoder, schedule = self.encoder(), settings.finetune.schedule
        rows = draw_labelled(self.labels, classes, budget, draw, settings.seed)
        labelled = Labelled(self.images, rows, self.labels[rows], given=len(rows))
        if propagates(len(rows), schedule, recipe):
            labelled = self.neighbourhood.spread(labelled, classes, encoder, here)
        classifier = start(encoder, labelled, classes, settings.probe.l2, here)
        stream = Stream.of(settings.seed, "tune", budget_name(budget), draw)
        strengths = settings.views.presets[settings.views.finetune]
        finetune(self.method, classifier, labelled, schedule, recipe, strengths, here, stream, bar)
        logits = classifier.head(encode(classifier.encoder, self.held_out, here))
        return float((logits.argmax(1).cpu() == self.expected).float().mean())


def save(file: Path, dataset: str, method: str, knobs: list[str], rows: pd.DataFrame) -> None:
    """Put a method's rows into the table and mark the best point."""
    point, _ = min(mean_errors(rows, knobs).items(), key=lambda item: item[1])
    best = dict(zip(knobs, point, strict=True))
    rows = rows.assign(chosen=(rows[knobs] == pd.Series(best)).all(axis=1))
    rows.insert(0, "dataset", dataset)
    rows.insert(1, "method", method)
    chosen = ", ".join(f"{knob}: {value}" for knob, value in best.items())
    print(f"the best on {dataset}, under finetune.recipe: {method}: {{{chosen}}}")
    if file.exists():
        old = pd.read_csv(file)
        rows = pd.concat([old[(old["dataset"] != dataset) | (old["method"] != method)], rows])
    write_table(file, rows)


def mean_errors(rows: pd.DataFrame, knobs: list[str]) -> dict[tuple[Any, ...], float]:
    """The geometric mean of the validation error over the budgets, by the knobs of each point."""
    return {
        tuple(point): float(np.exp(np.log((1 - budgets["validation_accuracy"]).clip(lower=1e-4)).mean()))
        for point, budgets in rows.groupby(knobs, sort=False)
    }


if __name__ == "__main__":
    with reported():
        main(sys.argv[1:])
