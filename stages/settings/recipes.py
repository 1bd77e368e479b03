"""The sections `finetune` (budgets, draws, schedule, recipes), `choose` and `distil` of `params.yaml`."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Strict, ValidationError

from stages.settings.values import DEFAULT, Budgets, Count, Fraction, Rate, RecipeName, Section, distinct


class Recipe(Section):
    """How an encoder is finetuned on the labels of one budget.

    Attributes:
        encoder_learning_rate: peak; 0: the encoder stays frozen, and the classifier is its linear probe.
        head_learning_rate: peak.
        weight_decay: of encoder and head.
    """

    encoder_learning_rate: Rate
    head_learning_rate: Rate
    weight_decay: Rate

    @property
    def frozen(self) -> bool:
        """Whether the encoder stays as it is."""
        return self.encoder_learning_rate == 0


class FixedRecipe(Recipe):
    """A recipe in `params.yaml`, which has other values for many labels.

    Attributes:
        encoder_learning_rate_many, weight_decay_many: the values from `finetune.schedule.many` labels on.
    """

    encoder_learning_rate_many: Rate
    weight_decay_many: Rate

    def with_rate(self, rate: float, decay: float | None = None) -> Recipe:
        """The recipe with another encoder rate, and another weight decay if one is given."""
        return Recipe(
            encoder_learning_rate=rate,
            head_learning_rate=self.head_learning_rate,
            weight_decay=self.weight_decay if decay is None else decay,
        )

    def of(self, labelled: int, many: int) -> Recipe:
        """The recipe for a budget.

        Args:
            labelled: labels of the budget.
            many: `finetune.schedule.many`.
        """
        enough = labelled >= many
        return Recipe(
            encoder_learning_rate=self.encoder_learning_rate_many if enough else self.encoder_learning_rate,
            head_learning_rate=self.head_learning_rate,
            weight_decay=self.weight_decay_many if enough else self.weight_decay,
        )


def _completed(recipes: Any) -> Any:
    """The default recipe, and each fixed one completed by it. A method's `{}` is left out: it is chosen."""
    if not isinstance(recipes, dict):
        return recipes
    default: Any = recipes.get(DEFAULT)
    try:
        FixedRecipe.model_validate(default)
    except ValidationError:
        return {DEFAULT: default}  # its mistakes are reported once, not for every method
    fixed = {name: one for name, one in recipes.items() if one != {}}
    return {name: {**default, **one} if isinstance(one, dict) else one for name, one in fixed.items()}


class Schedule(Section):
    """How long and in what batches every method is finetuned: the same for all."""

    steps: Count
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    warmup: Fraction
    many: Count
    class_weights: Literal["equal", "balanced"]


class Finetune(Section):
    """The label budgets, the draws, and how encoder and head are trained on them.

    Attributes:
        recipe: the default, and the recipe of each method for which nothing is chosen.
    """

    budgets: Budgets
    draws: Annotated[int, Field(ge=1, le=100)]
    schedule: Schedule
    recipe: Annotated[dict[RecipeName, FixedRecipe], BeforeValidator(_completed)]


Grid = Annotated[tuple[Rate, ...], Field(min_length=1), Strict(False), AfterValidator(distinct)]


class Choose(Section):
    """The grid from which the recipe of each method and budget is chosen, and how it is chosen.

    Attributes:
        encoder_learning_rates: the grid; 0 is the frozen encoder.
        length: of a candidate's training, as a fraction of finetuning's steps.
        validation: images that a candidate is scored on at most.
        folds: of the labels of a draw, where validation has too few labels.
    """

    encoder_learning_rates: Grid
    length: Annotated[float, Field(gt=0, le=1)]
    validation: Count
    folds: Annotated[int, Field(ge=2, le=20)]


class Distil(Section):
    """For which budgets labels are spread, over how many images, and how long they are trained on."""

    few: Count
    images: Count
    steps: Count
