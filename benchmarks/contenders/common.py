"""What all contenders use: the recipe, the clock, and the pool as a dataset of single images."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import Dataset

from stages.settings.schema import Params, Runtime


@dataclass(frozen=True)
class Setting:
    """What a contender may choose.

    Attributes:
        workers: of the data loader.
        precision: "fp32", "bf16" or "auto".
        views: how views are computed: "image" (one image at a time, in the loader) or "batch" (all at once).
    """

    workers: int
    precision: str
    views: str = "image"


@dataclass(frozen=True)
class Recipe:
    """What is the same for every contender: the values of `pretrain.simclr` in params.yaml."""

    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup: float
    projector_hidden: int
    projector_output: int
    settings: Params

    @staticmethod
    def of(settings: Params) -> "Recipe":
        """The recipe in params.yaml."""
        section = settings.pretrain["simclr"]
        names = [field.name for field in fields(Recipe) if field.name != "settings"]
        return Recipe(**{name: getattr(section, name) for name in names}, settings=settings)

    def runtime(self, precision: str) -> Runtime:
        """Device and threads of params.yaml, with another precision."""
        return self.settings.runtime.model_copy(update={"precision": precision})


class Finished(Exception):  # noqa: N818 (not an error)
    """Ends a training loop that has no other way to stop."""


class Clock:
    """Counts and times the optimiser steps of a contender, and stops it.

    Args:
        warmup: number of first steps that are not timed; they start workers and select kernels.
        steps: number of timed steps after them.
        limit: seconds after which it stops earlier; None: no limit.
    """

    def __init__(self, warmup: int, steps: int, limit: float | None = None) -> None:
        self.warmup, self.limit = warmup, limit
        self.total = warmup + steps
        self.ticks = 0
        self.started = self.ended = 0.0

    def tick(self) -> bool:
        """Count a step; returns whether it was the last one."""
        self.ticks += 1
        self.ended = time.perf_counter()
        if self.ticks == self.warmup:
            self.started = self.ended
        timed_out = self.limit is not None and self.ticks > self.warmup and self.seconds >= self.limit
        return self.ticks >= self.total or timed_out

    @property
    def steps(self) -> int:
        """The number of timed steps."""
        return self.ticks - self.warmup

    @property
    def seconds(self) -> float:
        """The duration of the timed steps."""
        return self.ended - self.started


@contextmanager
def watched(clock: Clock) -> Iterator[None]:
    """Tick the clock after every optimiser step in the context, by any optimiser; leave it after the last."""

    def tick(*step: object) -> None:
        if clock.tick():
            raise Finished

    hook = register_optimizer_step_post_hook(tick)
    try:
        with suppress(Finished):
            yield
    finally:
        hook.remove()


class Digits(Dataset[tuple[Any, int]]):
    """The pool as single PIL images, kept in memory, so that a loader spends no time on reading files.

    The label is always 0, because nothing uses it.
    """

    def __init__(self, pool: np.ndarray) -> None:
        self.images = np.array(pool[:, 0])  # (N, H, W) uint8
        self.transform: Any = None

    def __len__(self) -> int:
        """The number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """A transformed image, and 0 as its label."""
        image = Image.fromarray(self.images[index])
        return (self.transform(image) if self.transform is not None else image), 0
