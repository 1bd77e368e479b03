"""Headstart itself, with the training loop of the stage `pretrain`."""

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

SETTINGS = [Setting(workers=0, precision="auto", views="batch")]  # that of params.yaml: nothing is tried


def build(encoder: Encoder, recipe: Recipe, machine: Machine) -> simclr.Method:
    """The learner of SimCLR with the recipe and the views of params.yaml."""
    settings = recipe.settings
    views = settings.views.presets[settings.views.pretrain]
    stream = Stream.of(settings.seeds.training, "pretrain")
    learner = build_learner("simclr", encoder, settings.pretrain["simclr"], views, stream)
    return cast(simclr.Method, learner)


def loss_of(learner: simclr.Method, both: Tensor) -> Tensor:
    """The loss of two views of each image, (2N, C, H, W): first all first views, then all second ones."""
    first, second = learner.projector(learner.encoder(both)).float().chunk(2)
    return nt_xent(first, second, learner.params.temperature)


class Clocked(Learner):
    """A learner that ticks a clock after each step, and raises `Finished` after the last."""

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
    """Train for `steps` steps with the loop of the pipeline, or until the clock stops it."""
    machine = set_up(recipe.runtime(setting.precision), recipe.settings.runtime.threads.pretrain)
    learner = Clocked(build(encoder.to(machine.device), recipe, machine), clock)
    section = recipe.settings.pretrain["simclr"].model_copy(update={"images": 1, "steps": steps})
    stream = Stream.of(recipe.settings.seeds.training, "pretrain", "simclr")
    with suppress(Finished):
        train("simclr", learner, pool, section, machine, stream, lambda *_: {})
