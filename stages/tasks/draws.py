"""Draws of labelled images. All methods use the same draws, so that their differences are paired."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stages.errors import InputError
from stages.training.randomness import Stream

Budget = int | str  # a number of labelled images, or "all"
CHOOSING = (
    1000  # the draw on which recipes are chosen: its number is far from those that `finetune.draws` counts
)


def budget_name(budget: Budget) -> str:
    """The name of a budget in files and metrics, such as `n100` or `nall`."""
    return f"n{budget}"


def parse_budget(name: str) -> Budget:
    """The budget of a name; the inverse of `budget_name`."""
    return "all" if name == budget_name("all") else int(name.removeprefix("n"))


def usable_budgets(budgets: Sequence[Budget], labelled: int, classes: int) -> list[Budget]:
    """The budgets with at least one image of each class that have enough labels; prints the others.

    The labels of a user's own folder may grow over time: a budget is used once there are enough.

    Args:
        labelled: how many images of the pool have a label.
    """
    size = range(max(classes, 1), labelled + 1)
    usable = [budget for budget in budgets if (labelled if budget == "all" else int(budget)) in size]
    if skipped := [str(budget) for budget in budgets if budget not in usable]:
        print(
            f"{labelled:,} images of the pool have a label, of {classes} classes: "
            f"skipping the budget {', '.join(skipped)}",
            flush=True,
        )
    return usable


def draw_labelled(labels: Tensor, classes: int, budget: Budget, draw: int, seed: int) -> Tensor:
    """A random choice of `budget` images with equally many of each class.

    Draws are nested: a draw of a smaller budget is a subset of the same draw of a larger one. If the budget
    is not a multiple of the number of classes, the remainder goes to random classes. If a class has too few
    images, the other classes give more.

    Args:
        labels: (N,) int64, of each image of the pool; -1: it has no label.
        classes: the number of classes.
        budget: a number of images, or "all": every draw is all images with a label.
        draw: the number of the draw.
        seed: `seeds.draws` of params.yaml.

    Returns:
        (budget,) int64, rows of the pool.

    Raises:
        InputError: the budget is larger than the number of labels, or smaller than the number of classes.
    """
    labelled = (labels >= 0).nonzero()[:, 0]
    if budget == "all":
        return labelled
    n = int(budget)
    if not classes <= n <= len(labelled):
        raise InputError(
            f"params.yaml: finetune.budgets has {n}; allowed: 'all', or {classes} (one label per class) "
            f"to {len(labelled)} (all labels of the pool)"
        )
    stream = Stream.of(seed, "labels", draw)
    order = stream.at("extra").permutation(classes).tolist()
    counts = allocate(torch.bincount(labels[labelled], minlength=classes).tolist(), n, order)
    chosen = []
    for label in range(classes):
        rows = (labels == label).nonzero()[:, 0]
        chosen.append(rows[stream.at("class", label).permutation(len(rows))[: counts[label]]])
    return torch.cat(chosen)


def allocate(available: list[int], n: int, order: list[int]) -> list[int]:
    """How many of `n` images are taken from each class: equally many, as far as it has them.

    Args:
        available: images of each class; their sum is at least n.
        order: the classes in the order in which they give one more if n does not divide evenly.
    """
    counts = [0] * len(available)
    while (remaining := n - sum(counts)) > 0:
        open_classes = [label for label in order if counts[label] < available[label]][:remaining]
        each = min(
            remaining // len(open_classes), *(available[label] - counts[label] for label in open_classes)
        )
        for label in open_classes:
            counts[label] += each
    return counts
