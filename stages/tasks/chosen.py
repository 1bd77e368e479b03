"""The recipe of each budget of a method, as one stage hands it to the next."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel

from stages.errors import InputError
from stages.files.json_files import read_json, write_json
from stages.files.paths import RECIPES, USED_RECIPES
from stages.files.records import read_record, write_record
from stages.settings.recipes import Recipe


class UsedRecipes(BaseModel):
    """The recipes of a method's classifiers.

    Attributes:
        recipes: budget → its recipe.
    """

    recipes: dict[str, Recipe]


class Recipes(UsedRecipes):
    """The recipes that `choose` hands to `finetune`.

    Attributes:
        or_frozen: whether a budget may get linear probes instead, where they are better on validation.
    """

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
    _require(path, content.recipes, budgets)
    return content


def write_used(folder: Path, recipes: Mapping[str, Recipe]) -> None:
    """Write the recipes that a folder's classifiers have in the end; the folder's digests cover the file."""
    content = {budget: recipe.model_dump() for budget, recipe in recipes.items()}
    write_json(folder / USED_RECIPES, {"recipes": content})


def read_used(folder: Path, budgets: Iterable[str] = ()) -> dict[str, Recipe]:
    """The recipe of each budget in a folder of classifiers; arguments and errors as in `read_recipes`."""
    path = folder / USED_RECIPES
    content = UsedRecipes.model_validate(read_json(path, UsedRecipes))
    _require(path, content.recipes, budgets)
    return content.recipes


def _require(path: Path, recipes: Mapping[str, Recipe], budgets: Iterable[str]) -> None:
    if missing := [budget for budget in budgets if budget not in recipes]:
        raise InputError(f"{path}: has no recipe for {', '.join(missing)}; run `dvc repro`")
