"""Tune the finetuning recipe of each method: the same grid for all, measured on validation, never on test.

    python -m stages.tools.tune [METHOD …]            few labels
    python -m stages.tools.tune --many [METHOD …]     all labels (after few labels)

Needs the encoders (`dvc repro`). For each method, recipe and budget it finetunes on a few draws of its own,
which no evaluation uses. It writes the validation accuracy of every point of the grid into
`benchmarks/results/tuning.csv` and marks the recipe with the lowest geometric mean of the error over the
budgets as `chosen`. With a geometric mean, halving the error counts the same at 10 labels as at 1,000.

`--many` tunes the encoder's learning rate and the weight decay for all labels and writes
`benchmarks/results/tuning_many.csv`. Run it after the recipe for few labels is in params.yaml.

The chosen values belong under `finetune.recipe` in params.yaml or, for another dataset, in its experiment.
The head's learning rate is the same for all methods.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.errors import InputError, reported
from stages.files import weights
from stages.files.packs import read_pack
from stages.files.paths import IMAGES, encoder_file
from stages.files.tables import write_table
from stages.networks.encoder import Encoder
from stages.settings import load
from stages.settings.findings import unknown
from stages.settings.recipes import Recipe, Schedule
from stages.settings.schema import Params
from stages.settings.values import DEFAULT
from stages.tasks.classifier import probabilities
from stages.tasks.draws import Budget, budget_name, draw_labelled
from stages.tasks.finetuning import Labelled, finetune, initial_classifier, steps_for
from stages.tasks.labels import read_labels, read_pool_labels
from stages.training.machine import Machine, set_up
from stages.training.progress import Bar, progress
from stages.training.randomness import Stream
from stages.training.workers import Workers, fitting, warm_up
from stages.views.augment import random_views

RESULT = Path("benchmarks/results/tuning.csv")
RESULT_MANY = Path("benchmarks/results/tuning_many.csv")
GRID: dict[str, list[Any]] = {
    "encoder_learning_rate": [0.00001, 0.001, 0.003, 0.01, 0.03],
    "weight_decay": [0.5, 2.0],
    "head_learning_rate": [0.01],
}
MANY: dict[str, list[Any]] = {
    "encoder_learning_rate_many": [0.001, 0.003, 0.01, 0.03],
    "weight_decay_many": [0.05, 0.2, 2.0],
}
BUDGETS = (10, 100, 1000)
KNOBS = list(GRID)
DRAWS = (100, 101)  # far from the numbers of the draws that `finetune.draws` counts


def main(arguments: Sequence[str]) -> None:
    """Measure the grid for each method and replace the method's rows in the table."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.tools.tune",
        description="Tune the finetuning recipe of each method on validation. Run `dvc repro` first.",
    )
    parser.add_argument("methods", metavar="METHOD", nargs="*", help="(default: all methods in params.yaml)")
    parser.add_argument(
        "--many", action="store_true", help="tune learning rate and weight decay for all labels, not for few"
    )
    options = parser.parse_args(arguments)
    settings = load.validated(load.read(load.PARAMS))
    known = [name for name in settings.finetune.recipe if name != DEFAULT]
    for method in options.methods:
        if method not in known:
            raise InputError(f"METHOD: {unknown(method, known)}")
    schedule, source = settings.finetune.schedule, settings.data.source
    warm_up("stages.tools.tune", "torch._dynamo")
    for method in options.methods or settings.methods:
        if options.many:
            rows = grid(method, settings, MANY, ["all"], DRAWS[:1]).assign(epochs=schedule.epochs)
            save(RESULT_MANY, source, method, list(MANY), rows)
        else:
            rows = grid(method, settings, GRID, BUDGETS, DRAWS).assign(steps=schedule.steps)
            save(RESULT, source, method, KNOBS, rows)


def grid(
    method: str,
    settings: Params,
    values: dict[str, list[Any]],
    budgets: Sequence[Budget],
    draws: Sequence[int],
) -> pd.DataFrame:
    """The mean validation accuracy over the draws: one row per point of the grid and budget."""
    points = [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]
    tasks = [Task(tuple(point.items()), b, d) for point in points for b in budgets for d in draws]
    accuracies = validation_accuracies(f"tune {method}", method, settings, tasks)
    rows = []
    for first in range(0, len(tasks), len(draws)):  # the draws of a point and budget follow one another
        task = tasks[first]
        mean = float(np.mean([accuracies[first + number] for number in range(len(draws))]))
        row = {"budget": budget_name(task.budget), **dict(task.point), "draws": len(draws)}
        rows.append({**row, "validation_accuracy": round(mean, 4)})
    return pd.DataFrame(rows)


def validation_accuracies(title: str, method: str, settings: Params, tasks: Sequence["Task"]) -> list[float]:
    """The accuracy on validation after each training, a fraction; the trainings run side by side."""
    count = min(fitting(settings.runtime.threads.finetune), len(tasks))
    opener = partial(Trial.open, method, settings)
    trial = opener(0)
    images = sum(trial.images_seen(task) for task in tasks)
    with progress(title, images) as bar, Workers(title, opener, count) as workers:
        accuracies = dict(workers.run(Trial.accuracy, tasks, bar))
    return [accuracies[number] for number in range(len(tasks))]


@dataclass(frozen=True)
class Task:
    """A training: the values of a point of the grid, and the labels of a draw.

    Attributes:
        schedule: what differs from `finetune.schedule` of params.yaml.
    """

    point: tuple[tuple[str, Any], ...]
    budget: Budget
    draw: int
    schedule: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:  # noqa: D105
        return f"{budget_name(self.budget)}-draw{self.draw}"


class Trial:
    """Finetunes one method's encoder of run 0 with one recipe after another and measures it on validation."""

    def __init__(self, method: str, settings: Params, machine: Machine) -> None:
        self.method, self.settings, self.machine = method, settings, machine
        self.images = read_pack(IMAGES / "pool.npy")
        self.labels, self.classes = read_pool_labels()
        self.validation_images = read_pack(IMAGES / "validation.npy")
        self.validation_labels = read_labels(IMAGES / "validation.csv")

    @staticmethod
    def open(method: str, settings: Params, worker: int) -> "Trial":
        """Set up the machine and read the data; called in each worker."""
        machine = set_up(settings.runtime, settings.runtime.threads.finetune, worker)
        return Trial(method, settings, machine)

    def recipe(self, task: Task) -> Recipe:
        """The recipe of a training."""
        return self.settings.finetune.recipe[self.method].model_copy(update=dict(task.point))

    def schedule(self, task: Task) -> Schedule:
        """The schedule of a training."""
        return self.settings.finetune.schedule.model_copy(update=dict(task.schedule))

    def given(self, task: Task) -> int:
        """How many images of a training are labelled."""
        return int((self.labels >= 0).sum()) if task.budget == "all" else int(task.budget)

    def images_seen(self, task: Task) -> int:
        """How many images a training sees."""
        schedule = self.schedule(task)
        return steps_for(self.given(task), schedule) * schedule.batch_size

    def encoder(self) -> Encoder:
        """A new copy of the pretrained encoder of run 0."""
        return weights.read_encoder(encoder_file(self.method, 0)).to(self.machine.device)

    def accuracy(self, task: Task, bar: Bar) -> float:
        """The accuracy on validation after a training, a fraction."""
        settings, machine, classes = self.settings, self.machine, len(self.classes)
        encoder, schedule, recipe = self.encoder(), self.schedule(task), self.recipe(task)
        rows = draw_labelled(self.labels, classes, task.budget, task.draw, settings.seeds.draws)
        labelled = Labelled(self.images, rows, self.labels[rows], given=len(rows))
        classifier = initial_classifier(encoder, labelled, classes, settings.probe.l2, machine)
        stream = Stream.of(settings.seeds.training, "tune", budget_name(task.budget), task.draw)
        views = partial(random_views, strengths=settings.views.presets[settings.views.finetune])
        finetune(self.method, classifier, labelled, schedule, recipe, views, machine, stream, bar)
        predicted = probabilities(classifier, self.validation_images, machine).argmax(1).cpu()
        known = self.validation_labels >= 0
        return float((predicted == self.validation_labels)[known].float().mean())


def save(file: Path, dataset: str, method: str, knobs: list[str], rows: pd.DataFrame) -> None:
    """Replace a method's rows in the table, with the best point marked as chosen."""
    point, _ = min(mean_errors(rows, knobs).items(), key=lambda item: item[1])
    best = dict(zip(knobs, point, strict=True))
    rows = rows.assign(chosen=(rows[knobs] == pd.Series(best)).all(axis=1))
    rows.insert(0, "dataset", dataset)
    rows.insert(1, "method", method)
    values = ", ".join(f"{knob}: {value}" for knob, value in best.items())
    print(f"best recipe for {method} on {dataset}; enter it under finetune.recipe: {method}: {{{values}}}")
    if file.exists():
        old = pd.read_csv(file)
        rows = pd.concat([old[(old["dataset"] != dataset) | (old["method"] != method)], rows])
    write_table(file, rows)
    print(f"{file}: written")


def mean_errors(rows: pd.DataFrame, knobs: list[str]) -> dict[tuple[Any, ...], float]:
    """The geometric mean of the validation error over the budgets, by the values of the knobs."""
    return {
        tuple(point): float(np.exp(np.log((1 - budgets["validation_accuracy"]).clip(lower=1e-4)).mean()))
        for point, budgets in rows.groupby(knobs, sort=False)
    }


if __name__ == "__main__":
    with reported():
        main(sys.argv[1:])
