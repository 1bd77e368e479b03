"""Which candidate is chosen: the one with the highest accuracy, smoothed along the grid and the budgets.

Neighbours on the grid train almost alike, and so do neighbouring budgets. So a candidate whose neighbours do
well is more likely to be good than a lone peak, which may be the luck of a few images. `python -m
benchmarks.choice` compares this rule with others.
"""

from collections.abc import Sequence

import numpy as np

from stages.settings.recipes import Recipe

NEIGHBOUR = 0.5  # weight of each neighbour, on the grid or among the budgets, where the candidate's own is 1


def smoothed(accuracy: np.ndarray, candidates: Sequence[Recipe]) -> np.ndarray:
    """The accuracy of each candidate, averaged with those of its neighbours on the grid, (C,).

    Neighbours have the next lower or higher encoder rate, or the next weight decay. The frozen encoder has
    none: it is another kind of model, and a low rate need not be as good or as bad.

    Args:
        accuracy: (C,).
    """
    rates, decays = (
        sorted({getattr(one, name) for one in candidates if not one.frozen})
        for name in ("encoder_learning_rate", "weight_decay")
    )
    place = {
        number: (rates.index(one.encoder_learning_rate), decays.index(one.weight_decay))
        for number, one in enumerate(candidates)
        if not one.frozen
    }
    result = accuracy.astype(float)
    for number, (rate, decay) in place.items():
        near = [accuracy[other] for other, (r, d) in place.items() if abs(r - rate) + abs(d - decay) == 1]
        result[number] = (accuracy[number] + NEIGHBOUR * sum(near)) / (1 + NEIGHBOUR * len(near))
    return result


def chosen(accuracies: Sequence[np.ndarray | None], candidates: Sequence[Recipe]) -> list[int | None]:
    """The number of the candidate that is chosen for each budget; None: no accuracy says anything about it.

    Of equally good ones it is the first, which is the weakest.

    Args:
        accuracies: for each budget, the fewest labels first, the accuracy of each candidate, (C,); None: it
            could not be measured. Such a budget gets what suits its neighbours.
        candidates: the weakest first.
    """
    # Budgets differ in how accurate all candidates are. Here only differences between candidates count.
    leads = [None if one is None else smoothed(one, candidates) - one.mean() for one in accuracies]
    choices: list[int | None] = []
    for number, own in enumerate(leads):
        near = [one for one in leads[max(0, number - 1) : number + 2] if one is not None and one is not own]
        parts = [NEIGHBOUR * one for one in near] + ([] if own is None else [own])
        choices.append(int(np.sum(parts, axis=0).round(9).argmax()) if parts else None)
    return choices
