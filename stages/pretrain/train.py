"""The one training loop that serves every method."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from stages import optimisation
from stages.artifacts import as_tensor, pixels
from stages.checkpoint import Checkpoint
from stages.errors import InputError
from stages.pretrain.learner import Learner
from stages.randomness import Stream
from stages.runtime import Machine, progress
from stages.sections import Training

CURVE_POINTS = 100  # rows of the training curve, so that it stays small in git
LOOKS = 20  # at the encoder's health in the whole run, beside those at the epochs' ends

Watch = Callable[[int, float | None, bool], dict[str, Any]]  # step, loss, at an epoch's end


def train(
    title: str,
    method: Learner,
    images: np.ndarray,
    params: Training,
    machine: Machine,
    stream: Stream,
    watch: Watch,
    kept: Checkpoint | None = None,
) -> tuple[list[dict[str, Any]], float]:
    """Minimise the method's loss over `params.epochs` passes through the images.

    Args:
        title: shown beside the progress bar.
        method: takes (images, positions, stream) and returns a loss; holds the encoder.
        images: the pool, uint8 (N, C, H, W); only the rows of a batch are read at a time.
        params: length, batch size, rate, decay, warm-up (a fraction of all steps).
        stream: the randomness of this run; step k draws the same, whatever ran before it.
        watch: called at the start, at the end of each epoch and LOOKS times in all between; what it
            returns becomes columns of the curve.
        kept: where the state is written now and then, and taken up from if something is there; None: nowhere.

    Returns:
        The curve, one row per point: step, epoch, loss (mean since the last row), learning_rate and
        what `watch` saw, where it looked; and the seconds spent in training steps.

    Raises:
        InputError: the batch is larger than the pool, or the loss is no longer finite.
    """
    n, batch_size = len(images), params.batch_size
    if batch_size > n:
        raise InputError(
            f"params.yaml: pretrain.{title}.batch_size is {batch_size}; "
            f"allowed: at most the pool's {n} images"
        )
    per_epoch = n // batch_size
    steps = params.epochs * per_epoch
    every = max(1, math.ceil(steps / CURVE_POINTS))
    groups = optimisation.decayed_groups(method, params.learning_rate, params.weight_decay)
    optimiser = optimisation.adamw(groups, method.betas)
    positions = torch.arange(batch_size, device=machine.device)
    curve: list[dict[str, Any]]
    losses: list[torch.Tensor] = []
    if kept and kept.saved:
        losses += kept.saved.restore(method, optimiser)
        start, curve, seconds = (kept.saved.facts[name] for name in ("step", "curve", "seconds"))
        print(f"pretrain {title}: resumed at step {start:,} of {steps:,}", flush=True)
    else:
        start, seconds = 0, 0.0
        curve = [{"step": 0, "epoch": 0.0, "loss": None, "learning_rate": 0.0, **watch(0, None, True)}]
    note = _note(curve)
    with progress(f"pretrain {title}", (steps - start) * batch_size) as bar:
        started = time.perf_counter()
        method.train()
        for step in range(start, steps):
            rows = optimisation.batch_indices(step, batch_size, n, stream.at("order"))
            batch = pixels(as_tensor(images[rows.numpy()]), machine.device)
            factor = optimisation.warmup_cosine(step, steps, params.warmup)
            optimisation.set_rates(optimiser, factor)
            with machine.autocast():
                loss = method(batch, positions, stream.at("step", step))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            method.after_step((step + 1) / steps)
            losses.append(loss.detach())
            bar.advance(batch_size, note)

            done, at_epoch = step + 1, (step + 1) % per_epoch == 0
            if done % every == 0 or at_epoch or done == steps:
                last = ", ".join(f"{key} {value}" for key, value in curve[-1].items() if value is not None)
                mean = optimisation.finite_mean(f"pretrain {title}", losses, done, last)
                losses.clear()
                seconds += time.perf_counter() - started
                curve.append(
                    {
                        "step": done,
                        "epoch": round(done / per_epoch, 3),
                        "loss": round(mean, 5),
                        "learning_rate": float(f"{factor * params.learning_rate:.4g}"),
                    }
                )
                if at_epoch or len(curve) % (CURVE_POINTS // LOOKS) == 0:
                    curve[-1] |= watch(done, curve[-1]["loss"], at_epoch)
                note = _note(curve)
                started = time.perf_counter()
                method.train()
            if kept and (done == steps or kept.due()):
                seconds += time.perf_counter() - started
                facts = {"step": done, "curve": curve, "seconds": seconds}
                kept.write(facts, method, optimiser if done < steps else None, losses)
                started = time.perf_counter()
    optimisation.require_finite(f"pretrain {title}", method)
    return curve, seconds


def _note(curve: list[dict[str, Any]]) -> str:
    """What stands beside the progress bar: the last loss and the last kNN accuracy."""
    loss = math.nan if curve[-1]["loss"] is None else curve[-1]["loss"]
    knn = [row["knn"] for row in curve if row.get("knn") is not None]
    return f"loss {loss:.3f}" + (f"  kNN {knn[-1]:.1%}" if knn else "")
