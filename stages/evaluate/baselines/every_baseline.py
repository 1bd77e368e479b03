"""What the stage does: it fits every baseline to every draw of labels, and measures it on the test split.

The predictions are written as those of a method are, with the protocol `baseline`, so that `compare` treats a
baseline like any method: the same draws, the same test images, paired gains.
"""

import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits
from torch import Tensor

from stages.evaluate.accuracies import print_accuracies
from stages.evaluate.baselines.classifiers import FITTED, fitted, majority, probabilities
from stages.evaluate.baselines.descriptors import described
from stages.evaluate.held_out import HeldOut
from stages.evaluate.results import predictions_file
from stages.files import provenance
from stages.files.digests import write_digests
from stages.files.locks import require_writable
from stages.files.packs import read_pack, write_array
from stages.files.paths import BASELINES, IMAGES, METRICS, PREDICTED_IMAGES
from stages.files.records import write_record
from stages.files.tables import write_table
from stages.files.whole import whole_folder
from stages.settings import load
from stages.settings.schema import Params
from stages.settings.values import BASELINE, MAJORITY
from stages.tasks.draws import budget_name, draw_labelled, usable_budgets
from stages.tasks.labels import read_pool_labels
from stages.tasks.model_index import Model, write_index
from stages.tasks.scores import measure
from stages.tasks.validation import validation_labelled
from stages.training.progress import Bar, progress

FIGURES, TIMINGS = METRICS / "baselines.json", METRICS / "timings" / "baselines.json"
LARGEST = 20_000  # labelled images that a baseline is fitted to at most: more would take minutes
CALIBRATED = ("nll", "ece")  # figures of probabilities, which most baselines do not have


@dataclass(frozen=True)
class Draw:
    """Labelled images.

    Attributes:
        budget: the name of the budget.
        numbers: the draws that have these labels: of the budget `all`, all of them.
        rows: of the pool, (n,).
    """

    budget: str
    numbers: Sequence[int]
    rows: np.ndarray


@dataclass(frozen=True)
class Data:
    """What the baselines learn from and are measured on.

    Attributes:
        pool: its images, uint8 (N, C, H, W), memory-mapped.
        labels: of the pool, (N,); -1: none.
        classes: how many there are.
        test: the test split.
        validation: images, rows and labels, as `validation_labelled` returns them.
    """

    pool: np.ndarray
    labels: np.ndarray
    classes: int
    test: HeldOut
    validation: tuple[np.ndarray, np.ndarray, np.ndarray] | None


@dataclass(frozen=True)
class Prediction:
    """What a baseline predicts after it was fitted to a draw.

    Attributes:
        test: probabilities of the test images, float32 (N, K).
        right: the share of the validation images that it is right on; None: they are too few.
    """

    name: str
    draw: Draw
    test: np.ndarray
    right: float | None


def main() -> None:
    """Fit and measure the baselines of params.yaml; write predictions, figures and timings."""
    started, raw = time.perf_counter(), load.read(load.PARAMS)
    settings = load.parameters("baselines", raw=raw)
    require_writable(BASELINES, FIGURES, TIMINGS)
    before, made_from = provenance.state("baselines", raw=raw), provenance.made_from("baselines")
    labels, classes = read_pool_labels()
    pool = read_pack(IMAGES / "pool.npy", rows=len(labels))
    draws = make_draws(settings, labels, len(classes)) if settings.baselines else []
    names = settings.baselines if draws else ()
    predictions: list[Prediction] = []
    with whole_folder(BASELINES) as folder:
        if names:
            count = len(classes)
            data = Data(pool, labels.numpy(), count, HeldOut.read(count), validation_labelled(count))
            with progress("baselines", len(names) * len(draws), "fits") as bar, threadpool_limits(1):
                predictions = list(predicted(names, draws, data, bar))
            for name in names:
                write_predictions(folder / name, [of for of in predictions if of.name == name], data.test)
                write_digests(folder / name, BASELINES / name)
            figures = figures_of(predictions, data.test.labels)
            print_accuracies("baselines", figures)
        provenance.require_unchanged("baselines", None, before)
    content = {"figures": figures, "validation": validation_accuracies(predictions)} if names else {}
    write_record(FIGURES, {"figures": {}, "validation": {}, "names": names, "made_from": made_from} | content)
    seconds = round(time.perf_counter() - started, 1)
    write_record(TIMINGS, {"hardware": platform.processor() or platform.machine(), "seconds": seconds})


def make_draws(settings: Params, labels: Tensor, classes: int) -> list[Draw]:
    """The draws of every budget that has enough labels: those that every method is finetuned on."""
    draws = []
    for budget in usable_budgets(settings.finetune.budgets, int((labels >= 0).sum()), classes):
        numbers = range(settings.finetune.draws)
        for equal in [numbers] if budget == "all" else [[number] for number in numbers]:
            rows = draw_labelled(labels, classes, budget, equal[0], settings.seeds.draws).numpy()
            draws.append(Draw(budget_name(budget), equal, rows[:: -(-len(rows) // LARGEST)]))
    return draws


def predicted(names: Sequence[str], draws: Sequence[Draw], data: Data, bar: Bar) -> Iterator[Prediction]:
    """Fit each baseline to each draw, and predict with it; images are described once."""
    used = np.unique(np.concatenate([draw.rows for draw in draws]))
    for describe in dict.fromkeys(FITTED[name].describe for name in names if name in FITTED):
        of_pool = described(data.pool, used, describe)
        of_test = described(data.test.images, np.arange(len(data.test.labels)), describe)
        of_validation = described(*data.validation[:2], describe) if data.validation else None
        for name in names:
            if name not in FITTED or FITTED[name].describe is not describe:
                continue
            for draw in draws:
                learnt, labels = of_pool[np.searchsorted(used, draw.rows)], data.labels[draw.rows]
                classifier = fitted(FITTED[name].make, learnt, labels, draw.numbers[0])
                right = None
                if data.validation and of_validation is not None:
                    guesses = probabilities(classifier, of_validation, data.classes).argmax(1)
                    right = float((guesses == data.validation[2]).mean())
                yield Prediction(name, draw, probabilities(classifier, of_test, data.classes), right)
                bar.advance(1, f"{name}, {draw.budget}")
    if MAJORITY in names:
        shares = majority(data.labels, data.classes, len(data.test.labels))
        right = float((data.validation[2] == shares[0].argmax()).mean()) if data.validation else None
        for draw in draws:
            yield Prediction(MAJORITY, draw, shares, right)
            bar.advance(1, MAJORITY)


def write_predictions(folder: Path, predictions: Sequence[Prediction], test: HeldOut) -> None:
    """Write the predictions of one baseline as evaluate@METHOD does: an array of each draw, and the index."""
    models = []
    for of in predictions:
        for number in of.draw.numbers:
            file = predictions_file(of.draw.budget, number, BASELINE)
            write_array(folder / file, of.test)
            models.append(Model(file, BASELINE, of.draw.budget, number, 0, of.name))
    write_index(folder, models)
    write_table(folder / PREDICTED_IMAGES, test.table())


def figures_of(predictions: Sequence[Prediction], labels: np.ndarray) -> dict[str, Any]:
    """Budget → baseline → the figures of each draw, on the test split with these labels, (N,)."""
    figures: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for of in predictions:
        measured = {key: value for key, value in measure(of.test, labels).items() if key not in CALIBRATED}
        of_budget = figures.setdefault(of.draw.budget, {})
        of_budget.setdefault(of.name, []).extend(measured for _ in of.draw.numbers)
    return figures


def validation_accuracies(predictions: Sequence[Prediction]) -> dict[str, dict[str, float]]:
    """Budget → baseline → its mean accuracy on validation, by which the best one is chosen."""
    accuracies: dict[str, dict[str, list[float]]] = {}
    for of in predictions:
        if of.right is not None:
            accuracies.setdefault(of.draw.budget, {}).setdefault(of.name, []).append(of.right)
    return {
        budget: {name: round(float(np.mean(right)), 4) for name, right in of_budget.items()}
        for budget, of_budget in accuracies.items()
    }
