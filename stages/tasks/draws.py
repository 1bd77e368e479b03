"""Which images are labelled: the draws that all methods share, so that differences are paired."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stages.errors import InputError
from stages.training.randomness import Stream

Budget = int | str  # a number of labelled images, or "all"


def budget_name(budget: Budget) -> str:
    """The name of a budget in files and metrics: `n100`, `nall`."""
    return f"n{budget}"


def named_budget(name: str) -> Budget:
    """The budget with a name, as above."""
    return "all" if name == budget_name("all") else int(name.removeprefix("n"))


def fitting(budgets: Sequence[Budget], labelled: int, classes: int) -> list[Budget]:
    """The budgets that there are enough labelled images for, at least one of each class; says which are not.

    A folder has as many labels as its owner has got round to: a budget appears when it has enough.

    Args:
        labelled: how many images of the pool have a label.
    """
    fit = [b for b in budgets if (labelled if b == "all" else int(b)) in range(max(classes, 1), labelled + 1)]
    if absent := [str(budget) for budget in budgets if budget not in fit]:
        print(
            f"{labelled:,} images of the pool have a label, of {classes} classes: "
            f"nothing to do for the budget {', '.join(absent)}",
            flush=True,
        )
    return fit


def draw_labelled(labels: Tensor, classes: int, budget: Budget, draw: int, seed: int) -> Tensor:
    """One random choice of `budget` images with equally many of each class.

    Draws are nested: the images of a small budget are among those of a larger one. What does not
    divide evenly goes to random classes; where a class has too few images, the others make up
    for it.

    Args:
        labels: (N,) int64 of the pool, -1 where an image has none.
        classes: how many classes there are.
        budget: a number of images, or "all": then every draw is all that have a label.
        draw: the number of the draw.
        seed: the run's seed.

    Returns:
        (budget,) int64 rows of the pool.

    Raises:
        InputError: the budget is larger than the pool, or smaller than the number of classes.
    """
    labelled = (labels >= 0).nonzero()[:, 0]
    if budget == "all":
        return labelled
    n = int(budget)
    if not classes <= n <= len(labelled):
        raise InputError(
            f"params.yaml: finetune.budgets has {n}; allowed: 'all', or {classes} (one label a class) "
            f"to {len(labelled)} (those of the pool that have one)"
        )
    stream = Stream.of(seed, "labels", draw)
    order = stream.at("extra").permutation(classes).tolist()
    wanted = shares(torch.bincount(labels[labelled], minlength=classes).tolist(), n, order)
    chosen = []
    for label in range(classes):
        rows = (labels == label).nonzero()[:, 0]
        chosen.append(rows[stream.at("class", label).permutation(len(rows))[: wanted[label]]])
    return torch.cat(chosen)


def shares(available: list[int], n: int, order: list[int]) -> list[int]:
    """How many of `n` images each class gives: equally many, as far as it has them.

    Args:
        available: images per class; together at least n.
        order: the classes in the order in which they give one more where n does not divide evenly.
    """
    given = [0] * len(available)
    while (left := n - sum(given)) > 0:
        able = [label for label in order if given[label] < available[label]][:left]
        each = min(left // len(able), *(available[label] - given[label] for label in able))
        for label in able:
            given[label] += each
    return given
