"""What the contenders share: the recipe, the clock, the digits as a dataset of single images."""

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
    """What a contender may choose: the loader's workers, the number format, where views are made.

    views: "image" (one by one, in the loader) or "batch" (the whole batch at once).
    """

    workers: int
    precision: str
    views: str = "image"


@dataclass(frozen=True)
class Recipe:
    """What is the same for every contender: it is that of `pretrain.simclr` in params.yaml."""

    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup: float
    projector_hidden: int
    projector_output: int
    settings: Params

    @staticmethod
    def of(settings: Params) -> "Recipe":
        section = settings.pretrain["simclr"]
        names = [field.name for field in fields(Recipe) if field.name != "settings"]
        return Recipe(**{name: getattr(section, name) for name in names}, settings=settings)

    def runtime(self, precision: str) -> Runtime:
        """Device and threads of params.yaml, with another number format."""
        return self.settings.runtime.model_copy(update={"precision": precision})


class Finished(Exception):  # noqa: N818 – nothing went wrong
    """The clock says stop, in a loop that cannot be told otherwise."""


class Clock:
    """Counts a contender's optimiser steps, and says when it is to stop.

    Args:
        warmup: the first steps, before the time runs: they start workers and plan kernels.
        steps: stop after so many more.
        limit: stop after so many seconds, if it comes first.
    """

    def __init__(self, warmup: int, steps: int, limit: float | None = None) -> None:
        self.warmup, self.limit = warmup, limit
        self.total = warmup + steps
        self.ticks = 0
        self.started = self.ended = 0.0

    def tick(self) -> bool:
        """One step is done; whether it was the last one."""
        self.ticks += 1
        self.ended = time.perf_counter()
        if self.ticks == self.warmup:
            self.started = self.ended
        late = self.limit is not None and self.ticks > self.warmup and self.seconds >= self.limit
        return self.ticks >= self.total or late

    @property
    def steps(self) -> int:
        """How many steps were timed."""
        return self.ticks - self.warmup

    @property
    def seconds(self) -> float:
        """How long they took."""
        return self.ended - self.started


@contextmanager
def watched(clock: Clock) -> Iterator[None]:
    """Tick the clock after every optimiser step in the context, whoever takes it, until it says stop."""

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
    """The pool as single PIL images, held in memory: the best that a per-image loader can ask for.

    The label is always 0: nothing reads it.
    """

    def __init__(self, pool: np.ndarray) -> None:
        self.images = np.array(pool[:, 0])  # (N, H, W) uint8
        self.transform: Any = None

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """One image, transformed, and 0."""
        image = Image.fromarray(self.images[index])
        return (self.transform(image) if self.transform is not None else image), 0
