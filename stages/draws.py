"""Which images are labelled: the draws that all methods share, so that differences are paired."""

import torch
from torch import Tensor

from stages.errors import InputError
from stages.randomness import Stream

Budget = int | str  # a number of labelled images, or "all"


def budget_name(budget: Budget) -> str:
    """The name of a budget in files and metrics: `n100`, `nall`."""
    return f"n{budget}"


def draw_labelled(labels: Tensor, classes: int, budget: Budget, draw: int, seed: int) -> Tensor:
    """One random choice of `budget` images with equally many of each class.

    Draws are nested: the images of a small budget are among those of a larger one. What does not
    divide evenly goes to random classes.

    Args:
        labels: (N,) int64 of the pool.
        classes: how many classes there are.
        budget: a number of images, or "all": then every draw is the whole pool.
        draw: the number of the draw.
        seed: the run's seed.

    Returns:
        (budget,) int64 rows of the pool.

    Raises:
        InputError: the pool has too few images, or too few of a class; or fewer labels than classes.
    """
    if budget == "all":
        return torch.arange(len(labels))
    n = int(budget)
    if not classes <= n <= len(labels):
        raise InputError(
            f"params.yaml: finetune.budgets has {n}; allowed: 'all', or {classes} (one label a class) "
            f"to {len(labels)} (the pool)"
        )
    stream = Stream.of(seed, "labels", draw)
    extra = stream.at("extra").permutation(classes)[: n % classes].tolist()
    rarest = int(torch.bincount(labels, minlength=classes).min())
    chosen = []
    for label in range(classes):
        rows = (labels == label).nonzero()[:, 0]
        wanted = n // classes + (label in extra)
        if len(rows) < wanted:
            raise InputError(
                f"params.yaml: finetune.budgets has {n}: {wanted} images of class {label} are needed, "
                f"the pool has {len(rows)}; allowed: at most {classes * rarest}"
            )
        chosen.append(rows[stream.at("class", label).permutation(len(rows))[:wanted]])
    return torch.cat(chosen)
