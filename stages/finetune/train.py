"""Finetuning one classifier on the labels of one draw."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from stages import optimisation, probe, views
from stages.artifacts import pixels
from stages.encoders import Classifier, Encoder
from stages.randomness import Stream
from stages.runtime import Bar, Machine
from stages.sections import Recipe, Schedule, Views


def steps_for(labelled: int, schedule: Schedule) -> int:
    """How many steps a budget gets: `schedule.steps`, or `schedule.epochs` passes where that is more."""
    return max(schedule.steps, math.ceil(schedule.epochs * labelled / schedule.batch_size))


def start(
    encoder: Encoder,
    images: Tensor,
    labels: Tensor,
    classes: int,
    recipe: Recipe,
    l2: float,
    machine: Machine,
) -> Classifier:
    """The classifier that finetuning starts from: its head at zero, or at the linear probe.

    Starting from the optimal linear head keeps the features intact while the head is still
    learning; from few labels plain finetuning distorts them (Kumar et al. 2022, arXiv:2202.10054).

    Args:
        encoder: on the machine's device.
        images: (n, C, H, W) uint8; labels: (n,) int64.
        l2: the linear probe's prior.
    """
    classifier = Classifier(encoder, classes).to(machine.device)
    if recipe.head == "probe":
        features = probe.encode(encoder, images, machine)
        classifier.head = probe.fit_linear(features, labels.to(machine.device), classes, l2)
    return classifier


def finetune(
    title: str,
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    schedule: Schedule,
    recipe: Recipe,
    strengths: Views,
    machine: Machine,
    stream: Stream,
    bar: Bar,
) -> None:
    """Train encoder and head together on augmented labelled images, in place.

    The objective is cross-entropy with decoupled weight decay, under AdamW with warm-up and a
    cosine to zero; encoder and head have learning rates of their own. There is no early stopping:
    it would need more labels than the budget has.

    Args:
        title: names the model in the progress bar and in errors.
        classifier: an encoder with its head, on the machine's device.
        images: (n, C, H, W) uint8; labels: (n,) int64.
        stream: the same for every method, so that all see the same views in the same order.
        bar: advanced by the images of each step.

    Raises:
        InputError: the loss is no longer finite; names the step.
    """
    optimiser = optimisation.adamw(
        [
            *optimisation.decayed_groups(
                classifier.encoder, recipe.encoder_learning_rate, recipe.weight_decay
            ),
            *optimisation.decayed_groups(classifier.head, recipe.head_learning_rate, recipe.weight_decay),
        ]
    )
    steps = steps_for(len(images), schedule)
    positions = torch.arange(schedule.batch_size, device=machine.device)
    losses: list[Tensor] = []
    last = "none"
    classifier.train()
    for step in range(steps):
        rows = optimisation.batch_indices(step, schedule.batch_size, len(images), stream.at("order"))
        batch = pixels(images[rows], machine.device)
        batch = views.augment(batch, positions, strengths, stream.at("step", step))
        optimisation.set_rates(optimiser, optimisation.warmup_cosine(step, steps, schedule.warmup))
        with machine.autocast():
            logits = classifier(batch)
        loss = F.cross_entropy(logits.float(), labels[rows].to(machine.device))
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
    optimisation.require_finite(f"finetune {title}", classifier)
