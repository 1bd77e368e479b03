"""The compute limit: Headstart's training step on two constant views, without loading or augmentation."""

import numpy as np

from benchmarks.contenders import headstart
from benchmarks.contenders.common import Clock, Recipe, Setting
from stages.images.tensors import as_tensor, pixels
from stages.networks.encoder import Encoder
from stages.training import optimisation
from stages.training.machine import set_up

SETTINGS = headstart.SETTINGS


def pretrain(
    encoder: Encoder, pool: np.ndarray, recipe: Recipe, setting: Setting, steps: int, clock: Clock
) -> None:
    """Train for `steps` steps on the same batch: forward, backward, update."""
    machine = set_up(recipe.runtime(setting.precision), recipe.settings.runtime.threads.pretrain)
    learner = headstart.build(encoder.to(machine.device), recipe, machine)
    groups = optimisation.decayed_groups(learner, recipe.learning_rate, recipe.weight_decay)
    optimiser = optimisation.adamw(groups)
    both = pixels(as_tensor(pool[: recipe.batch_size]), machine.device).repeat(2, 1, 1, 1)
    learner.train()
    for _ in range(steps):
        with machine.autocast():
            loss = headstart.loss_of(learner, both)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if clock.tick():
            return
