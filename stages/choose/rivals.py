"""Where the frozen encoder is best, the best other candidate is trained in full: its rival.

The frozen encoder loses nothing by short trials, the others do. With many labels they lose so much that the
frozen encoder would win where it is far worse in the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from stages.choose.rule import chosen
from stages.choose.trials import Scored, Trial, accuracy_of, shortened
from stages.choose.tryout import Tryout
from stages.settings.recipes import Recipe
from stages.tasks.draws import budget_name


@dataclass(frozen=True)
class Rival:
    """The best candidate that trains the encoder, trained in full.

    Attributes:
        number: of the candidate.
        accuracy: balanced.
    """

    number: int
    accuracy: float


def possible(tryout: Tryout, candidates: Sequence[Recipe]) -> set[str]:
    """The names of all trials that `trained_in_full` may add."""
    schedule = tryout.stage.settings.finetune.schedule
    return {
        str(Trial(split, one, shortened(split.labels, schedule, 1.0)))
        for split, one in product(tryout.splits, candidates)
    }


def trained_in_full(
    tryout: Tryout,
    trials: Sequence[Trial],
    results: Sequence[Scored],
    accuracies: Sequence[np.ndarray | None],
    candidates: Sequence[Recipe],
) -> tuple[list[Rival | None], list[Trial], list[Scored]]:
    """Train the rivals.

    Args:
        trials, results: of all candidates, short.
        accuracies: of each budget, as `rule.chosen` takes them.

    Returns:
        The rival of each budget, None where no frozen encoder is best; all trials, and
        their results.
    """
    names = [budget_name(budget) for budget in tryout.budgets]
    numbers = dict(zip(names, rivals_of(accuracies, candidates), strict=True))
    schedule = tryout.stage.settings.finetune.schedule
    more = [
        Trial(split, candidates[number], shortened(split.labels, schedule, 1.0))
        for split in tryout.splits
        if (number := numbers[split.budget]) is not None
    ]
    if not more:
        return [None] * len(names), list(trials), list(results)
    of_all = tryout.run([*trials, *more])  # those that are done are not done again
    rivals: list[Rival | None] = []
    for name, number in numbers.items():
        accuracy = accuracy_of(name, more, of_all[len(trials) :])
        rivals.append(None if number is None or accuracy is None else Rival(number, float(accuracy[0])))
    return rivals, [*trials, *more], of_all


def rivals_of(accuracies: Sequence[np.ndarray | None], candidates: Sequence[Recipe]) -> list[int | None]:
    """The number of each budget's rival; None where another candidate than the frozen encoder is best."""
    first = next((number for number, one in enumerate(candidates) if not one.frozen), None)
    if not first:  # nothing but the frozen encoder, or no frozen encoder
        return [None] * len(accuracies)
    trained = chosen([None if one is None else one[first:] for one in accuracies], candidates[first:])
    return [
        None if one is None or number is None or best is None or number >= first else first + best
        for one, number, best in zip(accuracies, chosen(accuracies, candidates), trained, strict=True)
    ]


def handicapped(
    accuracies: Sequence[np.ndarray | None], candidates: Sequence[Recipe], rivals: Sequence[Rival | None]
) -> list[np.ndarray | None]:
    """The accuracies, with the frozen encoder's lowered by what its rival gains by the training in full."""
    frozen = np.array([one.frozen for one in candidates])
    return [
        one if one is None or rival is None else one - frozen * (rival.accuracy - one[rival.number])
        for one, rival in zip(accuracies, rivals, strict=True)
    ]
