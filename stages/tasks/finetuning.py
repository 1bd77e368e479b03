"""Training one classifier on labelled images: the labels of a draw, and labels spread from them."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from stages.images.tensors import as_tensor, pixels
from stages.networks.encoder import Encoder
from stages.settings.recipes import Recipe, Schedule
from stages.tasks.classifier import Classifier, class_weights, classification_loss
from stages.tasks.features import encode_rows
from stages.tasks.probe import fit_linear
from stages.training import loop, optimisation
from stages.training.checkpoint import Checkpoint
from stages.training.machine import Machine
from stages.training.progress import Bar
from stages.training.randomness import Stream

PROBE_IMAGES = 8192  # for the initial head at most; more would hardly improve it


class RandomViews(Protocol):
    """Draws a random view of each image of a batch. What a view is, a task does not know."""

    def __call__(self, images: Tensor, positions: Tensor, *, stream: Stream, side: int) -> Tensor:
        """Views (N, C, side, side) of images (N, C, H, W) in [0, 1], at positions (N,) of the batch."""


@dataclass(frozen=True)
class Labelled:
    """Images of a pack with one label each; images are read batch by batch.

    Attributes:
        pack: uint8 (N, C, H, W), memory-mapped.
        rows: (n,) int64, of the pack.
        labels: (n,) int64.
        given: how many of the labels are in the budget; the others were spread from them. The length of the
            training depends only on `given`.
        large: the images of the pack with more pixels, for views; None: there are none.
    """

    pack: np.ndarray
    rows: Tensor
    labels: Tensor
    given: int
    large: np.ndarray | None = None

    def __len__(self) -> int:  # noqa: D105
        return len(self.rows)

    def take(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The images, uint8 (k, C, H, W), and labels, (k,), at some indices (k,)."""
        return as_tensor(self.pack[self.rows[chosen].numpy()]), self.labels[chosen]

    def take_for_views(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """`take`, with the larger images if there are any."""
        pack = self.pack if self.large is None else self.large
        return as_tensor(pack[self.rows[chosen].numpy()]), self.labels[chosen]


def steps_for(labelled: int, schedule: Schedule) -> int:
    """The number of steps for a budget: `schedule.steps`, or `schedule.epochs` epochs if that is more."""
    return max(schedule.steps, math.ceil(schedule.epochs * labelled / schedule.batch_size))


def initial_classifier(
    encoder: Encoder,
    labelled: Labelled,
    classes: int,
    l2: float,
    machine: Machine,
    most: int = PROBE_IMAGES,
) -> Classifier:
    """The classifier that finetuning starts from: the encoder with the linear probe as its head.

    With few labels, finetuning from a random head distorts the features; starting from the linear probe
    avoids it (Kumar et al. 2022, arXiv:2202.10054).

    Args:
        encoder: on the machine's device.
        l2: strength of the penalty of the linear probe.
        most: images that the probe is fitted to at most.
    """
    classifier = Classifier(encoder, classes).to(machine.device)
    stride = -(-len(labelled) // most)
    features = encode_rows(encoder, labelled.pack, labelled.rows[::stride].numpy(), machine)
    classifier.head = fit_linear(features, labelled.labels[::stride].to(machine.device), classes, l2)
    return classifier


class Finetuning(loop.Task):
    """The training of encoder and head on random views of labelled images."""

    def __init__(
        self,
        classifier: Classifier,
        labelled: Labelled,
        schedule: Schedule,
        views: RandomViews,
        machine: Machine,
    ) -> None:
        super().__init__()
        self.classifier, self.labelled, self.views, self.machine = classifier, labelled, views, machine
        self.positions = torch.arange(schedule.batch_size, device=machine.device)
        classes, balanced = classifier.head.out_features, schedule.class_weights == "balanced"
        self.class_weights = class_weights(labelled.labels, classes).to(machine.device) if balanced else None

    def loss(self, items: Tensor, stream: Stream) -> Tensor:
        images, labels = self.labelled.take_for_views(items)
        side = self.labelled.pack.shape[3]
        batch = self.views(pixels(images, self.machine.device), self.positions, stream=stream, side=side)
        with self.machine.autocast():
            logits = self.classifier(batch)
        return classification_loss(logits, labels.to(self.machine.device), self.class_weights)


def finetune(
    title: str,
    classifier: Classifier,
    labelled: Labelled,
    schedule: Schedule,
    recipe: Recipe,
    views: RandomViews,
    machine: Machine,
    stream: Stream,
    bar: Bar,
    checkpoint: Checkpoint | None = None,
    stage: str = "finetune",
) -> float:
    """Train encoder and head together on random views of labelled images, in place.

    The loss is the cross-entropy; the optimiser is AdamW with warm-up and a cosine schedule to zero. Encoder
    and head have different learning rates. There is no early stopping, because it would take labels from the
    budget.

    Args:
        title: the name of the model in the progress bar and in errors.
        classifier: on the machine's device.
        stream: the random numbers, the same for every method, so that all train on the same views in the same
            order.
        bar: advanced by the images of each step.
        checkpoint: where the state is saved and resumed from; None: nowhere.
        stage: named in messages.

    Returns:
        The seconds spent in training, including those before an interruption.

    Raises:
        InputError: the loss is not finite; names the step.
    """
    decay = recipe.weight_decay
    groups = [
        *optimisation.decayed_groups(classifier.encoder, recipe.encoder_learning_rate, decay),
        *optimisation.decayed_groups(classifier.head, recipe.head_learning_rate, decay),
    ]
    length = loop.Length(steps_for(labelled.given, schedule), schedule.batch_size, schedule.warmup)
    task = Finetuning(classifier, labelled, schedule, views, machine)
    optimiser = optimisation.adamw(groups)
    _, seconds = loop.train(
        f"{stage} {title}",
        task,
        len(labelled),
        length,
        optimiser,
        stream,
        bar,
        loop.Watch(title),
        checkpoint,
    )
    return seconds
