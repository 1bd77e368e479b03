"""The same grid of finetuning recipes for every method, measured on validation, never on test.

    python -m benchmarks.tune [METHOD …]

Needs the encoders (`dvc repro`). For each method, recipe and budget it finetunes on a few draws
of its own, which no evaluation uses, and writes `benchmarks/results/tuning.csv`: the validation
accuracy of every point, and `chosen` on the recipe with the best mean over the budgets. The chosen
recipes are what stands in `params.yaml` under `finetune.recipe`. The head's learning rate and the
weight decay are the same for all and were not tuned.
"""

import itertools
import sys
from pathlib import Path

import pandas as pd

from stages import artifacts, params, probe
from stages.draws import budget_name, draw_labelled
from stages.errors import reported
from stages.finetune.train import finetune, start
from stages.params import PARAMS, Params, Recipe
from stages.randomness import Stream
from stages.runtime import Bar, Machine, machine, progress

RESULT = Path("benchmarks/results/tuning.csv")
GRID = {
    "encoder_learning_rate": [0.0001, 0.001, 0.01],
    "head": ["zero", "probe"],
}
FIXED = {"head_learning_rate": 0.001, "weight_decay": 0.5}
BUDGETS = (10, 100)  # where the recipe matters most
DRAWS = (100, 101)  # far from the numbers that `finetune.draws` counts


def main(methods: list[str]) -> None:
    """Measure the grid for each method and replace its rows in the table."""
    settings = params.validated(params.read(PARAMS))
    here = machine(settings.runtime)
    recipes = [
        Recipe(**FIXED, **dict(zip(GRID, point, strict=True))) for point in itertools.product(*GRID.values())
    ]
    for method in methods or settings.methods:
        runs = len(recipes) * len(BUDGETS) * len(DRAWS)
        schedule = settings.finetune.schedule
        with progress(f"tune {method}", runs * schedule.steps * schedule.batch_size) as bar:
            rows = []
            for recipe, budget in itertools.product(recipes, BUDGETS):
                accuracies = [
                    validation_accuracy(method, recipe, budget, d, settings, here, bar) for d in DRAWS
                ]
                mean = sum(accuracies) / len(accuracies)
                row = {"method": method, "budget": budget_name(budget), **recipe.model_dump()}
                rows.append({**row, "draws": len(DRAWS), "validation_accuracy": round(mean, 4)})
        save(method, pd.DataFrame(rows))


def validation_accuracy(
    method: str, recipe: Recipe, budget: int | str, draw: int, settings: Params, here: Machine, bar: Bar
) -> float:
    """Finetune on one draw with a recipe; the accuracy on the validation split."""
    images = artifacts.read_images(artifacts.IMAGES / "pool.npy")
    labels, classes = artifacts.read_labels(artifacts.LABELS / "pool.csv"), artifacts.read_classes()
    rows = draw_labelled(labels, len(classes), budget, draw, settings.seed)
    labelled = artifacts.as_tensor(images[rows.numpy()])
    encoder = artifacts.read_encoder(artifacts.ENCODERS / f"{method}.safetensors").to(here.device)
    classifier = start(encoder, labelled, labels[rows], len(classes), recipe, settings.probe.l2, here)
    stream = Stream.of(settings.seed, "tune", budget_name(budget), draw)
    schedule, strengths = settings.finetune.schedule, settings.finetune.views
    finetune(method, classifier, labelled, labels[rows], schedule, recipe, strengths, here, stream, bar)
    held_out = artifacts.as_tensor(artifacts.read_images(artifacts.IMAGES / "validation.npy"))
    expected = artifacts.read_labels(artifacts.IMAGES / "validation.csv")
    logits = classifier.head(probe.encode(classifier.encoder, held_out, here))
    return float((logits.argmax(1).cpu() == expected).float().mean())


def save(method: str, rows: pd.DataFrame) -> None:
    """Put a method's rows into the table and mark the recipe with the best mean over the budgets."""
    knobs = list(Recipe.model_fields)
    means = rows.groupby(knobs, sort=False)["validation_accuracy"].mean()
    best = dict(zip(knobs, means.idxmax(), strict=True))
    rows["chosen"] = (rows[knobs] == pd.Series(best)).all(axis=1)
    chosen = ", ".join(f"{knob} {value}" for knob, value in best.items())
    print(f"{method}: {chosen}, mean validation accuracy {means.max():.2%}")
    if RESULT.exists():
        old = pd.read_csv(RESULT)
        rows = pd.concat([old[old["method"] != method], rows])
    artifacts.write_table(RESULT, rows)


if __name__ == "__main__":
    with reported():
        main(sys.argv[1:])
