"""The one training loop: batch, loss, step, checkpoint, watch.

What is trained is a `Task`: a module with a loss for the items of a batch. The loop knows neither images nor
labels. Step k draws the same items and the same random numbers, whatever ran before it.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stages.training import optimisation
from stages.training.checkpoint import Checkpoint
from stages.training.progress import Bar
from stages.training.randomness import Stream

Row = dict[str, Any]  # one point of a training curve


class Task(nn.Module):
    """Something to train: its parameters are the module's, its loss is that of some of its items."""

    def loss(self, items: Tensor, stream: Stream) -> Tensor:
        """The loss of a batch, a scalar.

        Args:
            items: (batch size,) int64, which items are in the batch.
            stream: the random numbers of this step.
        """
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """What follows an optimiser step, such as moving a teacher; progress rises to 1."""


class Watch:
    """Watches a training. This one checks every 20 steps that the loss is finite."""

    every = 20

    def __init__(self, text: str = "") -> None:
        self.text = text  # what stands beside the progress bar

    def due(self, step: int) -> bool:
        """Whether a row of the curve is due after so many steps; the last step always has one."""
        return step % self.every == 0

    def look(self, row: Row) -> None:
        """Look at the model, and add columns to a row that has step, loss and learning_rate."""

    def note(self, curve: list[Row]) -> str:
        """The text beside the progress bar."""
        return self.text


@dataclass(frozen=True)
class Length:
    """How long a training is.

    Attributes:
        steps: optimiser steps, at least 1.
        batch_size: items of a step.
        warmup: the fraction of the steps in which the learning rate rises.
    """

    steps: int
    batch_size: int
    warmup: float


def train(
    title: str,
    task: Task,
    items: int,
    length: Length,
    optimiser: torch.optim.Optimizer,
    stream: Stream,
    bar: Bar,
    watch: Watch | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[list[Row], float]:
    """Minimise the task's loss, in place.

    Args:
        title: names the training in messages.
        task: on the machine's device.
        items: how many there are.
        optimiser: its groups have their peak rate in `peak` (`optimisation.decayed_groups`).
        stream: the random numbers of this training.
        bar: advanced by the items of each step.
        watch: adds columns to the training curve.
        checkpoint: the state is written there from time to time, and taken up from there; None: nowhere.

    Returns:
        The training curve, one row per point: step, loss (the mean since the row before; None at step 0),
        learning_rate, and what `watch` adds. And the seconds spent in training steps, those before an
        interruption included.

    Raises:
        InputError: the loss is no longer finite; names the step.
    """
    watch = watch or Watch()
    steps, batch_size = length.steps, length.batch_size
    losses: list[Tensor] = []
    if checkpoint and checkpoint.saved:
        losses += checkpoint.saved.restore(task, optimiser)
        start, curve, seconds = (checkpoint.saved.facts[name] for name in ("step", "curve", "seconds"))
        bar.skip(start * batch_size)
        print(f"{title}: resumed at step {start:,} of {steps:,}", flush=True)
    else:
        start, seconds = 0, 0.0
        curve = [{"step": 0, "loss": None, "learning_rate": 0.0}]
        watch.look(curve[0])
    note = watch.note(curve)
    started = time.perf_counter()
    task.train()
    for step in range(start, steps):
        chosen = optimisation.batch_indices(step, batch_size, items, stream.at("order"))
        factor = optimisation.warmup_cosine(step, steps, length.warmup)
        optimisation.set_rates(optimiser, factor)
        loss = task.loss(chosen, stream.at("step", step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        done = step + 1
        task.after_step(done / steps)
        losses.append(loss.detach())
        bar.advance(batch_size, note)

        if watch.due(done) or done == steps:
            mean = optimisation.finite_mean(title, losses, done, _figures(curve[-1]))
            losses.clear()
            seconds += time.perf_counter() - started
            rate = factor * peak_rate(optimiser.param_groups)
            row = {"step": done, "loss": round(mean, 5), "learning_rate": float(f"{rate:.4g}")}
            watch.look(row)
            curve.append(row)
            note = watch.note(curve)
            started = time.perf_counter()
            task.train()
        if checkpoint and (done == steps or checkpoint.due()):
            seconds += time.perf_counter() - started
            facts = {"step": done, "curve": curve, "seconds": seconds}
            checkpoint.write(facts, task, optimiser if done < steps else None, losses)
            started = time.perf_counter()
    optimisation.require_finite(title, task)
    return curve, seconds


def peak_rate(groups: Iterable[dict[str, Any]]) -> float:
    """The learning rate of the first parameter group at its peak."""
    return float(next(iter(groups))["peak"])


def _figures(row: Row) -> str:
    return ", ".join(f"{key} {value}" for key, value in row.items() if value is not None)
