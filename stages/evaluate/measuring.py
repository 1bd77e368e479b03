"""Measures one model after another on the test split. Models are measured side by side in workers."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from stages.errors import InputError
from stages.evaluate import diagnostics
from stages.evaluate.frozen import FrozenEncoder
from stages.files.model_index import Model
from stages.files.packs import read_pack, write_array
from stages.files.paths import IMAGES, TEST, encoder_file
from stages.files.tables import read_table
from stages.settings import load
from stages.settings.schema import Params
from stages.tasks.classifier import Classifier, probabilities, read_classifier
from stages.tasks.labels import read_labels, read_pool_labels, units_of
from stages.tasks.power import ENOUGH_VALIDATION
from stages.tasks.scores import measure
from stages.training.machine import Machine, peak_memory_mb, set_up
from stages.training.progress import Bar

CHOOSING = 2000  # validation images that a model is measured on at most
PART = 256  # of them, read at once


@dataclass(frozen=True)
class TestSplit:
    """The test split.

    Attributes:
        images: uint8 (N, C, H, W), memory-mapped.
        labels: (N,) int64.
        ids: of the images.
        units: (N,), from 0 on: the group of each image; an image without a group is a unit of its own.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: list[str]
    units: np.ndarray

    @staticmethod
    def read() -> "TestSplit":
        """Read it from disk.

        Raises:
            InputError: images and table do not fit, or a file is damaged.
        """
        labels = read_labels(TEST / "index.csv").numpy()
        images = read_pack(TEST / "images.npy", rows=len(labels))
        table = read_table(TEST / "index.csv", "id", text=True)
        return TestSplit(images, labels, table["id"].tolist(), units_of(table))

    def table(self) -> pd.DataFrame:
        """What statistics need beside predictions: the columns id, label and unit."""
        return pd.DataFrame({"id": self.ids, "label": self.labels, "unit": self.units})


@dataclass(frozen=True)
class OfModel:
    """A task: measure a model of an index.

    Attributes:
        path: of its file.
    """

    path: Path
    model: Model

    @property
    def budget(self) -> str:
        """The name of the model's budget."""
        return self.model.budget

    @property
    def run(self) -> int:
        """The number of the pretraining run."""
        return self.model.run

    @property
    def draws(self) -> tuple[int, ...]:
        """The draws that the result holds for."""
        return (self.model.draw,)

    def __str__(self) -> str:  # noqa: D105
        return str(self.path)


@dataclass(frozen=True)
class OfEncoder:
    """A task: measure the frozen encoder of a run with the labels of a draw.

    Attributes:
        run: number of the pretraining run.
        draws: draws with the same labels; one is computed.
    """

    budget: str
    run: int
    draws: tuple[int, ...]

    def __str__(self) -> str:  # noqa: D105
        return f"linear probe and kNN, {self.budget}-draw{self.draws[0]}"


@dataclass(frozen=True)
class Measured:
    """The result of a task.

    Attributes:
        protocols: the figures by protocol.
        seconds: spent on predictions of the test split.
        memory_mb: the most memory that the worker has used so far.
        validation: the model's accuracy on validation; None: a frozen encoder, or too few labels there.
    """

    protocols: dict[str, dict[str, Any]]
    seconds: float
    memory_mb: int
    validation: float | None


def predictions_file(budget: str, draw: int, protocol: str) -> str:
    """The name of the file with the probabilities of a model, (N, classes)."""
    return f"{budget}-draw{draw}-{protocol}.npy"


@dataclass(frozen=True)
class Job:
    """What all workers of the stage are told.

    Attributes:
        raw: the content of params.yaml.
        folder: where predictions are written.
    """

    method: str
    raw: Any
    folder: Path


@dataclass
class Evaluator:
    """Predicts the test split with one model after another, and writes the probabilities.

    Attributes:
        labels: of the pool, (M,) int64; -1: none.
        classes: their names.
        encoders: the frozen encoders that were used so far, by run.
    """

    job: Job
    settings: Params
    machine: Machine
    test: TestSplit
    labels: Tensor
    classes: list[str]
    encoders: dict[int, FrozenEncoder] = field(default_factory=dict)

    @staticmethod
    def open(job: Job, worker: int) -> "Evaluator":
        """Set up the machine and read what the tasks share; called in each worker."""
        settings = load.parameters("evaluate", job.method, job.raw)
        machine = set_up(settings.runtime, settings.runtime.threads.evaluate, worker)
        labels, classes = read_pool_labels()
        return Evaluator(job, settings, machine, TestSplit.read(), labels, classes)

    def frozen(self, run: int) -> FrozenEncoder:
        """The pretrained encoder of a run, with the features of the test images."""
        if run not in self.encoders:
            file, classes = encoder_file(self.job.method, run), len(self.classes)
            self.encoders[run] = FrozenEncoder(
                file, self.test.images, self.labels, classes, self.settings, self.machine
            )
        return self.encoders[run]

    def validation_accuracy(self, classifier: Classifier) -> float | None:
        """The accuracy of a model on validation, CHOOSING labelled images at most.

        None where validation has too few labels to choose a model by.
        """
        labels = read_labels(IMAGES / "validation.csv").numpy()
        rows = np.flatnonzero(labels >= 0)
        if len(rows) < ENOUGH_VALIDATION:
            return None
        images = read_pack(IMAGES / "validation.npy", rows=len(labels))
        rows, right = rows[:: -(-len(rows) // CHOOSING)], 0
        for start in range(0, len(rows), PART):  # not all in memory at once
            part = rows[start : start + PART]
            predicted = probabilities(classifier, images[part], self.machine).cpu().numpy().argmax(1)
            right += int((predicted == labels[part]).sum())
        return right / len(rows)

    def measure(self, task: OfModel | OfEncoder, bar: Bar) -> Measured:
        """Do one task."""
        started = time.perf_counter()
        classifier = None
        if isinstance(task, OfModel):
            classifier = self.classifier(task.path)
            predicted = probabilities(classifier, self.test.images, self.machine).cpu().numpy()
            protocols = {task.model.protocol: predicted}
        else:
            protocols = self.frozen(task.run).predict(task.budget, task.draws[0])
        seconds = time.perf_counter() - started
        figures = {}
        for protocol, predicted in protocols.items():
            for draw in task.draws:
                write_array(self.job.folder / predictions_file(task.budget, draw, protocol), predicted)
            figures[protocol] = measure(predicted, self.test.labels)
        on_validation = self.validation_accuracy(classifier) if classifier is not None else None
        bar.advance(1, str(task))
        return Measured(figures, seconds, peak_memory_mb(), on_validation)

    def feature_map(self, task: str, bar: Bar) -> tuple[pd.DataFrame, list[float]]:
        """The test images in the plane of the first two principal components of run 0's features."""
        return diagnostics.feature_map(self.frozen(0).test.cpu().numpy(), self.test.labels, self.classes)

    def classifier(self, path: Path) -> Classifier:
        """A model of an index, on the machine's device.

        Raises:
            InputError: its classes are not those of the data.
        """
        classifier, names = read_classifier(path)
        if names != self.classes:
            raise InputError(
                f"{path}: its classes are {names}, but those of the data are {self.classes}; run `dvc repro`"
            )
        return classifier.to(self.machine.device)
