"""The sections `finetune` (budgets, draws, schedule, recipes) and `distil` of `params.yaml`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from stages.settings.values import DEFAULT, Budgets, Count, Fraction, Rate, RecipeName, Section


class Recipe(Section):
    """How one method's encoder is finetuned."""

    encoder_learning_rate: Rate
    encoder_learning_rate_many: Rate
    head_learning_rate: Rate
    weight_decay: Rate
    weight_decay_many: Rate


def _completed(recipes: Any) -> Any:
    """Each method's recipe, completed by the default one."""
    if not isinstance(recipes, dict):
        return recipes
    default: Any = recipes.get(DEFAULT)
    try:
        Recipe.model_validate(default)
    except ValidationError:
        return {DEFAULT: default}  # its mistakes are reported once, not for every method
    return {name: {**default, **one} if isinstance(one, dict) else one for name, one in recipes.items()}


class Schedule(Section):
    """How long and in what batches every method is finetuned: the same for all."""

    steps: Count
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    warmup: Fraction
    many: Count
    class_weights: Literal["equal", "balanced"]


class Finetune(Section):
    """The label budgets, the draws, and how encoder and head are trained on them."""

    budgets: Budgets
    draws: Annotated[int, Field(ge=1, le=100)]
    schedule: Schedule
    recipe: Annotated[dict[RecipeName, Recipe], BeforeValidator(_completed)]


class Distil(Section):
    """For which budgets labels are spread, over how many images, and how long they are trained on."""

    few: Count
    images: Count
    steps: Count
