"""`params.yaml` as typed values: the whole file is validated, only what is declared is handed out.

A stage gets its parameters from `load("finetune", "simclr")`. Every call validates the *whole*
file, so a typing error is found before any work is done, and then cuts the result down to the
keys that the stage declares in `dvc.yaml`. What is not declared cannot be read, so no stage can
depend on a knob that DVC does not track.

`python -m stages.params` validates the file and does nothing else.
"""

import importlib
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.errors import InputError, reported
from stages.findings import dotted, findings, unknown

PARAMS, PIPELINE = Path("params.yaml"), Path("dvc.yaml")
METHODS = Path(__file__).parent / "pretrain" / "methods"
CONTROL = "scratch"  # the method that every gain is measured against

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, le=10)]
Magnification = Annotated[float, Field(gt=0, le=10)]


def available_methods() -> list[str]:
    """The names of the files in stages/pretrain/methods."""
    return sorted(path.stem for path in METHODS.glob("[a-z]*.py"))


def _method(name: object) -> object:
    if name not in available_methods():
        raise ValueError(f": {unknown(name, available_methods())}")
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


Method = Annotated[str, BeforeValidator(_method)]
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


class Data(Section):
    """Which images, and how they are split."""

    source: Literal["mnist"]
    path: str
    validation: Annotated[int, Field(ge=20)]
    train_limit: Count | None
    test_limit: Count | None


class EncoderParams(Section):
    """The network that is pretrained."""

    name: Literal["cnn", "residual"]
    width: Annotated[int, Field(ge=4, le=1024)]


class Views(Section):
    """How far each random transform of a view may go; 0 switches one off (scale: [1, 1])."""

    rotate: Annotated[float, Field(ge=0, le=180)]
    scale: Annotated[tuple[Magnification, Magnification], Strict(False), AfterValidator(_ascending)]
    shear: Annotated[float, Field(ge=0, le=60)]
    shift: Fraction
    elastic: Annotated[float, Field(ge=0, le=64)]
    thickness: Fraction
    gamma: Annotated[float, Field(ge=0, le=4)]
    contrast: Fraction
    noise: Fraction
    erase: Fraction


class Training(Section):
    """What every pretraining method that trains has in common; a method adds its own knobs."""

    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Rate
    weight_decay: Rate
    warmup: Fraction


class Recipe(Section):
    """How one method's encoder is finetuned: chosen on validation, from one grid for all."""

    encoder_learning_rate: Rate
    head_learning_rate: Rate
    weight_decay: Rate
    head: Literal["zero", "probe"]


class Schedule(Section):
    """How long and in what batches every method is finetuned: the same for all."""

    steps: Count
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    warmup: Fraction


class Finetune(Section):
    """The label budgets, the draws, and how encoder and head are trained on them."""

    budgets: Budgets
    draws: Annotated[int, Field(ge=2, le=100)]
    schedule: Schedule
    views: Views
    recipe: dict[Method, Recipe]


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
    pretrain: dict[Method, Any]  # each method's section, validated by that method's own model
    finetune: Finetune
    probe: LinearProbe
    knn: Neighbours


def load(stage: str, method: str | None = None) -> Params:
    """The parameters that `stage` declares in dvc.yaml, after validating all of params.yaml.

    Raises:
        InputError: one finding for each thing that is wrong in the file.
        AttributeError: later, when the stage reads a key that it does not declare.
    """
    params = validated(read(PARAMS))
    if method is not None and method not in params.methods:
        raise InputError(f"{PARAMS}: methods: {method} is not among {', '.join(params.methods)}")
    cut: Params = _only(params, declared_keys(stage, method))
    return cut


def named_method(stage: str, arguments: list[str]) -> str:
    """The method that a stage was started for, `python -m stages.STAGE METHOD`."""
    if len(arguments) != 1:
        raise InputError(f"usage: python -m stages.{stage} METHOD; METHOD is one of `methods` in {PARAMS}")
    return arguments[0]


def declared_keys(stage: str, method: str | None = None) -> list[str]:
    """The keys under `params:` of a stage in dvc.yaml, with the matrix item filled in."""
    keys = read(PIPELINE)["stages"][stage].get("params", [])
    return [key.replace("${item.method}", method or "") for key in keys]


def validated(raw: Any) -> Params:
    """Turn the file's content into `Params`; every finding is reported, not only the first."""
    if not isinstance(raw, dict):
        raise InputError(f"{PARAMS}: should hold sections such as 'data:' and 'finetune:'")
    found: list[str] = []
    params = None
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        found += findings(error, Params)
    sections, of_methods = _method_sections(raw.get("pretrain"))
    found += of_methods + _missing_sections(raw) + _misfits(raw)
    if found or params is None:
        raise InputError(*(f"{PARAMS}: {line}" for line in found))
    return params.model_copy(update={"pretrain": sections})


def _method_sections(raw: Any) -> tuple[dict[str, Section], list[str]]:
    """Each method's section by the model in the method's own file; and what is wrong in them."""
    sections, found = {}, []
    for name, section in raw.items() if isinstance(raw, dict) else ():
        if name in available_methods():  # else Params has found it
            try:
                sections[name] = method_params(name).model_validate(section)
            except ValidationError as error:
                found += findings(error, method_params(name), f"pretrain.{name}")
    return sections, found


def method_params(name: str) -> type[Section]:
    """The parameter model that stands in the method's own file."""
    model: type[Section] = importlib.import_module(f"stages.pretrain.methods.{name}").Params
    return model


def _missing_sections(raw: dict[str, Any]) -> list[str]:
    """Methods that are named without a section of their own."""
    found = []
    named = raw.get("methods")
    for name in named if isinstance(named, list) else ():
        for path in (("pretrain",), ("finetune", "recipe")):
            section: Any = raw
            for part in path:
                section = section.get(part) if isinstance(section, dict) else None
            if name in available_methods() and isinstance(section, dict) and name not in section:
                found.append(f"{dotted('', *path, name)} is missing; methods names {name}")
    return found


def _misfits(raw: dict[str, Any]) -> list[str]:
    """What can be known to be too large or too small before the data is read."""
    try:
        data = Data.model_validate(raw.get("data"))
        budgets = TypeAdapter(Budgets).validate_python(raw["finetune"]["budgets"])
    except (ValidationError, KeyError, TypeError):
        return []  # these are findings already
    available, classes = 60_000, 10  # MNIST, the one source so far
    images = min(data.train_limit or available, available)
    pool = images - data.validation
    if pool < classes:
        return [
            f"data.validation is {data.validation}; allowed: so few that at least {classes} "
            f"of the {images} training images remain in the pool"
        ]
    sections = raw["pretrain"].items() if isinstance(raw.get("pretrain"), dict) else ()
    sizes = {name: section.get("batch_size") for name, section in sections if isinstance(section, dict)}
    return [
        f"pretrain.{name}.batch_size is {size}; allowed: 2 to {pool} (the pool)"
        for name, size in sizes.items()
        if isinstance(size, int) and size > pool
    ] + [
        f"finetune.budgets[{index}] is {budget}; allowed: 'all' or {classes} (one label a class) "
        f"to {pool} (the pool)"
        for index, budget in enumerate(budgets)
        if isinstance(budget, int) and not classes <= budget <= pool
    ]


def read(path: Path) -> Any:
    """A YAML file's content, not validated."""
    # NOTE: the same YAML parser as DVC's, so that both read `1e-3` as the same number.
    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no valid YAML: {' '.join(str(error).split())}") from None


def _only(value: Any, keys: list[str]) -> Any:
    """A copy of a section in which nothing exists but the dotted `keys`."""
    kept: dict[str, list[str]] = {}
    for key in keys:
        first, _, rest = key.partition(".")
        kept.setdefault(first, []).append(rest)
    parts = {name: (value[name] if isinstance(value, dict) else getattr(value, name)) for name in kept}
    cut = {name: parts[name] if "" in rest else _only(parts[name], rest) for name, rest in kept.items()}
    return cut if isinstance(value, dict) else type(value).model_construct(None, **cut)


if __name__ == "__main__":
    with reported():
        validated(read(PARAMS))
