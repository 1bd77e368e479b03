"""`params.yaml` as typed values: the whole file is validated, only what is declared is handed out.

A stage gets its parameters from `load("finetune", "simclr")`. Every call validates the *whole*
file, so a typing error is found before any work is done, and then cuts the result down to the
keys that the stage declares in `dvc.yaml`. What is not declared cannot be read, so no stage can
depend on a knob that DVC does not track.

`python -m stages.params` validates the file and does nothing else.
"""

import importlib
import re
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.errors import InputError, reported
from stages.findings import dotted, findings, unknown
from stages.sections import (
    METHODS,
    OFFICIAL,
    Budgets,
    Data,
    Params,
    Section,
    Training,
    available_methods,
)

PARAMS, PIPELINE = Path("params.yaml"), Path("dvc.yaml")


def load(stage: str, method: str | None = None, raw: Any = None) -> Params:
    """The parameters that `stage` declares in dvc.yaml, after validating all of params.yaml.

    Args:
        raw: the file's content, where it was read already.

    Raises:
        InputError: one finding for each thing that is wrong in the file.
        AttributeError: later, when the stage reads a key that it does not declare.
    """
    raw = read(PARAMS) if raw is None else raw
    params = validated(raw)
    if method is not None and method not in params.methods:
        raise InputError(f"{PARAMS}: methods: {method} is not among {', '.join(params.methods)}")
    cut: Params = _only(params, declared_keys(stage, method, raw))
    return cut


def named_method(stage: str, arguments: list[str]) -> str:
    """The method that a stage was started for, `python -m stages.STAGE METHOD`."""
    if len(arguments) != 1:
        raise InputError(f"usage: python -m stages.{stage} METHOD; METHOD is one of `methods` in {PARAMS}")
    return arguments[0]


def declared_keys(stage: str, method: str | None, raw: Any) -> list[str]:
    """The keys under `params:` of a stage in dvc.yaml, with each `${…}` filled in."""
    keys = _declared(stage, "params", method)
    return [re.sub(r"\$\{(.+?)\}", lambda name: str(_value(raw, name[1])), key) for key in keys]


def declared_values(stage: str, method: str | None, raw: Any = None) -> dict[str, Any]:
    """What stands in params.yaml under each key that a stage declares; `raw`: as above."""
    raw = read(PARAMS) if raw is None else raw
    return {key: _value(raw, key) for key in declared_keys(stage, method, raw)}


def declared_files(stage: str, method: str | None) -> list[str]:
    """The files and folders under `deps:` of a stage in dvc.yaml."""
    return _declared(stage, "deps", method)


def _declared(stage: str, what: str, method: str | None) -> list[str]:
    entries = read(PIPELINE)["stages"][stage].get(what, [])
    return [entry.replace("${item.method}", method or "") for entry in entries]


def _value(raw: Any, key: str) -> Any:
    """What stands at a dotted key of the file; None where nothing does."""
    for part in key.split("."):
        raw = raw.get(part) if isinstance(raw, dict) else None
    return raw


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
    found += of_methods + _missing_sections(raw) + _unknown_presets(raw) + _unfit(raw) + _misfits(raw)
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
    module = f"stages.pretrain.methods.{name}"
    try:
        model: type[Section] = importlib.import_module(module).Params
    except (ImportError, SyntaxError, AttributeError) as error:
        file = METHODS / f"{name}.py"
        raise InputError(f"{file}: cannot be used as a method ({type(error).__name__}: {error})") from None
    return model


def _missing_sections(raw: dict[str, Any]) -> list[str]:
    """Methods that are named without a section of their own."""
    found = []
    named = raw.get("methods")
    for name in named if isinstance(named, list) else ():
        for path in (("pretrain",), ("finetune", "recipe")):
            section = _value(raw, ".".join(path))
            if name in available_methods() and isinstance(section, dict) and name not in section:
                found.append(f"{dotted('', *path, name)} is missing; methods names {name}")
    return found


def _unknown_presets(raw: dict[str, Any]) -> list[str]:
    """Presets of views that are chosen, but stand nowhere."""
    presets = _value(raw, "views.presets")
    names = [name for name in presets if isinstance(name, str)] if isinstance(presets, dict) else []
    chosen = {key: _value(raw, key) for key in ("views.pretrain", "views.finetune")}
    return [
        f"{key}: {unknown(name, names)}"
        for key, name in chosen.items()
        if names and isinstance(name, str) and name not in names  # without any that is a finding already
    ]


def _unfit(raw: dict[str, Any]) -> list[str]:
    """Methods that are named and cannot work well with the chosen encoder, or in so small batches."""
    found = []
    encoder = _value(raw, "encoder.name")
    if _value(raw, "encoder.weights") == "torchvision" and encoder in ("cnn", "residual", "vit"):
        found.append(f"encoder.weights is 'torchvision'; allowed: random ({encoder} is not torchvision's)")
    named = raw.get("methods")
    for name in named if isinstance(named, list) else ():
        model = method_params(name) if name in available_methods() else Section
        if not issubclass(model, Training):
            continue
        if model.encoders and isinstance(encoder, str) and encoder not in model.encoders:
            found.append(
                f"encoder.name is {encoder!r}; allowed: {', '.join(model.encoders)} "
                f"(pretrain.{name} works with no other)"
            )
        size, least = _value(raw, f"pretrain.{name}.batch_size"), model.smallest_batch
        if isinstance(size, int) and 2 <= size < least:  # less than 2 is a finding already
            found.append(
                f"pretrain.{name}.batch_size is {size}; allowed: at least {least} (fewer say little)"
            )
    return found


def _misfits(raw: dict[str, Any]) -> list[str]:
    """What can be known to be too large or too small before the data is read."""
    try:
        data = Data.model_validate(raw.get("data"))
        budgets = TypeAdapter(Budgets).validate_python(raw["finetune"]["budgets"])
    except (ValidationError, KeyError, TypeError):
        return []  # these are findings already
    if data.source not in OFFICIAL:  # how many images there are is known when they have been read
        return []
    available, classes = OFFICIAL[data.source]
    images = min(data.train_limit or available, available)
    pool = images - data.validation
    if pool < classes:
        return [
            f"data.validation is {data.validation}; allowed: so few that at least {classes} "
            f"of the {images} training images remain in the pool"
        ]
    sections = raw["pretrain"].items() if isinstance(raw.get("pretrain"), dict) else ()
    named = raw["methods"] if isinstance(raw.get("methods"), list) else ()
    sizes = {
        name: section.get("batch_size")
        for name, section in sections
        if name in named and isinstance(section, dict)
    }
    return [
        f"pretrain.{name}.batch_size is {size}; allowed: at most {pool} (the pool)"
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
    try:
        return deepcopy(_parsed(path.read_text(encoding="utf-8")))
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no valid YAML: {' '.join(str(error).split())}") from None


@cache  # a stage asks for both files ten times, and each parsing takes a tenth of a second
def _parsed(text: str) -> Any:
    # NOTE: the same YAML parser as DVC's, so that both read `1e-3` as the same number.
    return YAML(typ="safe", pure=True).load(text)


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
