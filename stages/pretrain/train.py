"""Pretraining: train one method's learner on all images of the pool."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.images.tensors import as_tensor, pixels
from stages.pretrain.curve import Look, Record, TrainingCurve
from stages.pretrain.learner import Learner
from stages.pretrain.length import length_of
from stages.settings.schema import Training
from stages.training import loop, optimisation
from stages.training.checkpoint import Checkpoint
from stages.training.machine import Machine
from stages.training.progress import progress
from stages.training.randomness import Stream


class Pretraining(loop.Task):
    """A learner's loss on batches of the pool.

    Args:
        pool: uint8 (N, C, H, W); only the images of one batch are read at a time.
    """

    def __init__(self, learner: Learner, pool: np.ndarray, batch_size: int, machine: Machine) -> None:
        super().__init__()
        self.learner, self.pool, self.machine = learner, pool, machine
        self.positions = torch.arange(batch_size, device=machine.device)

    def loss(self, items: Tensor, stream: Stream) -> Tensor:
        batch = pixels(as_tensor(self.pool[items.numpy()]), self.machine.device)
        with self.machine.autocast():
            loss: Tensor = self.learner(batch, self.positions, stream)
        return loss

    def after_step(self, progress: float) -> None:
        self.learner.after_step(progress)


def train(
    method: str,
    learner: Learner,
    pool: np.ndarray,
    params: Training,
    machine: Machine,
    stream: Stream,
    look: Look,
    record: Record | None = None,
    checkpoint: Checkpoint | None = None,
    title: str = "",
) -> tuple[list[dict[str, Any]], float]:
    """Train for `params.images` images, and at least `params.steps` steps. The learner is trained in place.

    Args:
        method: name of the method, for messages about its parameters.
        pool: uint8 (N, C, H, W).
        stream: the random numbers of this training.
        look: called at the start, at the end and about 20 times in between; returns columns of the training
            curve.
        record: called with the rows of the curve so far at each new row; None: nothing is called.
        checkpoint: where the state is saved from time to time, and restored from at the start; None: nowhere.
        title: the name of this training in all other messages; empty: that of the method.

    Returns:
        The training curve and the seconds spent in training steps.

    Raises:
        InputError: the pool is too small, or a loss or a weight is NaN or infinite.
    """
    n, length = len(pool), length_of(method, params, len(pool))
    saved_rows = checkpoint.saved.facts["curve"] if checkpoint and checkpoint.saved else []
    curve = TrainingCurve(record, look, length.steps, length.batch_size / n, saved_rows)
    groups = optimisation.decayed_groups(learner, params.learning_rate, params.weight_decay)
    optimiser = optimisation.adamw(groups, learner.betas)
    task, title = Pretraining(learner, pool, length.batch_size, machine), f"pretrain {title or method}"
    with progress(title, length.steps * length.batch_size) as bar:
        return loop.train(title, task, n, length, optimiser, stream, bar, curve, checkpoint)
