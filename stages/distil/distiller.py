"""What distil@METHOD does with one draw: spread its labels over the pool, and train on all of them.

The training goes on from the finetuned model of the draw. It is short, because that model has learnt the
given labels already, and its views, rates and batches are those of finetuning.
"""

import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.distil.propagation import LeaveOneOut, Propagation
from stages.files import weights
from stages.files.locks import require_writable
from stages.files.model_index import Model
from stages.files.packs import read_pack
from stages.files.paths import CLASSIFIERS, IMAGES
from stages.images.tensors import as_tensor
from stages.settings import load
from stages.settings.recipes import Schedule
from stages.settings.schema import Params
from stages.tasks import finetuning
from stages.tasks.classifier import Classifier, read_classifier, write_classifier
from stages.tasks.features import encode
from stages.tasks.finetuning import Labelled
from stages.tasks.labels import read_pool_labels
from stages.training.checkpoint import Checkpoint, narrowed
from stages.training.machine import Machine, peak_memory_mb, set_up
from stages.training.progress import Bar
from stages.training.randomness import Stream
from stages.views.augment import random_views

PART = 1024  # images that are read and encoded at once


@dataclass(frozen=True)
class Student:
    """A model to make from a finetuned one.

    Attributes:
        parent: the finetuned model, whose file name the new one takes over.
        rows: (n,) int64, rows of the pool: the images with the labels of the parent's draw.
        stream: the random numbers of the training, the same for every method.
    """

    parent: Model
    rows: np.ndarray
    stream: Stream

    def __str__(self) -> str:
        """The name in files and messages, such as `n100-draw0`."""
        return Path(self.parent.file).stem


@dataclass(frozen=True)
class Job:
    """What all workers of the stage are told.

    Attributes:
        raw: the content of params.yaml.
        key: of the trainings' checkpoints, without what only one draw depends on.
        checkpoints: the folder of the checkpoints.
        folder: where the models are written.
    """

    method: str
    raw: Any
    key: str
    checkpoints: Path
    folder: Path

    def parent(self, student: Student) -> Path:
        """The file of the finetuned model."""
        return CLASSIFIERS / self.method / student.parent.file


@dataclass(frozen=True)
class Result:
    """What was done with a draw.

    Attributes:
        check: how many given labels are found without themselves.
        images: images beside the given ones to which a label was spread; 0: the finetuned model stays.
        seconds: in training steps, also those before an interruption.
        spreading: seconds in which labels were spread.
        memory_mb: the most memory that the worker has used so far.
    """

    check: LeaveOneOut
    images: int
    seconds: float
    spreading: float
    memory_mb: int


def schedule_of(settings: Params) -> Schedule:
    """The schedule of finetuning, with the length of distilling."""
    return settings.finetune.schedule.model_copy(update={"steps": settings.distil.steps, "epochs": 0})


def graph_rows(given: Tensor, pool: int, images: int) -> Tensor:
    """The rows of the graph's images: the given ones first, then evenly spaced ones of the pool.

    Args:
        given: (n,) int64, rows of the pool.
        pool: how many images the pool has.
        images: how many evenly spaced ones are taken at most.
    """
    spaced = torch.linspace(0, pool - 1, min(images, pool), dtype=torch.float64).round().long()
    return torch.cat([given, spaced[~torch.isin(spaced, given)]])


@dataclass
class Distiller:
    """Makes one model after another from the finetuned models of a method.

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
    def open(job: Job, worker: int) -> "Distiller":
        """Set up the machine and read what the trainings share; called in each worker."""
        settings = load.parameters("distil", job.method, job.raw)
        machine = set_up(settings.runtime, settings.runtime.threads.finetune, worker)
        labels, classes = read_pool_labels()
        pool = read_pack(IMAGES / "pool.npy", rows=len(labels))
        return Distiller(job, settings, machine, pool, labels, classes)

    def distil(self, student: Student, bar: Bar) -> Result:
        """Spread the labels of one draw, train on them if that helps, and write the model's file."""
        parent, file = self.job.parent(student), self.job.folder / student.parent.file
        rows = torch.from_numpy(student.rows)
        given = Labelled(self.pool, rows, self.labels[rows], given=len(rows))
        checkpoint_file = self.job.checkpoints / str(student)
        # A worker can outlive its stage for a moment, so it is the worker that locks the training.
        require_writable(checkpoint_file)
        digest = weights.read_digest(parent)
        facts = (digest, student.stream.key, rows.tolist(), given.labels.tolist(), self.classes)
        checkpoint = Checkpoint(checkpoint_file, narrowed(self.job.key, *facts))
        classifier, _ = read_classifier(parent)
        classifier.to(self.machine.device)
        started = time.perf_counter()
        if not checkpoint.saved:
            checkpoint.beside = self._spread(classifier, given)
        spreading = time.perf_counter() - started
        spread = checkpoint.beside["rows"], checkpoint.beside["labels"]
        check = LeaveOneOut(*checkpoint.beside["check"].tolist())
        if not len(spread[0]):
            shutil.copyfile(parent, file)
            bar.skip(images_of(self.settings))
            return Result(check, 0, 0.0, spreading, peak_memory_mb())
        labelled = Labelled(
            self.pool, torch.cat([rows, spread[0]]), torch.cat([given.labels, spread[1]]), given=len(rows)
        )
        settings = self.settings
        seconds = finetuning.finetune(
            f"{self.job.method} {student}", classifier, labelled, schedule_of(settings),
            settings.finetune.recipe[self.job.method],
            partial(random_views, strengths=settings.views.presets[settings.views.finetune]),
            self.machine, student.stream, bar, checkpoint, stage="distil",
        )  # fmt: skip
        write_classifier(file, classifier, self.classes)
        return Result(check, len(spread[0]), seconds, spreading, peak_memory_mb())

    def _spread(self, classifier: Classifier, given: Labelled) -> dict[str, Tensor]:
        """The check, and rows and labels of the images that a label reaches; none if that does not help."""
        rows = graph_rows(given.rows, len(self.pool), self.settings.distil.images)
        features = torch.cat([self._features(classifier, part) for part in rows.split(PART)])
        propagation = Propagation(features, given.labels, len(self.classes))
        check = propagation.leave_one_out()
        labels = propagation.labels()
        reached = labels >= 0
        reached[: len(given)] = False
        if not check.helps:
            reached[:] = False
        return {
            "check": torch.tensor([check.graph, check.nearest, check.labels]),
            "rows": rows[reached],
            "labels": labels[reached],
        }

    def _features(self, classifier: Classifier, rows: Tensor) -> Tensor:
        """The features (n, D) of images of the pool."""
        return encode(classifier.encoder, as_tensor(self.pool[rows.numpy()]), self.machine)


def images_of(settings: Params) -> int:
    """How many images the training of a draw sees."""
    schedule = schedule_of(settings)
    return finetuning.steps_for(0, schedule) * schedule.batch_size
