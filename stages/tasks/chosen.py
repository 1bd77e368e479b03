"""The recipe of each budget of a method, as one stage hands it to the next."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel

from stages.errors import InputError
from stages.files.paths import RECIPES
from stages.files.records import read_record, write_record
from stages.settings.recipes import Recipe


class Recipes(BaseModel):
    """The content of a file of recipes.

    Attributes:
        recipes: budget → its recipe.
        or_frozen: whether a budget may get linear probes instead, where they are better on validation.
    """

    recipes: dict[str, Recipe]
    or_frozen: bool


def recipes_file(method: str) -> Path:
    """The file with the recipes that were chosen for a method."""
    return RECIPES / f"{method}.json"


def write_recipes(path: Path, recipes: Mapping[str, Recipe], *, or_frozen: bool) -> None:
    """Write the recipe of each budget, by the budget's name; `or_frozen` as in `Recipes`."""
    write_record(path, Recipes(recipes=dict(recipes), or_frozen=or_frozen).model_dump())


def read_recipes(path: Path, budgets: Iterable[str] = ()) -> Recipes:
    """The recipe of each budget, by the budget's name.

    Args:
        path: of the file.
        budgets: those that must have a recipe.

    Raises:
        InputError: the file is not as `write_recipes` wrote it, or a budget has no recipe.
    """
    content = Recipes.model_validate(read_record(path, Recipes))
    if missing := [budget for budget in budgets if budget not in content.recipes]:
        raise InputError(f"{path}: has no recipe for {', '.join(missing)}; run `dvc repro`")
    return content
