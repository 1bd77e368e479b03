"""The same grid of finetuning recipes for every method, measured on validation, never on test.

    python -m benchmarks.tune [METHOD …]

Needs the encoders (`dvc repro`). For each method, recipe and budget it finetunes on a few draws
of its own, which no evaluation uses, and writes `benchmarks/results/tuning.csv`: the validation
accuracy of every point, and `chosen` on the recipe with the lowest geometric mean of the error
over the budgets, so that halving an error counts alike at 10 labels and at 1,000. The chosen
recipes are what stands under `finetune.recipe` in `params.yaml` and, for another dataset, in its
experiment. The head's learning rate is the same for all.
"""

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages import artifacts, params, probe, weights
from stages.draws import budget_name, draw_labelled
from stages.encoders import Encoder
from stages.errors import reported
from stages.finetune.propagation import Neighbourhood
from stages.finetune.train import Labelled, finetune, propagates, start, steps_for
from stages.params import PARAMS
from stages.randomness import Stream
from stages.runtime import Bar, Machine, machine, progress
from stages.sections import Params, Recipe

RESULT = Path("benchmarks/results/tuning.csv")
GRID: dict[str, list[Any]] = {
    "encoder_learning_rate": [0.00001, 0.001, 0.003, 0.01, 0.03],
    "weight_decay": [0.5, 2.0],
    "head_learning_rate": [0.01],
    "labels": ["own", "propagated"],
}
BUDGETS = (10, 100, 1000)
KNOBS = list(GRID)
DRAWS = (100, 101)  # far from the numbers that `finetune.draws` counts


def main(methods: list[str]) -> None:
    """Measure the grid for each method and replace its rows in the table."""
    settings = params.validated(params.read(PARAMS))
    here = machine(settings.runtime)
    points = [dict(zip(GRID, point, strict=True)) for point in itertools.product(*GRID.values())]
    schedule = settings.finetune.schedule
    steps = sum(steps_for(budget, schedule) for budget in BUDGETS) * len(points) * len(DRAWS)
    for method in methods or settings.methods:
        trial = Trial(method, settings, here)
        recipes = [settings.finetune.recipe[method].model_copy(update=point) for point in points]
        with progress(f"tune {method}", steps * schedule.batch_size) as bar:
            rows = []
            for recipe, budget in itertools.product(recipes, BUDGETS):
                accuracies = [trial.accuracy(recipe, budget, draw, bar) for draw in DRAWS]
                mean = sum(accuracies) / len(accuracies)
                row = {
                    "dataset": settings.data.source,
                    "method": method,
                    "budget": budget_name(budget),
                    **recipe.model_dump(include=set(GRID)),
                }
                rows.append({**row, "draws": len(DRAWS), "validation_accuracy": round(mean, 4)})
        save(settings.data.source, method, pd.DataFrame(rows))


class Trial:
    """Finetunes one method's encoder on one draw after another, each with its recipe."""

    def __init__(self, method: str, settings: Params, here: Machine) -> None:
        self.method, self.settings, self.here = method, settings, here
        self.images = artifacts.read_images(artifacts.IMAGES / "pool.npy")
        self.labels, self.classes = artifacts.read_pool_labels()
        self.held_out = artifacts.as_tensor(artifacts.read_images(artifacts.IMAGES / "validation.npy"))
        self.expected = artifacts.read_labels(artifacts.IMAGES / "validation.csv")
        self.neighbourhood = Neighbourhood(self.encoder(), self.images, here)

    def encoder(self) -> Encoder:
        """The pretrained encoder, as it was written."""
        return weights.read_encoder(artifacts.ENCODERS / f"{self.method}.safetensors").to(self.here.device)

    def accuracy(self, recipe: Recipe, budget: int, draw: int, bar: Bar) -> float:
        """The accuracy on the validation split, a fraction."""
        settings, here, classes = self.settings, self.here, len(self.classes)
        encoder, schedule = self.encoder(), settings.finetune.schedule
        rows = draw_labelled(self.labels, classes, budget, draw, settings.seed)
        labelled = Labelled(self.images, rows, self.labels[rows], given=len(rows))
        if propagates(budget, schedule, recipe):
            labelled = self.neighbourhood.spread(labelled, classes, encoder, here)
        classifier = start(encoder, labelled, classes, settings.probe.l2, here)
        stream = Stream.of(settings.seed, "tune", budget_name(budget), draw)
        strengths = settings.views.presets[settings.views.finetune]
        finetune(self.method, classifier, labelled, schedule, recipe, strengths, here, stream, bar)
        logits = classifier.head(probe.encode(classifier.encoder, self.held_out, here))
        return float((logits.argmax(1).cpu() == self.expected).float().mean())


def save(dataset: str, method: str, rows: pd.DataFrame) -> None:
    """Put a method's rows into the table and mark the best recipe."""
    recipe, _ = min(mean_errors(rows).items(), key=lambda item: item[1])
    best = dict(zip(KNOBS, recipe, strict=True))
    rows["chosen"] = (rows[KNOBS] == pd.Series(best)).all(axis=1)
    chosen = ", ".join(f"{knob}: {value}" for knob, value in best.items())
    print(f"the best recipe on {dataset}, under finetune.recipe: {method}: {{{chosen}}}")
    if RESULT.exists():
        old = pd.read_csv(RESULT)
        rows = pd.concat([old[(old["dataset"] != dataset) | (old["method"] != method)], rows])
    artifacts.write_table(RESULT, rows)


def mean_errors(rows: pd.DataFrame) -> dict[tuple[Any, ...], float]:
    """The geometric mean of the validation error over the budgets, by the knobs of each recipe."""
    return {
        tuple(recipe): float(np.exp(np.log((1 - budgets["validation_accuracy"]).clip(lower=1e-4)).mean()))
        for recipe, budgets in rows.groupby(KNOBS, sort=False)
    }


if __name__ == "__main__":
    with reported():
        main(sys.argv[1:])
