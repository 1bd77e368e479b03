"""What choose@METHOD does: each candidate of the grid is tried, and each budget gets its recipe."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from stages.choose.rivals import Rival, handicapped, possible, trained_in_full
from stages.choose.rule import chosen
from stages.choose.trials import Trial, accuracy_of, shortened
from stages.choose.tryout import Tryout, labels_of
from stages.settings.recipes import Choose, Recipe
from stages.settings.values import DEFAULT
from stages.tasks.chosen import write_recipes
from stages.tasks.draws import budget_name

GRID = "choose.encoder_learning_rates"
BY = {"validation": "labels of validation", "pool": "cross-validation"}  # the pack of the held images


def main(method: str) -> None:
    """Choose a method's recipe for each budget; write the recipes, and what every candidate scored."""
    tryout = Tryout.open(method)
    stage, settings = tryout.stage, tryout.stage.settings
    schedule, default = settings.finetune.schedule, settings.finetune.recipe[DEFAULT]
    fixed = settings.finetune.recipe.get(method)
    candidates = candidates_of(settings.choose, default)
    trials = [
        Trial(split, candidate, shortened(split.labels, schedule, settings.choose.length))
        for split, candidate in product([] if fixed else tryout.splits, candidates)
    ]
    results = tryout.run(trials, possible(tryout, candidates))
    names = [budget_name(budget) for budget in tryout.budgets]
    accuracies = [accuracy_of(name, trials, results) for name in names]
    rivals, all_trials, results = trained_in_full(tryout, trials, results, accuracies, candidates)
    numbers = chosen(handicapped(accuracies, candidates, rivals), candidates)
    choices = []
    for budget, accuracy, number, rival in zip(tryout.budgets, accuracies, numbers, rivals, strict=True):
        name = budget_name(budget)
        if number is None:
            labels = labels_of(budget, int((stage.labels >= 0).sum()))
            recipe = (fixed or default).of(labels, schedule.many)
            choices.append(Choice(name, recipe, "params.yaml" if fixed else "default"))
        else:
            by = "neighbouring budgets" if accuracy is None else BY[tryout.splits[0].pack]
            choices.append(Choice(name, candidates[number], by, accuracy, rival))
    for choice in choices:
        print(f"choose {method} {choice}", flush=True)
        if choice.at_edge(settings.choose):
            print(
                f"warning: choose {method}: the highest rate was best; add a higher one to {GRID}", flush=True
            )
    made_from = stage.made_from()
    write_recipes(method, {choice.budget: choice.recipe for choice in choices})
    figures = {choice.budget: choice.figures(candidates) for choice in choices}
    images = sum(trial.images for trial in all_trials)
    stage.write_metrics(made_from, results, images, budgets=figures)


@dataclass(frozen=True)
class Choice:
    """The recipe of a budget.

    Attributes:
        budget: its name.
        by: what it was chosen on, or where it is from.
        accuracy: balanced, of each candidate, (C,); None: none was tried for this budget.
        rival: that of the frozen encoder; None: another candidate was best.
    """

    budget: str
    recipe: Recipe
    by: str
    accuracy: np.ndarray | None = None
    rival: Rival | None = None

    def __str__(self) -> str:
        """What is chosen, for the output."""
        recipe = self.recipe
        rate = f"encoder rate {recipe.encoder_learning_rate:g}, decay {recipe.weight_decay:g}"
        return f"{self.budget}: {'frozen encoder' if recipe.frozen else rate} ({self.by})"

    def at_edge(self, grid: Choose) -> bool:
        """Whether the grid has no higher rate, although one might be better."""
        return (
            self.accuracy is not None
            and self.recipe.encoder_learning_rate == max(grid.encoder_learning_rates) > 0
        )

    def figures(self, candidates: Sequence[Recipe]) -> dict[str, Any]:
        """For the metrics: the choice, and the balanced accuracy of each candidate, a fraction."""
        accuracies = [] if self.accuracy is None else self.accuracy.round(4).tolist()
        rows = [
            {**candidate.model_dump(exclude={"head_learning_rate"}), "accuracy": accuracy}
            for candidate, accuracy in zip(candidates, accuracies, strict=False)
        ]
        figures = {"by": self.by, "recipe": self.recipe.model_dump(), "candidates": rows}
        if self.rival:
            rate = candidates[self.rival.number].encoder_learning_rate
            figures["in_full"] = {"encoder_learning_rate": rate, "accuracy": round(self.rival.accuracy, 4)}
        return figures


def candidates_of(grid: Choose, default: Recipe) -> list[Recipe]:
    """All points of the grid, the weakest first; the frozen encoder once, because no decay changes it."""
    rates, decays = sorted(grid.encoder_learning_rates), sorted(grid.weight_decays)
    points = [(rate, decay) for rate, decay in product(rates, decays) if rate or decay == decays[0]]
    return [
        Recipe(encoder_learning_rate=rate, head_learning_rate=default.head_learning_rate, weight_decay=decay)
        for rate, decay in points
    ]
