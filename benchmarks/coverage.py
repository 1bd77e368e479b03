"""How often a 95% interval holds the truth, in simulations with known truths and on real predictions.

    python -m benchmarks.coverage           (a quarter of an hour on two cores)
    python -m benchmarks.coverage --real    (only the rows of the real predictions, after `dvc repro`)

Simulated: two models of each draw of labels are right or wrong on each test image. What decides is a sum of
normal effects: of the labels in the draw (each labelled image has one, so that draws that share images are
alike), of finetuning, of the image (shared by all models: per-image agreement), of its group, and of chance.
The truth is the mean over all such draws and images, not over those of the simulation. With several
pretraining runs there is an effect of each. Where all labels are given, draws are equal: the truth is that of
these labels.

Real: random subsets of the test images of the last run; the truth is the gain on all of them.

Writes `benchmarks/results/coverage.csv`: `setting,nominal,coverage,simulations`, and the mean half-width in
points. A simulation without an interval, because nothing varies in it, is not counted.
"""

import argparse
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import special

from benchmarks.situations import BUDGET, Setting, all_settings
from stages.compare import measured, predictions
from stages.compare.statistics import Replicates
from stages.errors import reported
from stages.files.paths import PREDICTIONS
from stages.files.tables import write_table
from stages.settings import load
from stages.settings.values import CONTROL
from stages.tasks.draws import budget_name, usable_budgets
from stages.tasks.power import CONFIDENCE
from stages.tasks.scores import (
    accuracy_bounds,
    by_unit,
    contributions,
    effective,
    recall_bounds,
)
from stages.training.progress import Bar, progress
from stages.training.workers import Workers, fitting

RESULT = Path("benchmarks/results/coverage.csv")
SIMULATIONS, SUBSETS = 2000, 2000
# Variances of the effects, 1 in all: of the labels, for both models alike and for each alone; of finetuning.
SHARED, OWN, FINETUNING = 0.01, 0.01, 0.005
PRETRAINING = 0.005  # of a pretraining run, where there are several


def of_labels(setting: Setting, random: np.random.Generator, count: int) -> np.ndarray:
    """`count` independent effects of the labels in each draw, of variance 1: (count, draws)."""
    if setting.labels > 100 * BUDGET:  # draws hardly ever share a label
        return random.normal(size=(count, setting.draws))
    rows = np.stack([random.permutation(setting.labels)[:BUDGET] for _ in range(setting.draws)])
    effects = random.normal(size=(count, setting.labels))
    return np.asarray(effects[:, rows].sum(2) / np.sqrt(BUDGET))


def of_images(setting: Setting, random: np.random.Generator) -> np.ndarray:
    """An effect of each image, of variance 1, half of it of its group: (test,)."""
    alone = random.standard_normal(setting.test, dtype=np.float32)
    if setting.group == 1:
        return alone
    units = setting.units()
    groups = random.standard_normal(units.max() + 1, dtype=np.float32)
    return np.asarray(np.sqrt(np.float32(0.5)) * (groups[units] + alone))


def simulated(
    setting: Setting, random: np.random.Generator
) -> tuple[tuple[Replicates, Replicates], tuple[float, float]]:
    """The control and the contender of one simulation, and the true score of each."""
    shared, *own = of_labels(setting, random, 3)
    images = of_images(setting, random)
    pretraining = PRETRAINING if setting.runs > 1 else 0.0
    rest = 1 - SHARED - OWN - FINETUNING - pretraining
    runs = np.arange(setting.draws) % setting.runs
    arms, truths = [], []
    for accuracy, of_arm in zip(setting.accuracies, own, strict=True):
        draws = np.sqrt(SHARED) * shared + np.sqrt(OWN) * of_arm
        truths.append(accuracy)
        if setting.labels == BUDGET:  # every draw has all labels: the truth is that of these
            known = float(draws[0])
            truths[-1] = float(special.ndtr((special.ndtri(accuracy) + known) / np.sqrt(1 - SHARED - OWN)))
        draws += random.normal(0, np.sqrt(FINETUNING), setting.draws)
        if pretraining:
            draws += random.normal(0, np.sqrt(pretraining), setting.runs)[runs]
        item = np.sqrt(rest * setting.agreement) * (
            np.sqrt(0.7) * images + np.sqrt(0.3) * of_images(setting, random)
        )
        chance = random.standard_normal((setting.draws, setting.test), dtype=np.float32)
        level = (special.ndtri(accuracy) + draws)[:, None] + item
        right = (level.astype(np.float32) + np.float32(np.sqrt(rest * (1 - setting.agreement))) * chance) > 0
        units = contributed(setting, right)
        if setting.single:
            units = by_unit(units, setting.units())
        elif setting.group > 1:  # the same for groups of equal size, and faster
            units = units.reshape(setting.draws, -1, setting.group).mean(2)
        overlap = predictions.overlap([setting.labels // 10] * 10, f"n{BUDGET}")
        bounds, count = bounds_of(setting, right), effective(setting.units())
        if setting.score != "accuracy":
            count = measured.units_for_recall(labels_of(setting), setting.units())
        arms.append(Replicates(units.mean(1).tolist(), units, runs.tolist(), overlap, bounds, count))
    return (arms[0], arms[1]), (truths[0], truths[1])


def contributed(setting: Setting, right: np.ndarray) -> np.ndarray:
    """What each image contributes to the score of each draw: (draws, test).

    Args:
        right: whether each model is right on each image, (draws, test).
    """
    if setting.score == "accuracy":
        return right.astype(np.float32)
    labels = labels_of(setting)
    guesses = np.where(right, labels, (labels + 1) % len(setting.shares))
    certain, units = np.eye(len(setting.shares)), setting.units()
    return np.stack([contributions(certain[guess], labels, units)[setting.score] for guess in guesses])


def labels_of(setting: Setting) -> np.ndarray:
    """The class of each test image, (test,)."""
    counts = np.rint(np.array(setting.shares) * setting.test).astype(int)
    return np.repeat(np.arange(len(counts)), counts)


def bounds_of(setting: Setting, right: np.ndarray) -> tuple[float, ...]:
    """The extremes that an image can contribute, as `compare` knows them."""
    if setting.score == "accuracy":
        return accuracy_bounds(right.mean(), setting.units())
    labels = labels_of(setting)
    recalls = [right[:, labels == label].mean() for label in np.unique(labels)]
    return recall_bounds(recalls, labels, setting.units())


def cover(_: None, setting: Setting, bar: Bar) -> list[dict[str, float | int | str]]:
    """How often the intervals of the contender's accuracy and of its gain hold the truth."""
    random = np.random.default_rng(setting.numbers())
    names = ("gain", "accuracy") if setting.score == "accuracy" else ("gain of macro recall", "macro recall")
    held, widths, counted = dict.fromkeys(names, 0), dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
    for _number in range(SIMULATIONS):
        (control, contender), (base, truth) = simulated(setting, random)
        for name, of, true in zip(
            names, (contender.over(control), contender), (truth - base, truth), strict=True
        ):
            ours = of.estimate()
            if ours.has_interval:
                counted[name] += 1
                held[name] += abs(ours.mean - true) <= ours.ci95
                widths[name] += ours.ci95
    bar.advance(1, str(setting))
    return [
        row(f"{name}, {setting}", held[name], counted[name], widths[name]) for name in names if counted[name]
    ]


def row(setting: str, held: int, simulations: int, widths: float) -> dict[str, float | int | str]:
    """A row of the table."""
    return {
        "setting": setting,
        "nominal": CONFIDENCE,
        "coverage": round(held / simulations, 4),
        "simulations": simulations,
        "half_width": round(100 * widths / simulations, 2),
    }


def real() -> Iterator[dict[str, float | int | str]]:
    """The same on random subsets of the real test images: the gain of each method over the control."""
    settings = load.validated(load.read(load.PARAMS))
    if not PREDICTIONS.is_dir():
        print(f"note: {PREDICTIONS} has no predictions; run `dvc repro`, then this with --real", flush=True)
        return
    classes = pd.read_csv("metrics/data_classes.csv")["pool"].tolist()
    budgets = [budget_name(b) for b in usable_budgets(settings.finetune.budgets, sum(classes), len(classes))]
    evaluations = predictions.read(settings.methods, budgets, classes)
    random = np.random.default_rng(0)
    for method, budget, size in product(settings.methods, budgets, (60, 300)):
        if method == CONTROL:
            continue
        gain = (
            evaluations[method][budget]["finetuned"]
            .replicates("accuracy")
            .over(evaluations[CONTROL][budget]["finetuned"].replicates("accuracy"))
        )
        truth, held, counted, widths = gain.units.mean(), 0, 0, 0.0
        for _ in range(SUBSETS):
            units = gain.units[:, random.choice(gain.units.shape[1], size, replace=False)]
            ours = Replicates(units.mean(1).tolist(), units, gain.runs, gain.overlap).estimate()
            if ours.has_interval:
                counted, widths = counted + 1, widths + ours.ci95
                held += abs(ours.mean - truth) <= ours.ci95
        if counted:
            yield row(f"gain of {method}, {budget}, {size} of the real test images", held, counted, widths)


def opened(worker: int) -> None:
    """Nothing is shared by the simulations."""


def main() -> None:
    """Simulate every setting, resample the real predictions, write the table, print its extremes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage")
    parser.add_argument(
        "--real", action="store_true", help="only on the real predictions; keep the other rows"
    )
    if parser.parse_args().real:
        simulations = pd.read_csv(RESULT).query("not setting.str.contains('real test images')")
    else:
        simulations = pd.DataFrame(list(of_settings()))
    table = pd.concat([simulations, pd.DataFrame(list(real()))])
    write_table(RESULT, table)
    coverage = table["coverage"]
    print(f"{RESULT}: coverage {coverage.min():.3f} at least, {coverage.median():.3f} the median")


def of_settings() -> Iterator[dict[str, float | int | str]]:
    """The rows of all settings, simulated side by side."""
    settings, title = all_settings(), "coverage"
    with progress(title, len(settings), "settings") as bar, Workers(title, opened, fitting(1)) as workers:
        rows = dict(workers.run(cover, settings, bar))
    for number in sorted(rows):
        yield from rows[number]


if __name__ == "__main__":
    with reported():
        main()
