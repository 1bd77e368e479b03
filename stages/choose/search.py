"""The search for the recipe of each budget: rounds of trials, each of which leaves less to try.

1. Each encoder rate of the grid, in short trials, and the frozen encoder, which needs no training. Where the
   highest rate is the best, higher ones are tried as well.
2. The best rate against the frozen encoder. With labels of validation, `finetune` compares them over all
   draws. Else, where the frozen encoder is better: the best rate in full, and the comparison once more. The
   more labels there are, the more a short trial favours the frozen encoder.

The weight decay is that of the default recipe: short trials do not tell which decay is best in full
(docs/methods.md).
"""

from collections.abc import Sequence
from itertools import product

import numpy as np

from stages.choose.rule import chosen
from stages.choose.trials import Scored, Trial, accuracy_of
from stages.choose.tryout import Tryout
from stages.settings.recipes import Recipe
from stages.settings.values import DEFAULT
from stages.tasks.draws import budget_name

IN_FULL = 1.0  # the length of a trial with as many steps as finetuning has
HIGHER = 2  # rates above the grid at most: the accuracy of a rate far above tells of a mistake elsewhere
FACTOR, MOST = 10**0.5, 10.0  # from a rate to the next higher one; the highest


class Rounds:
    """The trials so far.

    Attributes:
        points: all recipes that may be tried.
        trials, results: of all trials, by their names.
        short, in_full: for each budget, the balanced accuracy of every recipe that was tried so.
    """

    def __init__(self, tryout: Tryout) -> None:
        """Nothing was tried yet."""
        finetune, self.grid = tryout.stage.settings.finetune, tryout.stage.settings.choose
        self.tryout, self.schedule = tryout, finetune.schedule
        rates, default = self.grid.encoder_learning_rates, finetune.recipe[DEFAULT]
        self.points = [default.with_rate(rate) for rate in sorted({*rates, *higher_rates(rates)})]
        self.trials: dict[str, Trial] = {}
        self.results: dict[str, Scored] = {}
        self.short: list[dict[Recipe, float]] = [{} for _ in tryout.budgets]
        self.in_full: list[dict[Recipe, float]] = [{} for _ in tryout.budgets]

    def run(
        self, recipes: Sequence[Sequence[Recipe]], length: float, scores: list[dict[Recipe, float]]
    ) -> None:
        """Try the recipes of each budget, and enter their scores; what was tried is not tried again."""
        names = [budget_name(budget) for budget in self.tryout.budgets]
        of_budget = dict(zip(names, recipes, strict=True))
        wanted = [
            Trial.of(split, recipe, self.schedule, length)
            for split in self.tryout.splits
            for recipe in of_budget[split.budget]
        ]
        new = {str(trial): trial for trial in wanted if str(trial) not in self.trials}
        if new:
            self.results |= zip(new, self.tryout.run(list(new.values()), self.possible()), strict=True)
            self.trials |= new
        results = [self.results[str(trial)] for trial in wanted]
        for name, tried, entries in zip(names, recipes, scores, strict=True):
            accuracy = accuracy_of(name, wanted, results)
            entries |= {} if accuracy is None else zip(tried, accuracy.tolist(), strict=True)

    def possible(self) -> set[str]:
        """The names of all trials that any round may have."""
        lengths = (self.grid.length, IN_FULL)
        return {
            str(Trial.of(split, point, self.schedule, length))
            for split, point, length in product(self.tryout.splits, self.points, lengths)
        }

    def best(self, recipes: Sequence[Sequence[Recipe]]) -> list[Recipe | None]:
        """The best recipe of each budget, by the longest trial of each recipe."""
        known = [short | in_full for short, in_full in zip(self.short, self.in_full, strict=True)]
        numbers = chosen(
            [
                np.array([scores[recipe] for recipe in tried]) if scores else None
                for tried, scores in zip(recipes, known, strict=True)
            ]
        )
        return [None if n is None else tried[n] for tried, n in zip(recipes, numbers, strict=True)]


def search(rounds: Rounds) -> list[Recipe | None]:
    """Run the rounds: the recipe of each budget; None: nothing was measured for it."""
    length, count = rounds.grid.length, len(rounds.short)
    of_grid = [one.encoder_learning_rate in rounds.grid.encoder_learning_rates for one in rounds.points]
    first, above = rounds.points[: sum(of_grid)], rounds.points[sum(of_grid) :]
    frozen, trained = [one for one in first if one.frozen], [one for one in first if not one.frozen]
    rounds.run([first] * count, length, rounds.short)
    if not trained:
        return rounds.best([frozen] * count)
    for higher in above:
        if trained[-1] not in rounds.best([trained] * count):
            break
        trained.append(higher)
        rounds.run([trained[-1:]] * count, length, rounds.short)
    best = rounds.best([trained] * count)
    pairs = [[*frozen, *([] if one is None else [one])] for one in best]
    if rounds.tryout.on_validation:  # what diverged is never right: finetune would have no model to compare
        return [
            pair[0] if one is None or scores[one] == 0 else one
            for one, pair, scores in zip(best, pairs, rounds.short, strict=True)
        ]
    ahead = rounds.best(pairs)
    in_full = [pair[1:] if one and one.frozen else [] for one, pair in zip(ahead, pairs, strict=True)]
    rounds.run(in_full, IN_FULL, rounds.in_full)
    return [
        # Where the recipe was trained in full, no other budget has a say.
        (pair[1] if of_full[pair[1]] > of_short[pair[0]] else pair[0]) if of_full else one
        for one, pair, of_short, of_full in zip(
            rounds.best(pairs), pairs, rounds.short, rounds.in_full, strict=True
        )
    ]


def higher_rates(rates: Sequence[float]) -> list[float]:
    """The next rates above those of a grid; none where the grid has no two rates that train the encoder."""
    higher: list[float] = []
    for _ in range(HIGHER if sum(rate > 0 for rate in rates) > 1 else 0):
        higher.append(min(MOST, neat(max(*rates, *higher) * FACTOR)))
    return higher


def neat(value: float) -> float:
    """A value rounded to one digit."""
    return float(f"{value:.0e}")
