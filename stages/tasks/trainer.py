"""The worker of a stage that trains classifiers: what its trainings share, and their checkpoints."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import Tensor

from stages.files.locks import require_writable
from stages.files.packs import read_pack, read_pack_if_any
from stages.files.paths import IMAGES, LARGE_POOL
from stages.networks.encoder import Encoder
from stages.settings import load
from stages.settings.recipes import Recipe, Schedule
from stages.settings.schema import Params
from stages.tasks import finetuning
from stages.tasks.classifier import Classifier
from stages.tasks.confirmation import Compared
from stages.tasks.finetuning import Labelled, RandomViews
from stages.tasks.labels import read_pool_labels
from stages.tasks.validation import Validation, validation_labelled
from stages.training.checkpoint import Checkpoint, narrowed
from stages.training.machine import Machine, set_up
from stages.training.progress import Bar
from stages.training.randomness import Stream


@dataclass(frozen=True)
class Job:
    """What all workers of a stage are told.

    Attributes:
        raw: the content of params.yaml.
        key: of the trainings' checkpoints, without what only one training depends on.
        checkpoints: the folder of the checkpoints.
        folder: where the models are written, if the stage keeps them.
        views: the random views that every training sees.
    """

    stage: str
    method: str
    raw: Any
    key: str
    checkpoints: Path
    folder: Path
    views: RandomViews


@dataclass(frozen=True)
class Cost:
    """What a training took.

    Attributes:
        seconds: in training steps, also those before an interruption.
        memory_mb: the most memory that the worker has used so far.
    """

    seconds: float
    memory_mb: int


@dataclass
class Trainer:
    """Trains classifiers of one method on labels of the pool.

    Attributes:
        pool: uint8 (N, C, H, W), memory-mapped.
        large: the same images with more pixels, for views; None: there are none.
        labels: (N,) int64, -1: none.
        classes: their names.
    """

    job: Job
    settings: Params
    machine: Machine
    pool: np.ndarray
    large: np.ndarray | None
    labels: Tensor
    classes: list[str]

    @classmethod
    def open(cls, job: Job, worker: int) -> Self:
        """Set up the machine and read what the trainings share; called in each worker."""
        settings = load.parameters(job.stage, job.method, job.raw)
        machine = set_up(settings.runtime, settings.runtime.threads.finetune, worker)
        labels, classes = read_pool_labels()
        pool = read_pack(IMAGES / "pool.npy", rows=len(labels))
        large = read_pack_if_any(LARGE_POOL, rows=len(labels))
        return cls(job, settings, machine, pool, large, labels, classes)

    def given(self, rows: Tensor) -> Labelled:
        """Images of the pool with their own labels; `rows` (n,) int64."""
        return Labelled(self.pool, rows, self.labels[rows], given=len(rows), large=self.large)

    def checkpoint(self, name: str, *facts: object) -> Checkpoint:
        """The checkpoint of one training, which also depends on these facts (JSON)."""
        file = self.job.checkpoints / name
        # A worker can outlive its stage for a moment, so it is the worker that locks the training.
        require_writable(file)
        return Checkpoint(file, narrowed(self.job.key, *facts, self.classes))

    def train(
        self,
        title: str,
        classifier: Classifier,
        labelled: Labelled,
        schedule: Schedule,
        recipe: Recipe,
        stream: Stream,
        bar: Bar,
        checkpoint: Checkpoint,
    ) -> float:
        """Train a classifier in place; returns the seconds that `finetuning.finetune` returns."""
        return finetuning.finetune(
            f"{self.job.method} {title}", classifier, labelled, schedule, recipe,
            self.job.views, self.machine, stream, bar, checkpoint, stage=self.job.stage,
        )  # fmt: skip

    @cached_property
    def validation(self) -> Validation | None:
        """The images of validation that models are compared on; None: too few."""
        return validation_labelled(len(self.classes))

    def compare(self, new: Classifier, old: Classifier) -> Compared | None:
        """Both models on validation; None: it has too few labels to choose by."""
        return Compared.of(new, old, self.validation, self.machine) if self.validation else None

    def probe(self, encoder: Encoder, labelled: Labelled) -> Classifier:
        """An encoder, frozen, with the linear probe of all these labels as its head."""
        l2, classes = self.settings.probe.l2, len(self.classes)
        return finetuning.initial_classifier(encoder, labelled, classes, l2, self.machine, most=len(labelled))
