"""Names and ranges that values in `params.yaml` may have, and the base of its sections."""

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict

from stages.errors import InputError, one_line
from stages.settings.findings import unknown
from stages.settings.pipeline import BACK, PIPELINE

METHODS = Path(__file__).parents[1] / "pretrain" / "methods"
IMPORTED = "imported"  # the second control: weights from elsewhere, as they came
CONTROL = "scratch"  # the method that every gain is measured against
BASELINE = "baseline"  # the protocol of the simple baselines
MAJORITY = "majority"
PUBLIC = "imagenet"  # not a simple one: somebody trained its network on a million labelled photographs
BASELINES = {  # what the methods are compared with, and what it is called in sentences
    MAJORITY: "the commonest class",
    "pixels_1nn": "the nearest image by pixels",
    "hog_svm": "HOG + SVM",
    "hog_forest": "HOG + forest",
    PUBLIC: "a linear probe of ImageNet's MobileNetV2",
}
OFFICIAL = {"mnist": (60_000, 10), "fashion-mnist": (60_000, 10)}  # training images, classes
FOLDER = "folder"  # the source that is the user's own images
DEFAULT = "default"  # the recipe that completes the one of each method
TORCHVISION = (  # datasets for classification with a test split, by torchvision's names
    *("CIFAR10", "CIFAR100", "Country211", "DTD", "FGVCAircraft", "FashionMNIST", "Flowers102", "Food101"),
    *("GTSRB", "Imagenette", "KMNIST", "MNIST", "OxfordIIITPet", "PCAM", "RenderedSST2", "STL10", "SVHN"),
    *("StanfordCars", "USPS"),
)
SOURCES = (*OFFICIAL, FOLDER, *(f"torchvision/{name}" for name in TORCHVISION))

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Rate = Annotated[float, Field(ge=0, le=10)]
Area = Annotated[float, Field(gt=0, le=1)]
Magnification = Annotated[float, Field(gt=0, le=10)]


def first_pretrained(methods: Iterable[str]) -> str:
    """The method that is taken where validation has too few labels to choose one: the first by name.

    The control is taken only where there is no other method.
    """
    return min(methods, key=lambda method: (method == CONTROL, method))


def available_methods() -> list[str]:
    """The names of the files in stages/pretrain/methods."""
    return sorted(path.stem for path in METHODS.glob("[a-z]*.py"))


def _method(name: object) -> object:
    if name not in available_methods():
        raise ValueError(f": {unknown(name, available_methods())}")
    return name


def _recipe_name(name: object) -> object:
    return name if name == DEFAULT else _method(name)


def _source(name: object) -> object:
    if name not in list(SOURCES):
        raise ValueError(f": {unknown(name, list(SOURCES))}")
    return name


def _baseline(name: object) -> object:
    if name not in list(BASELINES):
        raise ValueError(f": {unknown(name, list(BASELINES))}")
    return name


def _budget(value: object) -> object:
    if value != "all" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError(f" is {value!r}; allowed: 'all' or a whole number of labelled images")
    return value


def distinct(values: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
    """Refuse a list that has an element twice."""
    if len(set(values)) < len(values):
        raise ValueError(f" is {list(values)}; allowed: each name once")
    return values


def ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    """Refuse a range whose larger number comes first."""
    if bounds[0] > bounds[1]:
        raise ValueError(f" is {list(bounds)}; allowed: the smaller number first")
    return bounds


def _channels(value: object) -> object:
    if isinstance(value, bool) or value not in ("auto", 1, 3):  # True equals 1
        raise ValueError(f" is {value!r}; allowed: 'auto', 1 or 3")
    return value


def _path(value: str) -> str:
    if not value:
        raise ValueError(" is ''; allowed: a path")
    if one_line(value) != value:
        raise ValueError(f" is {value!a}; allowed: a path without control characters")
    return value


Channels = Annotated[Literal["auto", 1, 3], BeforeValidator(_channels)]
PlainPath = Annotated[str, AfterValidator(_path)]
Method = Annotated[str, BeforeValidator(_method)]
RecipeName = Annotated[str, BeforeValidator(_recipe_name)]
# NOTE: a preset's name is part of a key, `views.presets.digits`: no dot, nothing that YAML reads as a number.
PresetName = Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_-]*$")]
SourceName = Annotated[str, BeforeValidator(_source)]
BaselineName = Annotated[str, BeforeValidator(_baseline)]
Budgets = Annotated[
    tuple[Annotated[int | str, BeforeValidator(_budget)], ...],
    Field(min_length=1),
    Strict(False),
    AfterValidator(distinct),
]

BUDGET_NAME = "^n(all|[1-9][0-9]{0,8})$"  # what `tasks.draws.budget_name` gives


class UndeclaredError(InputError, AttributeError):
    """A stage reads a parameter that dvc.yaml does not list under its `params`."""


class Section(BaseModel):
    """A part of params.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    if not TYPE_CHECKING:  # mypy would then allow every name

        def __getattr__(self, name):
            """Called where a section lacks a value."""
            if name not in type(self).model_fields:
                return super().__getattr__(name)
            raise UndeclaredError(
                f"{PIPELINE}: the parameter {name}, which the stage reads, is not among its params; {BACK}"
            )
