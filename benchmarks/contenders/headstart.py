"""Headstart itself, by the way that the stage `pretrain` goes."""

import math
from contextlib import suppress
from typing import cast

import numpy as np
from torch import Tensor

from benchmarks.contenders.common import Clock, Finished, Recipe, Setting
from stages.networks.encoder import Encoder
from stages.pretrain.learner import Learner
from stages.pretrain.learner import build as build_learner
from stages.pretrain.methods import simclr
from stages.pretrain.methods.simclr import nt_xent
from stages.pretrain.train import train
from stages.training.machine import Machine, set_up
from stages.training.randomness import Stream

SETTINGS = [Setting(workers=0, precision="auto", views="batch")]  # as committed: nothing is tried


def build(encoder: Encoder, recipe: Recipe, here: Machine) -> simclr.Method:
    """The learner of the committed recipe."""
    settings = recipe.settings
    views = settings.views.presets[settings.views.pretrain]
    stream = Stream.of(settings.seed, "pretrain")
    learner = build_learner("simclr", encoder, settings.pretrain["simclr"], views, stream)
    return cast(simclr.Method, learner)


def loss_of(learner: simclr.Method, both: Tensor) -> Tensor:
    """The learner's loss of views that are there already, (2N, C, H, W)."""
    first, second = learner.projector(learner.encoder(both)).float().chunk(2)
    return nt_xent(first, second, learner.params.temperature)


class Clocked(Learner):
    """A learner that ticks a clock after each step, and raises `Finished` when it says stop."""

    def __init__(self, learner: Learner, clock: Clock) -> None:
        super().__init__()
        self.learner, self.clock = learner, clock

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        loss: Tensor = self.learner(images, positions, stream)
        return loss

    def after_step(self, progress: float) -> None:
        self.learner.after_step(progress)
        if self.clock.tick():
            raise Finished


def pretrain(
    encoder: Encoder, pool: np.ndarray, recipe: Recipe, setting: Setting, steps: int, clock: Clock
) -> None:
    """Train for `steps` steps.

    The stage counts in epochs, so the pool is cut to the images that make `steps` of whole ones.
    """
    epochs = math.ceil(steps * recipe.batch_size / len(pool))
    part = pool[: math.ceil(steps / epochs) * recipe.batch_size]
    loop(encoder, part, recipe, setting, epochs, clock)


def loop(
    encoder: Encoder, pool: np.ndarray, recipe: Recipe, setting: Setting, epochs: int, clock: Clock
) -> None:
    """The pipeline's own training loop until it ends, or until the clock stops it."""
    here = set_up(recipe.runtime(setting.precision))
    learner = Clocked(build(encoder.to(here.device), recipe, here), clock)
    section = recipe.settings.pretrain["simclr"].model_copy(update={"epochs": epochs})
    stream = Stream.of(recipe.settings.seed, "pretrain", "simclr")
    with suppress(Finished):
        train("simclr", learner, pool, section, here, stream, lambda *_look: {})
