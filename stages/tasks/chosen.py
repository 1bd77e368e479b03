"""The recipe of each budget of a method, as the stage `choose` hands it to the stages that train."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import RootModel

from stages.errors import InputError
from stages.files.json_files import read_json, write_json
from stages.files.paths import RECIPES
from stages.settings.recipes import Recipe


class Recipes(RootModel[dict[str, Recipe]]):
    """The content of a file of recipes."""


def recipes_file(method: str) -> Path:
    """The file with a method's recipes."""
    return RECIPES / f"{method}.json"


def write_recipes(method: str, recipes: Mapping[str, Recipe]) -> None:
    """Write the recipe of each budget, by the budget's name."""
    write_json(recipes_file(method), {budget: recipe.model_dump() for budget, recipe in recipes.items()})


def read_recipes(method: str, budgets: Iterable[str] = ()) -> dict[str, Recipe]:
    """The recipe of each budget, by the budget's name.

    Args:
        method: its name.
        budgets: those that must have a recipe.

    Raises:
        InputError: the file was not written by `write_recipes`, or a budget has no recipe.
    """
    path = recipes_file(method)
    recipes = Recipes.model_validate(read_json(path, Recipes)).root
    if missing := [budget for budget in budgets if budget not in recipes]:
        raise InputError(f"{path}: has no recipe for {', '.join(missing)}; run `dvc repro`")
    return recipes
