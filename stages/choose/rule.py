"""Which candidate is chosen: the one with the highest accuracy, smoothed along candidates and budgets.

Candidates that are next to each other train almost alike, and so do neighbouring budgets. So a candidate
whose neighbours do well is more likely to be good than a lone peak, which may be the luck of a few images.
`python -m benchmarks.choice` compares this rule with others.
"""

from collections.abc import Sequence

import numpy as np

NEIGHBOUR = 0.5  # weight of each neighbour, among candidates or budgets, where the candidate's own is 1


def smoothed(accuracy: np.ndarray) -> np.ndarray:
    """The accuracy of each candidate, averaged with those of the ones before and after it, (C,).

    Args:
        accuracy: (C,).
    """
    total, weight = accuracy.astype(float), np.ones(len(accuracy))
    for one, other in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
        total[one] += NEIGHBOUR * accuracy[other]
        weight[one] += NEIGHBOUR
    return np.asarray(total / weight)


def chosen(accuracies: Sequence[np.ndarray | None]) -> list[int | None]:
    """The number of the candidate that is chosen for each budget; None: nothing was measured for it.

    Of equally good ones it is the first.

    Args:
        accuracies: for each budget, the fewest labels first, the accuracy of each candidate, (C,), in an
            order in which neighbours are alike; None: it could not be measured. Such a budget gets what suits
            its neighbours.
    """
    # Budgets differ in how accurate all candidates are. Here only differences between candidates count.
    leads = [None if one is None else smoothed(one) - one.mean() for one in accuracies]
    choices: list[int | None] = []
    for number, lead in enumerate(leads):
        near = [one for one in leads[max(0, number - 1) : number + 2] if one is not None and one is not lead]
        parts = [NEIGHBOUR * one for one in near] + ([] if lead is None else [lead])
        choices.append(int(np.sum(parts, axis=0).round(9).argmax()) if parts else None)
    return choices
