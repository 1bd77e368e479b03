"""The sections of `params.yaml` as frozen, typed models: each key, its type and its range.

Every value is in the file. Only what is off may be left out: a transform of a view, the weights that a
method starts from. The model of a method's own section is in the method's file,
`stages/pretrain/methods/METHOD.py`.
"""

import importlib
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    field_validator,
    model_validator,
)

from stages.errors import InputError
from stages.settings.findings import unknown

METHODS = Path(__file__).parents[1] / "pretrain" / "methods"
CONTROL = "scratch"  # the method that every gain is measured against
OFFICIAL = {"mnist": (60_000, 10), "fashion-mnist": (60_000, 10)}  # training images, classes
FOLDER = "folder"  # the source that is the user's own images
DEFAULT = "default"  # the recipe that every method's own one completes
TORCHVISION = (  # datasets for classification with a test split, by torchvision's names
    *("CIFAR10", "CIFAR100", "Country211", "DTD", "FGVCAircraft", "FashionMNIST", "Flowers102", "Food101"),
    *("GTSRB", "Imagenette", "KMNIST", "MNIST", "OxfordIIITPet", "PCAM", "RenderedSST2", "STL10", "SVHN"),
    *("StanfordCars", "USPS"),
)
SOURCES = (*OFFICIAL, FOLDER, *(f"torchvision/{name}" for name in TORCHVISION))

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, le=10)]
Area = Annotated[float, Field(gt=0, le=1)]
Magnification = Annotated[float, Field(gt=0, le=10)]


def available_methods() -> list[str]:
    """The names of the files in stages/pretrain/methods."""
    return sorted(path.stem for path in METHODS.glob("[a-z]*.py"))


def method_params(name: str) -> type["Section"]:
    """The parameter model in a method's own file.

    Raises:
        InputError: the file cannot be imported, or has no `Params`.
    """
    try:
        model: type[Section] = importlib.import_module(f"stages.pretrain.methods.{name}").Params
    except (ImportError, SyntaxError, AttributeError) as error:
        file = METHODS / f"{name}.py"
        raise InputError(f"{file}: cannot be used as a method ({type(error).__name__}: {error})") from None
    return model


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


def _budget(value: object) -> object:
    if value != "all" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError(f" is {value!r}; allowed: 'all' or a whole number of labelled images")
    return value


def _distinct(values: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f" is {list(values)}; allowed: each name once")
    return values


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f" is {list(bounds)}; allowed: the smaller number first")
    return bounds


def _channels(value: object) -> object:
    if isinstance(value, bool) or value not in ("auto", 1, 3):  # True equals 1
        raise ValueError(f" is {value!r}; allowed: 'auto', 1 or 3")
    return value


Channels = Annotated[Literal["auto", 1, 3], BeforeValidator(_channels)]
Method = Annotated[str, BeforeValidator(_method)]
RecipeName = Annotated[str, BeforeValidator(_recipe_name)]
# NOTE: a preset's name is part of a key, `views.presets.digits`: no dot, nothing that YAML reads as a number.
PresetName = Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_-]*$")]
SourceName = Annotated[str, BeforeValidator(_source)]
Budgets = Annotated[
    tuple[Annotated[int | str, BeforeValidator(_budget)], ...],
    Field(min_length=1),
    Strict(False),
    AfterValidator(_distinct),
]


class Section(BaseModel):
    """A part of params.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Runtime(Section):
    """Where and how the arithmetic is done."""

    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "fp32", "bf16"]
    threads: Annotated[int, Field(ge=1, le=1024)]


class Folder(Section):
    """How a folder of the user's own images is split, and what of it is left out."""

    test: Annotated[float, Field(gt=0, le=0.5)]
    validation: Annotated[float, Field(gt=0, le=0.5)]
    on_bad_image: Literal["error", "skip"]
    twins: Annotated[float, Field(gt=0, le=1)] | None


class Data(Section):
    """Which images, and how they are split."""

    source: SourceName
    path: str
    validation: Annotated[int, Field(ge=20)]
    train_limit: Count | None
    test_limit: Count | None
    image_size: Annotated[int, Field(ge=8, le=1024)]
    channels: Channels
    folder: Folder


class EncoderParams(Section):
    """The network that is pretrained."""

    name: Literal["cnn", "residual", "vit", "resnet18", "resnet50", "vit_b_16"]
    # NOTE: with 4 channels PyTorch 2.15 (oneDNN) corrupts its heap on CPUs that have AVX2 and no AVX-512.
    width: Annotated[int, Field(ge=8, le=1024)]
    weights: Literal["random", "torchvision"]

    @model_validator(mode="after")
    def _published(self) -> Self:
        if self.weights == "torchvision" and self.name in ("cnn", "residual", "vit"):
            raise ValueError(
                f".weights is 'torchvision'; allowed: random (torchvision has no weights for {self.name})"
            )
        return self


class Views(Section):
    """How strong each random transform of a view may be; one that is left out is off."""

    crop: Annotated[tuple[Area, Area], Strict(False), AfterValidator(_ascending)] = (1, 1)
    flip: Fraction = 0
    rotate: Annotated[float, Field(ge=0, le=180)] = 0
    scale: Annotated[tuple[Magnification, Magnification], Strict(False), AfterValidator(_ascending)] = (1, 1)
    shear: Annotated[float, Field(ge=0, le=60)] = 0
    shift: Fraction = 0
    elastic: Annotated[float, Field(ge=0, le=64)] = 0
    thickness: Fraction = 0
    brightness: Fraction = 0
    contrast: Fraction = 0
    saturation: Fraction = 0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0
    grayscale: Fraction = 0
    blur: Annotated[float, Field(ge=0, le=64)] = 0
    gamma: Annotated[float, Field(ge=0, le=4)] = 0
    dim: Fraction = 0
    noise: Fraction = 0
    erase: Fraction = 0


class ViewPresets(Section):
    """Named strengths, and which of them pretraining and finetuning draw their views with."""

    pretrain: str
    finetune: str
    presets: Annotated[dict[PresetName, Views], Field(min_length=1)]

    @model_validator(mode="after")
    def _known(self) -> Self:
        chosen = {"pretrain": self.pretrain, "finetune": self.finetune}
        lines = [
            f".{key}: {unknown(name, list(self.presets))}"
            for key, name in chosen.items()
            if name not in self.presets
        ]
        if lines:
            raise ValueError(*lines)
        return self


class Start(Section):
    """Weights that an encoder starts from: a file of another branch, repository or remote.

    Attributes:
        file: its path, for example after `dvc import` or `dvc get`.
        digest: the hash of its content. As a parameter it tells DVC when the weights change. None: not
            known yet; the stage then says which one to enter.
    """

    file: str
    digest: str | None


class Training(Section):
    """What every pretraining method that trains has in common; a method adds its own parameters.

    Attributes:
        encoders: the encoders that the method can work with; empty: all.
        smallest_batch: the fewest images of a batch with which the loss is meaningful. Two at least, because
            BatchNorm needs a variance; methods that compare images of a batch need more.
        start: weights to start from; None: fresh ones.
    """

    encoders: ClassVar[tuple[str, ...]] = ()
    smallest_batch: ClassVar[int] = 2

    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Rate
    weight_decay: Rate
    warmup: Fraction
    start: Start | None = None

    @field_validator("batch_size")
    @classmethod
    def _enough(cls, size: int) -> int:
        if size < cls.smallest_batch:
            raise ValueError(
                f" is {size}; allowed: at least {cls.smallest_batch} (the loss of fewer images says little)"
            )
        return size


class Recipe(Section):
    """How one method's encoder is finetuned."""

    encoder_learning_rate: Rate
    encoder_learning_rate_many: Rate
    head_learning_rate: Rate
    weight_decay: Rate
    weight_decay_many: Rate
    labels: Literal["own", "propagated"]


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
    few: Count
    many: Count
    class_weights: Literal["equal", "balanced"]


class Finetune(Section):
    """The label budgets, the draws, and how encoder and head are trained on them."""

    budgets: Budgets
    draws: Annotated[int, Field(ge=1, le=100)]
    schedule: Schedule
    recipe: Annotated[dict[RecipeName, Recipe], BeforeValidator(_completed)]


class Health(Section):
    """What happens when the features collapse during pretraining."""

    on_collapse: Literal["warn", "stop"]


class LinearProbe(Section):
    """The linear classifier on frozen features."""

    l2: Annotated[float, Field(gt=0)]


class Neighbours(Section):
    """The vote of the nearest neighbours in feature space."""

    k: Count
    temperature: Annotated[float, Field(gt=0)]


class Params(Section):
    """The whole of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    methods: Annotated[tuple[Method, ...], Field(min_length=1), Strict(False), AfterValidator(_distinct)]
    runtime: Runtime
    data: Data
    encoder: EncoderParams
    views: ViewPresets
    pretrain: dict[Method, Any]  # each method's section, validated by that method's own model
    finetune: Finetune
    probe: LinearProbe
    knn: Neighbours
    health: Health
