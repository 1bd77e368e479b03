"""Measures one model after another on the test split. Models are measured side by side in workers."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from stages.errors import InputError
from stages.evaluate import diagnostics
from stages.evaluate.frozen import FrozenEncoder
from stages.evaluate.held_out import HeldOut
from stages.evaluate.results import predictions_file
from stages.files.packs import write_array
from stages.files.paths import encoder_file
from stages.settings import load
from stages.settings.schema import Params
from stages.tasks.classifier import Classifier, probabilities, read_classifier
from stages.tasks.features import apply_head, encode_rows
from stages.tasks.labels import read_pool_labels
from stages.tasks.model_index import Model
from stages.tasks.scores import measure
from stages.tasks.validation import validation_labelled
from stages.training.machine import Machine, peak_memory_mb, set_up
from stages.training.progress import Bar


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
    test: HeldOut
    labels: Tensor
    classes: list[str]
    encoders: dict[int, FrozenEncoder] = field(default_factory=dict)

    @staticmethod
    def open(job: Job, worker: int) -> "Evaluator":
        """Set up the machine and read what the tasks share; called in each worker."""
        settings = load.parameters("evaluate", job.method, job.raw)
        machine = set_up(settings.runtime, settings.runtime.threads.evaluate, worker)
        labels, classes = read_pool_labels()
        return Evaluator(job, settings, machine, HeldOut.read(len(classes)), labels, classes)

    def frozen(self, run: int) -> FrozenEncoder:
        """The pretrained encoder of a run, with the features of the test images."""
        if run not in self.encoders:
            file, classes = encoder_file(self.job.method, run), len(self.classes)
            self.encoders[run] = FrozenEncoder(
                file, self.test.images, self.labels, classes, self.settings, self.machine
            )
        return self.encoders[run]

    def predict(self, classifier: Classifier, run: int) -> Tensor:
        """Probabilities (N, classes) of the test images.

        A model whose encoder was not trained needs no more than the features of the pretrained one.
        """
        frozen = self.frozen(run)
        if frozen.is_of(classifier):
            return apply_head(classifier.head, frozen.test, self.machine).softmax(1)
        return probabilities(classifier, self.test.images, self.machine)

    def validation_accuracy(self, classifier: Classifier, run: int) -> float | None:
        """The accuracy of a model on validation; None: it has too few labels to choose a model by."""
        labelled = validation_labelled(len(self.classes))
        if labelled is None:
            return None
        images, rows, labels = labelled
        frozen = self.frozen(run)
        if frozen.is_of(classifier):
            logits = apply_head(classifier.head, frozen.of_validation(images, rows), self.machine)
        else:
            logits = encode_rows(classifier.encoder, images, rows, self.machine, classifier.head)
        return float((logits.argmax(1).cpu().numpy() == labels).mean())

    def measure(self, task: OfModel | OfEncoder, bar: Bar) -> Measured:
        """Do one task."""
        started = time.perf_counter()
        classifier = None
        if isinstance(task, OfModel):
            classifier = self.classifier(task.path)
            predicted = self.predict(classifier, task.run).cpu().numpy()
            protocols = {task.model.protocol: predicted}
        else:
            protocols = self.frozen(task.run).predict(task.budget, task.draws[0])
        seconds = time.perf_counter() - started
        figures = {}
        for protocol, predicted in protocols.items():
            for draw in task.draws:
                write_array(self.job.folder / predictions_file(task.budget, draw, protocol), predicted)
            figures[protocol] = measure(predicted, self.test.labels)
        on_validation = self.validation_accuracy(classifier, task.run) if classifier is not None else None
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
