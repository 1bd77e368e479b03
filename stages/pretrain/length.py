"""How long a pretraining is: images seen, with a floor in steps; the passes follow from the pool."""

import math

from stages.errors import InputError
from stages.settings.schema import Training
from stages.training.loop import Length


def length_of(method: str, params: Training, pool: int) -> Length:
    """The steps of a pretraining on `pool` images, and the images of each step.

    They do not depend on the size of the pool: a small one is passed through more often.
    A batch has no more images than the pool: an image beside itself would be its own negative example.

    Raises:
        InputError: the pool has too few images for the method's loss.
    """
    if pool < params.smallest_batch:
        raise InputError(
            f"pretrain {method}: the pool has {pool} image(s); allowed: at least {params.smallest_batch}"
        )
    batch_size = min(params.batch_size, pool)
    return Length(max(math.ceil(params.images / batch_size), params.steps), batch_size, params.warmup)


def passes(length: Length, pool: int) -> float:
    """How often a training sees each image of the pool, on average."""
    return length.steps * length.batch_size / pool


def as_text(length: Length, pool: int) -> str:
    """A length in words: "1,562 steps of 128 images: 29 passes through 6,800 images"."""
    number = passes(length, pool)
    times = f"{number:,.0f} passes" if number >= 10 else f"{number:.1f} passes"
    return f"{length.steps:,} steps of {length.batch_size} images: {times} through {pool:,} images"
