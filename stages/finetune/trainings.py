"""The trainings of finetune@METHOD, one for each budget and draw. They run side by side in workers."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.files import weights
from stages.files.locks import require_writable
from stages.files.packs import read_pack
from stages.files.paths import IMAGES, encoder_file
from stages.networks.encoder import Encoder
from stages.settings import load
from stages.settings.schema import Params
from stages.tasks import finetuning
from stages.tasks.classifier import Classifier, write_classifier
from stages.tasks.finetuning import Labelled
from stages.tasks.labels import read_pool_labels
from stages.training.checkpoint import Checkpoint, narrowed
from stages.training.machine import Machine, peak_memory_mb, set_up
from stages.training.progress import Bar
from stages.training.randomness import Stream
from stages.views.augment import random_views


@dataclass(frozen=True)
class Draw:
    """The labelled images of one training.

    Attributes:
        budget: name of the budget.
        number: of the draw.
        run: number of the pretraining run whose encoder is trained.
        rows: (n,) int64, rows of the pool.
        stream: the random numbers of the training, the same for every method.
    """

    budget: str
    number: int
    run: int
    rows: np.ndarray
    stream: Stream

    def __str__(self) -> str:
        """The name of the draw in files and messages, such as `n100-draw0`."""
        return f"{self.budget}-draw{self.number}"

    @property
    def file(self) -> str:
        """The name of the classifier's file."""
        return f"{self}.safetensors"


@dataclass(frozen=True)
class Job:
    """What all workers of the stage are told.

    Attributes:
        raw: the content of params.yaml.
        key: of the trainings' checkpoints, without what only one draw depends on.
        digests: of the encoder's file, by run.
        checkpoints: the folder of the checkpoints.
        folder: where the classifiers are written.
    """

    method: str
    raw: Any
    key: str
    digests: Mapping[int, str | None]
    checkpoints: Path
    folder: Path


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
class Finetuner:
    """Finetunes the encoders of one method on one draw after another.

    Attributes:
        pool: uint8 (N, C, H, W), memory-mapped.
        labels: (N,) int64, -1: none.
        classes: their names.
    """

    job: Job
    settings: Params
    machine: Machine
    pool: np.ndarray
    labels: Tensor
    classes: list[str]

    @staticmethod
    def open(job: Job, worker: int) -> "Finetuner":
        """Set up the machine and read what the trainings share; called in each worker."""
        settings = load.parameters("finetune", job.method, job.raw)
        machine = set_up(settings.runtime, settings.runtime.threads.finetune, worker)
        labels, classes = read_pool_labels()
        pool = read_pack(IMAGES / "pool.npy", rows=len(labels))
        return Finetuner(job, settings, machine, pool, labels, classes)

    def encoder(self, run: int) -> Encoder:
        """A new copy of the encoder of a run, on the machine's device."""
        return weights.read_encoder(encoder_file(self.job.method, run)).to(self.machine.device)

    def train(self, draw: Draw, bar: Bar) -> Cost:
        """Train the classifier of one draw and write its file."""
        settings, classes = self.settings, len(self.classes)
        rows = torch.from_numpy(draw.rows)
        labelled = Labelled(self.pool, rows, self.labels[rows], given=len(rows))
        checkpoint_file = self.job.checkpoints / str(draw)
        # A worker can outlive its stage for a moment, so it is the worker that locks the training.
        require_writable(checkpoint_file)
        digest = self.job.digests[draw.run]
        facts = (draw.stream.key, digest, rows.tolist(), labelled.labels.tolist(), self.classes)
        checkpoint = Checkpoint(checkpoint_file, narrowed(self.job.key, *facts))
        encoder = self.encoder(draw.run)
        if checkpoint.saved:  # its weights include the head
            classifier = Classifier(encoder, classes).to(self.machine.device)
        else:
            classifier = finetuning.initial_classifier(
                encoder, labelled, classes, settings.probe.l2, self.machine
            )
        seconds = finetuning.finetune(
            f"{self.job.method} {draw}", classifier, labelled, settings.finetune.schedule,
            settings.finetune.recipe[self.job.method],
            partial(random_views, strengths=settings.views.presets[settings.views.finetune]),
            self.machine, draw.stream, bar, checkpoint,
        )  # fmt: skip
        write_classifier(self.job.folder / draw.file, classifier, self.classes)
        return Cost(seconds, peak_memory_mb())
