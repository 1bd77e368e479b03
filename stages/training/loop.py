"""The training loop: batch, loss, optimiser step, training curve, checkpoint.

It trains a `Task`, which has a loss for the items of a batch; the loop knows neither images nor labels. The
items and the random numbers of a step depend only on the training's stream and the step's number. A
training that is interrupted and resumed therefore ends with the same bytes as one that is not.
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

Row = dict[str, Any]  # one row of a training curve


class Task(nn.Module):
    """What is trained: a module whose parameters are optimised, with a loss for a batch of items."""

    def loss(self, items: Tensor, stream: Stream) -> Tensor:
        """The loss of a batch, a scalar.

        Args:
            items: (batch size,) int64, the numbers of the items in the batch.
            stream: the random numbers of this step.
        """
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """Called after each optimiser step, for example to update a teacher.

        Args:
            progress: the fraction of the steps that are done, in (0, 1].
        """


class Watch:
    """Decides when the training curve gets a row, and adds columns to it.

    This class adds a row every 20 steps and no columns. At each row the loop checks that the losses are
    finite.

    Args:
        text: shown beside the progress bar.
    """

    every = 20

    def __init__(self, text: str = "") -> None:
        self.text = text

    def due(self, step: int) -> bool:
        """Whether the curve gets a row after `step` steps; the last step always gets one."""
        return step % self.every == 0

    def look(self, row: Row) -> None:
        """Examine the model and add columns to a row, which has step, loss and learning_rate."""

    def note(self, curve: list[Row]) -> str:
        """The text beside the progress bar."""
        return self.text


@dataclass(frozen=True)
class Length:
    """How long a training is.

    Attributes:
        steps: number of optimiser steps, at least 1.
        batch_size: items per step.
        warmup: the fraction of the steps during which the learning rate rises.
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
    """Minimise the task's loss. The task is trained in place.

    Args:
        title: names the training in messages.
        task: on the machine's device.
        items: number of items to train on.
        optimiser: its groups have their peak rate in `peak` (`optimisation.decayed_groups`).
        stream: the random numbers of this training.
        bar: advanced by the items of each step.
        watch: decides when the training curve gets a row, and adds columns.
        checkpoint: where the state is saved from time to time, and restored from at the start; None: nowhere.

    Returns:
        The training curve and the seconds spent in training steps; both include the part before an
        interruption. A row of the curve has step, loss (the mean since the previous row; None at step 0),
        learning_rate, and the columns of `watch`.

    Raises:
        InputError: a loss or a weight is NaN or infinite; the message names the step.
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
        batch = optimisation.batch_indices(step, batch_size, items, stream.at("order"))
        factor = optimisation.warmup_cosine(step, steps, length.warmup)
        optimisation.set_rates(optimiser, factor)
        loss = task.loss(batch, stream.at("step", step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        done = step + 1
        task.after_step(done / steps)
        losses.append(loss.detach())
        bar.advance(batch_size, note)

        if watch.due(done) or done == steps:
            mean = optimisation.finite_mean(title, losses, done, _as_text(curve[-1]))
            losses.clear()
            seconds += time.perf_counter() - started
            rate = factor * peak_rate(optimiser.param_groups)
            row = {"step": done, "loss": round(mean, 5), "learning_rate": float(f"{rate:.4g}")}
            watch.look(row)
            curve.append(row)
            note = watch.note(curve)
            started = time.perf_counter()
            task.train()  # `watch` may have left the model in evaluation mode
        if checkpoint and (done == steps or checkpoint.due()):
            seconds += time.perf_counter() - started
            facts = {"step": done, "curve": curve, "seconds": seconds}
            checkpoint.write(facts, task, optimiser if done < steps else None, losses)
            started = time.perf_counter()
    optimisation.require_finite(title, task)
    return curve, seconds


def peak_rate(groups: Iterable[dict[str, Any]]) -> float:
    """The peak learning rate of the first parameter group."""
    return float(next(iter(groups))["peak"])


def _as_text(row: Row) -> str:
    return ", ".join(f"{key} {value}" for key, value in row.items() if value is not None)
