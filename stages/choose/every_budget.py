"""What choose@METHOD does: each budget gets the recipe that the search found for it, or a fixed one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stages.choose.search import MOST, Rounds, search
from stages.choose.tryout import Tryout, labels_of
from stages.settings.recipes import Choose, Recipe
from stages.settings.values import DEFAULT
from stages.tasks.chosen import recipes_file, write_recipes
from stages.tasks.draws import budget_name

HIGHEST = (
    "the highest encoder rate that was tried is the best; add higher ones to choose.encoder_learning_rates"
)
BY = {"validation": "labels of validation", "pool": "cross-validation"}  # the pack of the held images


def main(method: str) -> None:
    """Choose a method's recipe for each budget; write the recipes, and what every candidate scored."""
    tryout = Tryout.open(method)
    stage, settings = tryout.stage, tryout.stage.settings
    schedule, default = settings.finetune.schedule, settings.finetune.recipe[DEFAULT]
    fixed, rounds = settings.finetune.recipe.get(method), Rounds(tryout)
    recipes = [None] * len(tryout.budgets) if fixed else search(rounds)
    choices = []
    for budget, recipe, short, in_full in zip(
        tryout.budgets, recipes, rounds.short, rounds.in_full, strict=True
    ):
        name = budget_name(budget)
        if recipe is None:
            labels = labels_of(budget, int((stage.labels >= 0).sum()))
            given = (fixed or default).of(labels, schedule.many)
            choices.append(Choice(name, given, "params.yaml" if fixed else "default"))
        else:
            by = BY[tryout.splits[0].pack] if short else "neighbouring budgets"
            choices.append(Choice(name, recipe, by, short, in_full))
    for choice in choices:
        print(f"choose {method} {choice}", flush=True)
        if choice.at_edge(settings.choose):
            print(f"warning: choose {method}: {HIGHEST}", flush=True)
    made_from = stage.made_from()
    by_budget = {choice.budget: choice.recipe for choice in choices}
    or_frozen = fixed is None and 0 in settings.choose.encoder_learning_rates
    write_recipes(recipes_file(method), by_budget, or_frozen=or_frozen)
    figures = {choice.budget: choice.figures() for choice in choices}
    images = sum(trial.images for trial in rounds.trials.values())
    stage.write_metrics(made_from, list(rounds.results.values()), images, budgets=figures)


@dataclass(frozen=True)
class Choice:
    """The recipe of a budget.

    Attributes:
        budget: its name.
        by: what it was chosen on, or where it is from.
        short, in_full: the balanced accuracy of each recipe that was tried with few and with all steps.
    """

    budget: str
    recipe: Recipe
    by: str
    short: Mapping[Recipe, float] = field(default_factory=dict)
    in_full: Mapping[Recipe, float] = field(default_factory=dict)

    def __str__(self) -> str:
        """What is chosen, for the output."""
        recipe = self.recipe
        rate = f"encoder rate {recipe.encoder_learning_rate:g}, decay {recipe.weight_decay:g}"
        return f"{self.budget}: {'frozen encoder' if recipe.frozen else rate} ({self.by})"

    def at_edge(self, grid: Choose) -> bool:
        """Whether no higher rate was tried, although one might be better."""
        rates = {*grid.encoder_learning_rates, *(recipe.encoder_learning_rate for recipe in self.short)}
        return bool(self.short) and MOST > self.recipe.encoder_learning_rate == max(rates) > 0

    def figures(self) -> dict[str, Any]:
        """For the metrics: the choice, and the balanced accuracy of what was tried, a fraction."""
        tried = {"candidates": self.short, "in_full": self.in_full}
        rows = {
            name: [
                {**recipe.model_dump(exclude={"head_learning_rate"}), "accuracy": round(accuracy, 4)}
                for recipe, accuracy in scores.items()
            ]
            for name, scores in tried.items()
        }
        return {"by": self.by, "recipe": self.recipe.model_dump(), **rows}
