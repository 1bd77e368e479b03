"""`params.yaml` as typed values: the whole file is validated, only what is declared is handed out.

A stage gets its parameters from `load("finetune", "simclr")`. Every call validates the *whole*
file, so a typing error is found before any work is done, and then cuts the result down to the
keys that the stage declares in `dvc.yaml`. What is not declared cannot be read, so no stage can
depend on a knob that DVC does not track.

`python -m stages.params` validates the file and does nothing else.
"""

import difflib
import importlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.errors import InputError, reported

PARAMS, PIPELINE = Path("params.yaml"), Path("dvc.yaml")
METHODS = Path(__file__).parent / "pretrain" / "methods"
CONTROL = "scratch"  # the method that every gain is measured against

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, le=10)]


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
    scale: Annotated[
        tuple[Annotated[float, Field(gt=0, le=10)], Annotated[float, Field(gt=0, le=10)]],
        Strict(False),
    ]
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

    budgets: Annotated[tuple[Count | Literal["all"], ...], Field(min_length=1), Strict(False)]
    draws: Annotated[int, Field(ge=2, le=100)]
    schedule: Schedule
    views: Views
    recipe: dict[str, Recipe]


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
    methods: Annotated[tuple[str, ...], Field(min_length=1), Strict(False)]
    runtime: Runtime
    data: Data
    encoder: EncoderParams
    pretrain: dict[str, Any]  # each method's section, validated by that method's own model
    finetune: Finetune
    probe: LinearProbe
    knn: Neighbours

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, values in (("methods", self.methods), ("finetune.budgets", self.finetune.budgets)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} is {list(values)}; each may be named once")
        return self


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


def declared_keys(stage: str, method: str | None = None) -> list[str]:
    """The keys under `params:` of a stage in dvc.yaml, with the matrix item filled in."""
    keys = read(PIPELINE)["stages"][stage].get("params", [])
    return [key.replace("${item.method}", method or "") for key in keys]


def validated(raw: Any) -> Params:
    """Turn the file's content into `Params`; every finding is reported, not only the first."""
    if not isinstance(raw, dict):
        raise InputError(f"{PARAMS}: should hold sections such as 'data:' and 'finetune:'")
    findings: list[str] = []
    sections: dict[str, Any] = {}
    raw_sections = raw.get("pretrain") if isinstance(raw.get("pretrain"), dict) else {}
    for name, section in (raw_sections or {}).items():
        if name in available_methods():
            try:
                sections[name] = method_params(name).model_validate(section)
            except ValidationError as error:
                findings += _findings(error, method_params(name), f"pretrain.{name}.")
        else:
            findings.append(f"{PARAMS}: pretrain.{name}: {_unknown(name, available_methods())}")
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        raise InputError(*_findings(error, Params), *findings) from None
    findings += _method_findings(params)
    findings += _size_findings(params)
    if findings:
        raise InputError(*findings)
    return params.model_copy(update={"pretrain": sections})


def available_methods() -> list[str]:
    """The names of the files in stages/pretrain/methods."""
    return sorted(path.stem for path in METHODS.glob("[a-z]*.py"))


def method_params(name: str) -> type[Section]:
    """The parameter model that stands in the method's own file."""
    model: type[Section] = importlib.import_module(f"stages.pretrain.methods.{name}").Params
    return model


def _method_findings(params: Params) -> list[str]:
    findings = []
    for name in params.methods:
        if name not in available_methods():
            findings.append(f"{PARAMS}: methods: {_unknown(name, available_methods())}")
            continue
        sections = {"pretrain": params.pretrain, "finetune.recipe": params.finetune.recipe}
        for where, section in sections.items():
            if name not in section:
                findings.append(f"{PARAMS}: {where}.{name} is missing; methods names {name}")
    return findings


def _size_findings(params: Params) -> list[str]:
    """What can be known to be too large or too small before the data is read."""
    data, findings = params.data, []
    train, classes = 60_000, 10  # MNIST, the one source so far
    pool = min(data.train_limit or train, train) - data.validation
    if pool < classes:
        return [
            f"{PARAMS}: data.validation is {data.validation}; allowed: at most "
            f"{pool + data.validation - classes}, so that {classes} images remain in the pool"
        ]
    for index, budget in enumerate(params.finetune.budgets):
        if budget != "all" and not classes <= budget <= pool:
            findings.append(
                f"{PARAMS}: finetune.budgets[{index}] is {budget}; allowed: 'all' or "
                f"{classes} (one label a class) to {pool} (the pool)"
            )
    return findings


def _findings(error: ValidationError, model: type[Section], prefix: str = "") -> list[str]:
    """One line for each of pydantic's errors: the key, the value, and what is allowed."""
    lines: dict[str, str] = {}
    for item in error.errors():
        # NOTE: parts such as 'literal[...]' name a branch of a union and are no key of the file.
        parts = [p for p in item["loc"] if isinstance(p, int) or re.fullmatch(r"[a-z]\w*", p)]
        parts = [p for p in parts if p not in ("int", "float", "str", "constrained")]
        key = prefix + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts).lstrip(".")
        if item["type"] == "extra_forbidden":
            text = f"{key}: {_unknown(str(parts[-1]), _known_keys(model, parts[:-1]))}"
        elif item["type"] == "missing":
            text = f"{key} is missing"
        elif item["type"] == "value_error":
            text = str(item["ctx"]["error"])
        else:
            allowed = item["msg"].replace("Input should be ", "").replace("Tuple should", "should")
            text = f"{key} is {item['input']!r}; allowed: {allowed}"
        # A union reports one error per branch: they are one finding.
        lines[key] = f"{lines[key]}, or {text.split('allowed: ')[-1]}" if key in lines else text
    return [f"{PARAMS}: {line}" for line in lines.values()]


def _known_keys(model: type[BaseModel], path: Iterable[str | int]) -> list[str]:
    for part in path:
        field = model.model_fields.get(str(part))
        if field is None:  # the name of a method inside a mapping: stay with its model
            continue
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"unknown name {name!r}{hint}; allowed: {', '.join(known)}"


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
