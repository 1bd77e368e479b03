"""Reads what `evaluate` and `baselines` predicted for the test split, model by model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.compare.measured import Evaluations, Measured
from stages.errors import InputError
from stages.files.packs import read_probabilities
from stages.files.paths import BASELINES, PREDICTED_IMAGES, PREDICTIONS
from stages.files.tables import read_table
from stages.settings.values import BASELINE, MAJORITY
from stages.tasks.draws import allocate, parse_budget
from stages.tasks.model_index import Model, read_index

HEADLINE = "finetuned"


def read(methods: Sequence[str], budgets: Sequence[str], labelled: Sequence[int]) -> Evaluations:
    """Read the predictions of all methods.

    Args:
        labelled: the labelled images of each class in the pool.

    Raises:
        InputError: a file is damaged, lacks a budget or a protocol, or another method was measured on other
            test images, draws or runs: then gains cannot be paired.
        FileNotFoundError: a file is missing.
    """
    if not budgets:
        return {method: {} for method in methods}
    overlaps = {budget: overlap(labelled, budget) for budget in budgets}
    classes = len(labelled)
    read_methods = {method: _Predictions.read(PREDICTIONS / method, classes) for method in methods}
    first = next(iter(read_methods.values()))
    for predictions in read_methods.values():
        if not predictions.images.equals(first.images):
            raise InputError(
                f"{predictions.folder / PREDICTED_IMAGES}: its images are not those of "
                f"{first.folder / PREDICTED_IMAGES}; run `dvc repro`"
            )
        if predictions.replicates() != first.replicates():
            raise InputError(
                f"{predictions.folder}: has other draws or runs than {first.folder}; run `dvc repro`"
            )
    return {
        method: {budget: predictions.measured(budget, overlaps[budget], HEADLINE) for budget in budgets}
        for method, predictions in read_methods.items()
    }


def read_baselines(
    names: Sequence[str], budgets: Sequence[str], labelled: Sequence[int], method: str
) -> dict[str, dict[str, Measured]]:
    """Read the predictions of the simple baselines: name → budget → its models.

    Args:
        names, budgets, labelled: as for `read`; the names are those of the baselines.
        method: one of the methods that they are compared with.

    Raises:
        InputError, FileNotFoundError: as for `read`.
    """
    measured: dict[str, dict[str, Measured]] = {}
    if not names or not budgets:
        return measured
    paired = _Predictions.read(PREDICTIONS / method, len(labelled))
    for name in names:
        predictions = _Predictions.read(BASELINES / name, len(labelled))
        if not predictions.images.equals(paired.images) or predictions.draws() != paired.draws():
            raise InputError(
                f"{predictions.folder}: has other images or draws than {paired.folder}; run `dvc repro`"
            )
        for budget in budgets:
            # `majority` takes the labels of the whole pool in every draw.
            shared = 1.0 if name == MAJORITY else overlap(labelled, budget)
            of_budget = predictions.measured(budget, shared, BASELINE)
            measured.setdefault(name, {})[budget] = of_budget[BASELINE]
    return measured


@dataclass(frozen=True)
class _Predictions:
    """The predictions of one method, or of one simple baseline.

    Attributes:
        images: table with the columns id, label and unit.
        classes: how many there are.
    """

    folder: Path
    models: Sequence[Model]
    images: pd.DataFrame
    classes: int

    @staticmethod
    def read(folder: Path, classes: int) -> "_Predictions":
        path = folder / PREDICTED_IMAGES
        images = read_table(path, "id", "label", "unit", text=True)
        for column in ("label", "unit"):
            if not images[column].str.fullmatch("[0-9]{1,9}").all():
                raise InputError(f"{path}: column {column} is not a number in every row; run `dvc repro`")
        if not len(images):
            raise InputError(f"{path}: has no images; run `dvc repro`")
        if images["label"].astype(int).max() >= classes:
            raise InputError(f"{path}: column label is above {classes - 1}, the last class; run `dvc repro`")
        units = images["unit"].astype(int)
        if units.max() + 1 != units.nunique():
            raise InputError(f"{path}: column unit does not count from 0 on; run `dvc repro`")
        return _Predictions(folder, read_index(folder), images, classes)

    def replicates(self) -> set[tuple[str, str, int, int]]:
        """The budget, protocol, draw and run of each model."""
        return {(model.budget, model.protocol, model.draw, model.run) for model in self.models}

    def draws(self) -> set[tuple[str, int]]:
        """The budget and draw of each model."""
        return {(model.budget, model.draw) for model in self.models}

    def measured(self, budget: str, shared: float, headline: str) -> dict[str, Measured]:
        """The models of one budget by protocol; each must have the draws of the protocol `headline`."""
        of_budget = [model for model in self.models if model.budget == budget]
        of_budget.sort(key=lambda model: model.draw)  # the same order for all methods and protocols
        if not of_budget:
            raise InputError(f"{self.folder}: has no budget {budget}; run `dvc repro`")
        labels, units = (self.images[column].astype(int).to_numpy() for column in ("label", "unit"))
        by_protocol: dict[str, list[Model]] = {}
        for model in of_budget:
            by_protocol.setdefault(model.protocol, []).append(model)
        draws = [(model.draw, model.run) for model in by_protocol.get(headline, [])]
        for protocol, models in by_protocol.items():
            if [(model.draw, model.run) for model in models] != draws:
                raise InputError(
                    f"{self.folder}: its {protocol} models of {budget} have other draws or runs than the "
                    f"{headline} ones; run `dvc repro`"
                )
        return {
            protocol: Measured.of(
                [self._probabilities(model.file) for model in models],
                labels, units, [model.run for model in models], shared,
            )
            for protocol, models in by_protocol.items()
        }  # fmt: skip

    def _probabilities(self, file: str) -> np.ndarray:
        """Of one model, float32 (N, K)."""
        array = read_probabilities(self.folder / file, rows=len(self.images))
        if array.shape[1] != self.classes:
            raise InputError(
                f"{self.folder / file}: is of {array.shape[1]} classes, not {self.classes}; run `dvc repro`"
            )
        return array


def overlap(labelled: Sequence[int], budget: str) -> float:
    """The share of its images that a draw has in common with another one, on average.

    Args:
        labelled: the labelled images of each class in the pool.
        budget: its name.
    """
    size, number = parse_budget(budget), sum(labelled)
    if size == "all" or int(size) >= number:
        return 1.0
    drawn = allocate(list(labelled), int(size), list(range(len(labelled))))
    return sum(n * n / given for n, given in zip(drawn, labelled, strict=True) if given) / int(size)
