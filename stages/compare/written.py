"""What the stages write for `compare` and the tools, as these need it: a model of each JSON file.

The models belong to the readers. If the stages that write imported them, they would be among their deps, and
pretraining would run again because the report asks for one more figure. A file may have more fields than its
model. Tests of the pipeline read what the stages have written, so model and file stay equal.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from stages.settings.recipes import Recipe
from stages.settings.values import BUDGET_NAME, Fraction

LARGEST = 1e12  # of figures without a bound of their own

Whole = Annotated[int, Field(ge=0, le=LARGEST)]
Amount = Annotated[float, Field(ge=0, le=LARGEST)]
HalfWidth = Annotated[float, Field(gt=0, le=LARGEST)]
Gain = Annotated[float, Field(ge=-1, le=1)]
Name = Annotated[str, Field(pattern="^[A-Za-z0-9_]+$")]  # of a method, a baseline or a protocol
BudgetName = Annotated[str, Field(pattern=BUDGET_NAME)]


class Content(BaseModel):
    """A part of a JSON file."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


class MadeFrom(Content):
    """As `files.provenance.made_from` returns it."""

    parameters: dict[str, Any]
    code: str
    inputs: dict[str, str]


class Origin(Content):
    """A file of which only its provenance is read."""

    made_from: MadeFrom


# --- prepare


def _with_source(parameters: dict[str, Any]) -> dict[str, Any]:
    data = parameters.get("data")
    if not isinstance(data, dict) or not all(
        isinstance(data.get(key, ""), str) for key in ("source", "path")
    ):
        raise ValueError(".data is not a section with the texts `source` and `path`")
    if "source" not in data:
        raise ValueError(".data.source is missing")
    return parameters


class MadeFromData(MadeFrom):
    """Provenance of the prepared data."""

    parameters: Annotated[dict[str, Any], AfterValidator(_with_source)]


class Prepared(Content):
    """metrics/prepare.json."""

    made_from: MadeFromData


class ValidationCount(Content):
    """Of metrics/data.json: whether a choice can be made on validation."""

    validation_labelled: Whole


class DesignCounts(Content):
    """Of metrics/data.json: what the intervals depend on."""

    pool_labelled: Whole
    test_labelled: Whole
    test_units: Whole


class Counts(ValidationCount, DesignCounts):
    """metrics/data.json: numbers of images, of which the report lists all."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Whole] = Field(init=False)

    smallest_gain: dict[str, Fraction]


# --- pretrain


class OnValidation(Content):
    """Of metrics/pretrain/METHOD.json: kNN accuracy on validation; None: it has no labels."""

    knn: Fraction | None


class Health(Content):
    """Of metrics/pretrain/METHOD.json: what is doubtful about the pretraining."""

    collapse: str | None
    doubts: list[str] = []


class Pretraining(OnValidation, Health, Origin):
    """metrics/pretrain/METHOD.json."""

    knn_untrained: Fraction | None
    feature_std: Amount
    rankme: Amount
    runs: Annotated[list[dict[str, Any]], Field(min_length=1)]
    steps: Whole
    device: str
    precision: str
    torch: str
    python: str
    shown: Annotated[list[str], Field(min_length=1)]


# --- choose, finetune, distil


class ChosenRecipe(Content):
    """The recipe of a budget."""

    by: str
    recipe: Recipe


class Choosing(Origin):
    """metrics/choose/METHOD.json."""

    budgets: dict[BudgetName, ChosenRecipe]


class BudgetConfirmation(Content):
    """Whether the models of a budget stay, which were compared on validation with those they came from."""

    holds: bool


class Finetuning(Origin):
    """metrics/finetune/METHOD.json."""

    confirmation: dict[BudgetName, BudgetConfirmation]


class DistilledDraw(Content):
    """Whether the labels of a draw were spread over the pool."""

    budget: BudgetName
    spread: bool


class Distilling(Origin):
    """metrics/distil/METHOD.json."""

    draws: list[DistilledDraw]
    confirmation: dict[BudgetName, BudgetConfirmation]


# --- evaluate


Accuracies = Annotated[dict[Name, Fraction], Field(min_length=1)]


class ModelChoice(Content):
    """Of metrics/evaluate/METHOD_model.json: accuracy on validation by budget and protocol."""

    validation: dict[BudgetName, Accuracies] = {}


class Unmeasured(ModelChoice, Origin):
    """metrics/evaluate/METHOD_model.json where nothing was finetuned."""

    validation: dict[BudgetName, Accuracies]


class MeasuredModel(Unmeasured):
    """metrics/evaluate/METHOD_model.json."""

    encoder: str
    parameters: Whole
    multiply_adds: Annotated[int, Field(ge=0, le=1e18)]
    file_bytes: Whole
    map_variance: Annotated[list[Fraction], Field(min_length=1)]


class BaselineChoice(Content):
    """Of metrics/baselines.json: accuracy on validation by budget and baseline; {}: it has too few labels."""

    validation: dict[BudgetName, Accuracies]


# --- timings


class Timings(Content):
    """metrics/timings/STAGE/METHOD.json."""

    hardware: str
    threads: Whole
    seconds: Amount
    images_per_second: Amount


class Speed(Timings):
    """metrics/timings/evaluate/METHOD.json where something was finetuned."""

    latency_ms_p50: Amount
    latency_ms_p95: Amount
    inference_images_per_second: Amount
