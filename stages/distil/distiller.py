"""What distil@METHOD does with one draw: spread its labels over the pool, and train on all of them.

The training goes on from the finetuned model of the draw. It is short, because that model has learnt the
given labels already, and its views, rates and batches are those of finetuning.
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.distil.propagation import LeaveOneOut, Propagation
from stages.files import weights
from stages.files.paths import CLASSIFIERS
from stages.images.tensors import as_tensor
from stages.settings.recipes import Recipe, Schedule
from stages.settings.schema import Params
from stages.tasks.classifier import Classifier, read_classifier, write_classifier
from stages.tasks.confirmation import Compared
from stages.tasks.features import encode
from stages.tasks.finetuning import Labelled, steps_for
from stages.tasks.model_index import Model
from stages.tasks.trainer import Cost, Trainer
from stages.training.machine import peak_memory_mb
from stages.training.progress import Bar
from stages.training.randomness import Stream

PART = 1024  # images that are read and encoded at once


@dataclass(frozen=True)
class Student:
    """A model to make from a finetuned one.

    Attributes:
        parent: the finetuned model, whose file name the new one takes over.
        rows: (n,) int64, rows of the pool: the images with the labels of the parent's draw.
        groups: (n,) int64, the group of each.
        recipe: that of the parent. Where it leaves the encoder frozen, so does the student's.
        stream: the random numbers of the training, the same for every method.
    """

    parent: Model
    rows: np.ndarray
    groups: np.ndarray
    recipe: Recipe
    stream: Stream

    def __str__(self) -> str:
        """The name in files and messages, such as `n100-draw0`."""
        return Path(self.parent.file).stem

    def images(self, settings: Params) -> int:
        """How many images the training sees; a frozen encoder is not trained."""
        schedule = schedule_of(settings)
        return 0 if self.recipe.frozen else steps_for(0, schedule) * schedule.batch_size


@dataclass(frozen=True)
class Result(Cost):
    """What was done with a draw, and what it took.

    Attributes:
        check: how many given labels are found without themselves.
        images: images beside the given ones to which a label was spread; 0: the finetuned model stays.
        spreading: seconds in which labels were spread.
        compared: the model and the finetuned one, on validation; None: they were not compared.
    """

    check: LeaveOneOut
    images: int
    spreading: float
    compared: Compared | None = None


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


class Distiller(Trainer):
    """Makes one model after another from the finetuned models of a method."""

    def distil(self, student: Student, bar: Bar) -> Result:
        """Spread the labels of one draw, train on them if that helps, and write the model's file."""
        parent, file = parent_file(self.job.method, student.parent), self.job.folder / student.parent.file
        given = self.given(torch.from_numpy(student.rows))
        checkpoint = self.checkpoint(
            str(student), student.stream.key, weights.read_digest(parent), student.rows.tolist(),
            given.labels.tolist(), student.recipe.model_dump(),
        )  # fmt: skip
        classifier, _ = read_classifier(parent)
        classifier.to(self.machine.device)
        started = time.perf_counter()
        if not checkpoint.saved:
            checkpoint.beside = self._spread(classifier, given, torch.from_numpy(student.groups))
        spreading = time.perf_counter() - started
        spread = checkpoint.beside["rows"], checkpoint.beside["labels"]
        check = LeaveOneOut(*checkpoint.beside["check"].tolist())
        if not len(spread[0]):
            shutil.copyfile(parent, file)
            bar.skip(student.images(self.settings))
            return Result(0.0, peak_memory_mb(), check, 0, spreading)
        labelled = Labelled(
            self.pool, torch.cat([given.rows, spread[0]]), torch.cat([given.labels, spread[1]]), len(given),
            self.large,
        )  # fmt: skip
        seconds = 0.0
        if student.recipe.frozen:
            classifier = self.probe(classifier.encoder, labelled)
        else:
            seconds = self.train(
                str(student), classifier, labelled, schedule_of(self.settings), student.recipe,
                student.stream, bar, checkpoint,
            )  # fmt: skip
        write_classifier(file, classifier, self.classes)
        compared = None
        if self.validation is not None:
            compared = self.compare(classifier, read_classifier(parent)[0].to(self.machine.device))
        return Result(seconds, peak_memory_mb(), check, len(spread[0]), spreading, compared)

    def _spread(self, classifier: Classifier, given: Labelled, groups: Tensor) -> dict[str, Tensor]:
        """The check, and rows and labels of the images that a label reaches; none if that does not help."""
        rows = graph_rows(given.rows, len(self.pool), self.settings.distil.images)
        features = torch.cat([self._features(classifier, part) for part in rows.split(PART)])
        propagation = Propagation(features, given.labels, len(self.classes))
        check = propagation.leave_one_out(groups)
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


def parent_file(method: str, parent: Model) -> Path:
    """The file of a finetuned model."""
    return CLASSIFIERS / method / parent.file
