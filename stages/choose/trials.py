"""The trials of choose@METHOD, side by side in workers: a candidate is trained on a split and scored."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from stages.choose.splits import Split
from stages.files import weights
from stages.files.packs import read_pack
from stages.files.paths import IMAGES, encoder_file
from stages.images.tensors import as_tensor
from stages.settings.recipes import Recipe, Schedule
from stages.tasks import finetuning
from stages.tasks.classifier import Classifier, probabilities
from stages.tasks.scores import balanced_accuracy
from stages.tasks.trainer import Cost, Trainer
from stages.training.machine import peak_memory_mb
from stages.training.optimisation import DivergedError
from stages.training.progress import Bar

RUN = 0  # the pretraining run whose encoder is tried


@dataclass(frozen=True)
class Trial:
    """A candidate on a split.

    Attributes:
        recipe: the candidate.
        schedule: of the training, with its length in `steps`.
    """

    split: Split
    recipe: Recipe
    schedule: Schedule

    @staticmethod
    def of(split: Split, recipe: Recipe, schedule: Schedule, length: float) -> "Trial":
        """A trial with a fraction, `length`, of finetuning's steps."""
        steps = math.ceil(length * finetuning.steps_for(split.labels, schedule))
        return Trial(split, recipe, schedule.model_copy(update={"steps": steps, "epochs": 0}))

    def __str__(self) -> str:
        """Its name in files."""
        recipe = self.recipe
        knobs = f"{recipe.encoder_learning_rate:g}-{recipe.weight_decay:g}"
        return f"{self.split}-{self.schedule.steps}x{self.schedule.batch_size}-{knobs}"

    @property
    def images(self) -> int:
        """How many images the training sees; a frozen encoder is not trained."""
        return 0 if self.recipe.frozen else self.schedule.steps * self.schedule.batch_size


@dataclass(frozen=True)
class Scored(Cost):
    """A candidate's result on a split.

    Attributes:
        correct: (k,) bool, for each held image.
    """

    correct: np.ndarray


def accuracy_of(budget: str, trials: Sequence[Trial], results: Sequence[Scored]) -> np.ndarray | None:
    """The accuracy of each candidate on all splits of a budget together, (C,); None: it has no split.

    It is the balanced accuracy, because draws are balanced: which class a model leans to is then chance, and
    where one class is much more frequent than the others, plain accuracy would mostly measure that.
    """
    parts: dict[Recipe, list[tuple[np.ndarray, np.ndarray]]] = {}
    for trial, result in zip(trials, results, strict=True):
        if trial.split.budget == budget:
            parts.setdefault(trial.recipe, []).append((result.correct, trial.split.held_labels))
    if not parts:
        return None
    return np.array(
        [balanced_accuracy(*map(np.concatenate, zip(*pairs, strict=True))) for pairs in parts.values()]
    )


class Judge(Trainer):
    """Trains one candidate after another and counts on which held images it is right."""

    def judge(self, trial: Trial, bar: Bar) -> Scored:
        """Train and score a candidate."""
        split, file = trial.split, encoder_file(self.job.method, RUN)
        labelled = self.given(torch.from_numpy(split.rows))
        pack = self.pool if split.fold is not None else read_pack(IMAGES / "validation.npy")
        held = pack[split.held]
        checkpoint = self.checkpoint(
            str(trial), split.stream.key, weights.read_digest(file), split.rows.tolist(),
            labelled.labels.tolist(), split.pack, split.held.tolist(), split.held_labels.tolist(),
            hashlib.sha256(held.tobytes()).hexdigest(),
            trial.recipe.model_dump(), trial.schedule.model_dump(),
        )  # fmt: skip
        if checkpoint.saved and "correct" in checkpoint.beside:
            bar.skip(trial.images)
            seconds = checkpoint.saved.facts["seconds"]
            return Scored(seconds, peak_memory_mb(), checkpoint.beside["correct"].numpy())
        encoder = weights.read_encoder(file).to(self.machine.device)
        classifier, seconds = Classifier(encoder, len(self.classes)).to(self.machine.device), 0.0
        if not checkpoint.saved:
            most = len(labelled) if trial.recipe.frozen else finetuning.PROBE_IMAGES
            classifier = finetuning.initial_classifier(
                encoder, labelled, len(self.classes), self.settings.probe.l2, self.machine, most
            )
        if not trial.recipe.frozen:
            try:
                seconds = self.train(
                    str(split), classifier, labelled, trial.schedule, trial.recipe, split.stream, bar,
                    checkpoint,
                )  # fmt: skip
            except DivergedError as error:
                # A rate that is too high for this encoder is a candidate like another: it is never right.
                print(f"{error}; this candidate is not chosen", flush=True)
                return Scored(0.0, peak_memory_mb(), np.zeros(len(split.held), bool))
        predicted = probabilities(classifier, as_tensor(held), self.machine).argmax(1).cpu()
        correct = predicted == torch.from_numpy(split.held_labels)
        # The score alone is needed from now on, not the model.
        checkpoint.beside = {"correct": correct}
        checkpoint.write({"seconds": seconds}, nn.Module(), None, [])
        return Scored(seconds, peak_memory_mb(), correct.numpy())
