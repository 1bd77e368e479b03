"""The sections of `params.yaml` as frozen, typed models: each key, its type and its range.

There are no defaults: what is in force stands in the file. A method's own section has its model
in the method's own file, `stages/pretrain/methods/METHOD.py`.
"""

from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict

from stages.findings import unknown

METHODS = Path(__file__).parent / "pretrain" / "methods"
CONTROL = "scratch"  # the method that every gain is measured against
OFFICIAL = {"mnist": (60_000, 10), "fashion-mnist": (60_000, 10)}  # training images, classes
FOLDER = "folder"  # the source that is the user's own images
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


def _method(name: object) -> object:
    if name not in available_methods():
        raise ValueError(f": {unknown(name, available_methods())}")
    return name


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
# It is a part of DVC's keys, `views.presets.digits`: so no dot, and nothing that YAML takes for a number.
PresetName = Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_-]*$")]
SourceName = Annotated[str, BeforeValidator(_source)]
Budgets = Annotated[
    tuple[Annotated[int | str, BeforeValidator(_budget)], ...],
    Field(min_length=1),
    Strict(False),
    AfterValidator(_distinct),
]


class Section(BaseModel):
    """A part of params.yaml. There are no defaults: what is in force stands in the file."""

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


class Views(Section):
    """How far each random transform of a view may go; 0 switches one off (crop and scale: [1, 1])."""

    crop: Annotated[tuple[Area, Area], Strict(False), AfterValidator(_ascending)]
    flip: Fraction
    rotate: Annotated[float, Field(ge=0, le=180)]
    scale: Annotated[tuple[Magnification, Magnification], Strict(False), AfterValidator(_ascending)]
    shear: Annotated[float, Field(ge=0, le=60)]
    shift: Fraction
    elastic: Annotated[float, Field(ge=0, le=64)]
    thickness: Fraction
    brightness: Fraction
    contrast: Fraction
    saturation: Fraction
    hue: Annotated[float, Field(ge=0, le=0.5)]
    grayscale: Fraction
    blur: Annotated[float, Field(ge=0, le=64)]
    gamma: Annotated[float, Field(ge=0, le=4)]
    dim: Fraction
    noise: Fraction
    erase: Fraction


class ViewPresets(Section):
    """Named strengths, and which of them pretraining and finetuning draw their views with."""

    pretrain: str
    finetune: str
    presets: Annotated[dict[PresetName, Views], Field(min_length=1)]


class Training(Section):
    """What every pretraining method that trains has in common; a method adds its own knobs.

    Attributes:
        encoders: those that the method can work with, where it needs a kind of its own; empty: all.
        smallest_batch: so few images still make its loss worth something. Two, for BatchNorm needs
            a variance; methods that learn from a batch's other images or its statistics need more.
    """

    encoders: ClassVar[tuple[str, ...]] = ()
    smallest_batch: ClassVar[int] = 2

    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Rate
    weight_decay: Rate
    warmup: Fraction


class Recipe(Section):
    """How one method's encoder is finetuned: chosen on validation, from one grid for all."""

    encoder_learning_rate: Rate
    encoder_learning_rate_many: Rate
    head_learning_rate: Rate
    weight_decay: Rate
    weight_decay_many: Rate
    labels: Literal["own", "propagated"]


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
    recipe: dict[Method, Recipe]


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
