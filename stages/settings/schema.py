"""The sections of `params.yaml` as frozen, typed models: each key, its type and its range.

The code has no defaults. A value may be left out only if it is off (a transform of a view, the weights that a
method starts from), if `finetune.recipe.default` has it, or if a whole recipe is chosen. The model of a
method's own section is in the method's file, `stages/pretrain/methods/METHOD.py`.
"""

import importlib
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, Strict, field_validator, model_validator

from stages.errors import InputError
from stages.settings.data import Data
from stages.settings.findings import unknown
from stages.settings.network_names import TIMM, NetworkName
from stages.settings.recipes import Choose, Distil, Finetune
from stages.settings.values import (
    METHODS,
    Area,
    BaselineName,
    Count,
    Fraction,
    Magnification,
    Method,
    PlainPath,
    PresetName,
    Rate,
    Section,
    Seed,
    ascending,
    distinct,
)


def method_params(name: str) -> type[Section]:
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


class Seeds(Section):
    """Seeds of held-out images, of labelled images, and of weights, batches and views: each moves its own."""

    split: Seed
    draws: Seed
    training: Seed


class Threads(Section):
    """CPU threads of each training and each evaluated model, by stage."""

    pretrain: Annotated[int, Field(ge=1, le=1024)]
    finetune: Annotated[int, Field(ge=1, le=1024)]
    evaluate: Annotated[int, Field(ge=1, le=1024)]


class Runtime(Section):
    """Where and how the arithmetic is done."""

    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "fp32", "bf16"]
    threads: Threads


class EncoderParams(Section):
    """The network that is pretrained."""

    name: NetworkName
    # NOTE: with 4 channels PyTorch 2.15 (oneDNN) corrupts its heap on CPUs that have AVX2 and no AVX-512.
    width: Annotated[int, Field(ge=8, le=1024)]
    input_size: Annotated[int, Field(ge=8, le=1024)] | None = None

    @model_validator(mode="after")
    def _enlarged(self) -> Self:
        if self.input_size is not None and not self.name.startswith(TIMM):
            raise ValueError(f".input_size is {self.input_size}; allowed: null (only {TIMM}NAME has it)")
        return self


class Views(Section):
    """How strong each random transform of a view may be; one that is left out is off."""

    crop: Annotated[tuple[Area, Area], Strict(False), AfterValidator(ascending)] = (1, 1)
    flip: Fraction = 0
    rotate: Annotated[float, Field(ge=0, le=180)] = 0
    scale: Annotated[tuple[Magnification, Magnification], Strict(False), AfterValidator(ascending)] = (1, 1)
    shear: Annotated[float, Field(ge=0, le=60)] = 0
    shift: Fraction = 0
    reflect: bool = False
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
    """Named strengths of the transforms, and which of them pretraining and finetuning use."""

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


PUBLISHED = "imagenet"
PUBLISHED_FOR = "timm/mobilenetv2_100"


class Start(Section):
    """Weights that an encoder starts from: a file of another branch or program, or published ones.

    Attributes:
        file: its path, for example after `dvc import` or `dvc get`; or PUBLISHED: the weights that
            torchvision publishes for PUBLISHED_FOR, trained on ImageNet's labels.
        digest: the hash of its content. As a parameter it tells DVC when the weights change. None: not
            known yet; the stage then says which one to enter. Not used with PUBLISHED, whose hash is known.
    """

    file: PlainPath
    digest: str | None


class Training(Section):
    """What every pretraining method that trains has in common; a method adds its own parameters.

    Attributes:
        encoders: the encoders that the method can work with; empty: all.
        smallest_batch: the fewest images of a batch with which the loss is meaningful. Two at least, because
            BatchNorm needs a variance; methods that compare images of a batch need more.
        enough_steps: with fewer steps than this, `pretrain` warns that the training is short.
        images: how many the training sees, each as often as it comes up.
        steps: the fewest steps, where `images` are fewer: a small pool is then passed through more often.
        start: weights to start from; None: fresh ones.
    """

    encoders: ClassVar[tuple[str, ...]] = ()
    smallest_batch: ClassVar[int] = 2
    # On folders of 1,600 and 6,800 images SimCLR was ahead of scratch with 996 and 1,484 steps, and behind it
    # with 48 and 213.
    enough_steps: ClassVar[int] = 1000

    images: Count
    steps: Count
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


class Pretrain(Section):
    """How often each method is pretrained; beside it, under its name, the section of each method.

    Attributes:
        runs: pretrainings of each method, each with random numbers of its own.
    """

    model_config = ConfigDict(extra="allow")
    # Each section is validated by the method's own model, when params.yaml is loaded.
    __pydantic_extra__: dict[Method, Any] = Field(init=False)

    runs: Annotated[int, Field(ge=1, le=100)]

    def __getitem__(self, method: str) -> Any:
        """The section of a method."""
        return getattr(self, method)


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

    seeds: Seeds
    methods: Annotated[tuple[Method, ...], Field(min_length=1), Strict(False), AfterValidator(distinct)]
    runtime: Runtime
    data: Data
    encoder: EncoderParams
    views: ViewPresets
    pretrain: Pretrain
    finetune: Finetune
    choose: Choose
    distil: Distil
    probe: LinearProbe
    knn: Neighbours
    baselines: Annotated[tuple[BaselineName, ...], Strict(False), AfterValidator(distinct)]
    health: Health
