"""The recipe of each budget of a method, as the stage `choose` hands it to the stages that train."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from stages.errors import InputError
from stages.files.json_files import read_json, write_json
from stages.files.paths import RECIPES
from stages.settings.recipes import Recipe

_RECIPES = TypeAdapter(dict[str, Recipe])


def recipes_file(method: str) -> Path:
    """The file with a method's recipes."""
    return RECIPES / f"{method}.json"


def write_recipes(method: str, recipes: Mapping[str, Recipe]) -> None:
    """Write the recipe of each budget, by the budget's name."""
    write_json(recipes_file(method), {budget: recipe.model_dump() for budget, recipe in recipes.items()})


def read_recipes(method: str) -> dict[str, Recipe]:
    """The recipe of each budget, by the budget's name.

    Raises:
        InputError: the file was not written by `write_recipes`.
    """
    path = recipes_file(method)
    try:
        return _RECIPES.validate_python(read_json(path))
    except ValidationError as error:
        raise InputError(
            f"{path}: is not a recipe for each budget ({error.error_count()} mistakes); run `dvc repro`"
        ) from None
