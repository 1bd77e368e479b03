"""Finetuning one classifier on the labels of one draw."""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages import optimisation, probe, views
from stages.artifacts import as_tensor, pixels
from stages.checkpoint import Checkpoint
from stages.encoder import Encoder
from stages.encoders import Classifier
from stages.randomness import Stream
from stages.runtime import Bar, Machine
from stages.sections import Recipe, Schedule, Views

START_IMAGES = 8192  # more would not place the head better before the first step


@dataclass(frozen=True)
class Labelled:
    """Some images of a pack with a label each; only what a batch needs is read.

    Attributes:
        pack: uint8 (N, C, H, W), memory-mapped.
        rows: (n,) int64 of the pack; labels: (n,) int64.
        given: how many of the labels come from the budget; they set length and rate of the finetuning.
    """

    pack: np.ndarray
    rows: Tensor
    labels: Tensor
    given: int

    def __len__(self) -> int:  # noqa: D105
        return len(self.rows)

    def take(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The images, uint8 (k, C, H, W), and the labels of some of them, by their numbers (k,)."""
        return as_tensor(self.pack[self.rows[chosen].numpy()]), self.labels[chosen]


def steps_for(labelled: int, schedule: Schedule) -> int:
    """How many steps a budget gets: `schedule.steps`, or `schedule.epochs` passes where that is more."""
    return max(schedule.steps, math.ceil(schedule.epochs * labelled / schedule.batch_size))


def rate_and_decay(labelled: int, schedule: Schedule, recipe: Recipe) -> tuple[float, float]:
    """The encoder's peak rate, and the decay: few labels are easily learnt by heart, many teach more."""
    if labelled >= schedule.many:
        return recipe.encoder_learning_rate_many, recipe.weight_decay_many
    return recipe.encoder_learning_rate, recipe.weight_decay


def propagates(labelled: int, schedule: Schedule, recipe: Recipe) -> bool:
    """Whether the pool's other images take over labels: only few labelled images need that."""
    return recipe.labels == "propagated" and labelled < schedule.few


def class_weights(labels: Tensor, classes: int, schedule: Schedule, device: torch.device) -> Tensor | None:
    """The weight of each class in the loss, (classes,): none, or so that all classes count alike.

    `balanced`: n / (K · n of the class), as in G. King, L. Zeng, "Logistic Regression in Rare Events Data",
    2001; the mean over the images stays 1. A class without images gets 0.
    """
    if schedule.class_weights == "equal":
        return None
    counts = torch.bincount(labels, minlength=classes)
    return torch.where(counts > 0, len(labels) / (classes * counts.clamp_min(1)), 0.0).to(device)


def start(encoder: Encoder, labelled: Labelled, classes: int, l2: float, machine: Machine) -> Classifier:
    """The classifier that finetuning starts from: the encoder with the linear probe as its head.

    Starting from the optimal linear head keeps the features intact while the head is still
    learning; from few labels plain finetuning distorts them (Kumar et al. 2022, arXiv:2202.10054).

    Args:
        encoder: on the machine's device.
        l2: the linear probe's prior.
    """
    classifier = Classifier(encoder, classes).to(machine.device)
    every = -(-len(labelled) // START_IMAGES)
    images, labels = labelled.take(torch.arange(0, len(labelled), every))
    features = probe.encode(encoder, images, machine)
    classifier.head = probe.fit_linear(features, labels.to(machine.device), classes, l2)
    return classifier


def finetune(
    title: str,
    classifier: Classifier,
    labelled: Labelled,
    schedule: Schedule,
    recipe: Recipe,
    strengths: Views,
    machine: Machine,
    stream: Stream,
    bar: Bar,
    kept: Checkpoint | None = None,
) -> float:
    """Train encoder and head together on augmented labelled images, in place.

    The objective is cross-entropy with decoupled weight decay, under AdamW with warm-up and a
    cosine to zero; encoder and head have learning rates of their own. There is no early stopping:
    it would need more labels than the budget has.

    Args:
        title: names the model in the progress bar and in errors.
        classifier: an encoder with its head, on the machine's device.
        labelled: what is learnt.
        stream: the same for every method, so that all see the same views in the same order.
        bar: advanced by the images of each step.
        kept: where the state is written now and then, and taken up from if something is there; None: nowhere.

    Returns:
        The seconds that it took, those before an interruption included.

    Raises:
        InputError: the loss is no longer finite; names the step.
    """
    rate, decay = rate_and_decay(labelled.given, schedule, recipe)
    optimiser = optimisation.adamw(
        [
            *optimisation.decayed_groups(classifier.encoder, rate, decay),
            *optimisation.decayed_groups(classifier.head, recipe.head_learning_rate, decay),
        ]
    )
    steps = steps_for(labelled.given, schedule)
    positions = torch.arange(schedule.batch_size, device=machine.device)
    weights = class_weights(labelled.labels, classifier.head.out_features, schedule, machine.device)
    losses: list[Tensor] = []
    first, seconds, last = 0, 0.0, "none"
    if kept and kept.saved:
        losses += kept.saved.restore(classifier, optimiser)
        first, seconds, last = (kept.saved.facts[name] for name in ("step", "seconds", "last"))
        bar.skip(first * schedule.batch_size)
        print(f"finetune {title}: resumed at step {first:,} of {steps:,}", flush=True)
    started = time.perf_counter()
    classifier.train()
    for step in range(first, steps):
        rows = optimisation.batch_indices(step, schedule.batch_size, len(labelled), stream.at("order"))
        images, labels = labelled.take(rows)
        batch = pixels(images, machine.device)
        batch = views.augment(batch, positions, strengths, stream.at("step", step))
        optimisation.set_rates(optimiser, optimisation.warmup_cosine(step, steps, schedule.warmup))
        with machine.autocast():
            logits = classifier(batch)
        loss = F.cross_entropy(logits.float(), labels.to(machine.device), weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
        # The device is asked only now and then: each question waits for all that is under way.
        if step % 20 == 19 or step + 1 == steps:
            mean = optimisation.finite_mean(f"finetune {title}", losses, step + 1, last)
            losses.clear()
            last = f"loss {mean:.4f} by step {step + 1}"
        bar.advance(schedule.batch_size, title)
        done = step + 1
        if kept and (done == steps or kept.due()):
            facts = {"step": done, "seconds": seconds + time.perf_counter() - started, "last": last}
            kept.write(facts, classifier, optimiser if done < steps else None, losses)
    optimisation.require_finite(f"finetune {title}", classifier)
    return seconds + time.perf_counter() - started
