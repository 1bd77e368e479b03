"""The recipe of each budget of a method, as the stage `choose` hands it to the stages that train."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel

from stages.errors import InputError
from stages.files.paths import RECIPES
from stages.files.records import read_record, write_record
from stages.settings.recipes import Recipe


class Recipes(BaseModel):
    """The content of a file of recipes: budget → its recipe."""

    recipes: dict[str, Recipe]


def recipes_file(method: str) -> Path:
    """The file with a method's recipes."""
    return RECIPES / f"{method}.json"


def write_recipes(method: str, recipes: Mapping[str, Recipe]) -> None:
    """Write the recipe of each budget, by the budget's name."""
    by_budget = {budget: recipe.model_dump() for budget, recipe in recipes.items()}
    write_record(recipes_file(method), {"recipes": by_budget})


def read_recipes(method: str, budgets: Iterable[str] = ()) -> dict[str, Recipe]:
    """The recipe of each budget, by the budget's name.

    Args:
        method: its name.
        budgets: those that must have a recipe.

    Raises:
        InputError: the file is not as `write_recipes` wrote it, or a budget has no recipe.
    """
    path = recipes_file(method)
    recipes = Recipes.model_validate(read_record(path, Recipes)).recipes
    if missing := [budget for budget in budgets if budget not in recipes]:
        raise InputError(f"{path}: has no recipe for {', '.join(missing)}; run `dvc repro`")
    return recipes
