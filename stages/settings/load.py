"""`params.yaml` as typed values: the whole file is validated, and a stage gets only what it declares.

A stage calls `parameters("finetune", "simclr")`. Every call validates the *whole* file, so that a mistake is
found before any work is done, and returns only the keys that the stage declares in `dvc.yaml`. A stage
cannot read other keys, so it cannot depend on a parameter that DVC does not track.

`python -m stages.settings` validates the file and does nothing else.
"""

import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError, create_model
from ruamel.yaml.error import YAMLError

from stages.errors import InputError
from stages.settings.conflicts import conflicts, missing_sections
from stages.settings.findings import findings, short
from stages.settings.pipeline import PIPELINE, listed, not_as_needed
from stages.settings.schema import Params, method_params
from stages.settings.values import Section, available_methods
from stages.settings.yaml_text import TooLargeError, parsed

PARAMS = Path("params.yaml")
MOST = 100  # findings that are printed


def parameters(stage: str, method: str | None = None, raw: Any = None) -> Params:
    """The parameters that `stage` declares in dvc.yaml, after all of params.yaml was validated.

    Args:
        raw: the file's content; None: read the file.

    Raises:
        InputError: one finding for each mistake in the file.
        UndeclaredError: later, when the stage reads a key that it does not declare.
    """
    raw = read(PARAMS) if raw is None else raw
    params = validated(raw)
    if method is not None and method not in params.methods:
        raise InputError(f"{PARAMS}: methods: {method} is not among {', '.join(params.methods)}")
    try:
        declared: Params = _only(params, declared_keys(stage, method, raw))
    except LookupError as error:
        how = f"has {short(str(error.args[0]))}, which {PARAMS} does not have"
        raise not_as_needed(stage, "params", how) from None
    return declared


def named_method(stage: str, arguments: list[str]) -> str:
    """The method that a stage was started for, `python -m stages.STAGE METHOD`."""
    if len(arguments) != 1:
        raise InputError(f"usage: python -m stages.{stage} METHOD; METHOD is one of `methods` in {PARAMS}")
    return arguments[0]


def declared_keys(stage: str, method: str | None, raw: Any) -> list[str]:
    """The keys under `params:` of a stage in dvc.yaml, with each `${…}` filled in."""
    return [_filled(key, method, raw) for key in listed(read(PIPELINE), stage, "params")]


def _filled(text: str, method: str | None, raw: Any) -> str:
    """A text of dvc.yaml with each `${…}` filled in, as DVC does."""
    text = text.replace("${item.method}", method or "")
    return re.sub(r"\$\{(.+?)\}", lambda name: str(value(raw, name[1])), text)


def declared_values(stage: str, method: str | None, raw: Any = None) -> dict[str, Any]:
    """The values in params.yaml of the keys that a stage declares; `raw` as for `parameters`."""
    raw = read(PARAMS) if raw is None else raw
    return {key: value(raw, key) for key in declared_keys(stage, method, raw)}


def declared_files(stage: str, method: str | None) -> list[str]:
    """The files and folders under `deps:` of a stage in dvc.yaml; of a folder of code each of its files."""
    raw = read(PARAMS)
    declared = [Path(_filled(path, method, raw)) for path in listed(read(PIPELINE), stage, "deps")]
    return [str(file) for path in declared for file in (_source_files(path) if _is_code(path) else [path])]


def _is_code(path: Path) -> bool:
    return path.parts[:1] == ("stages",) and path.is_dir()


def _source_files(folder: Path) -> list[Path]:
    """The files of a folder of code, without what Python leaves there."""
    return sorted(file for file in folder.iterdir() if file.is_file() and file.suffix != ".pyc")


def value(raw: Any, key: str) -> Any:
    """The value at a dotted key of the file's content; None where there is none."""
    for part in key.split("."):
        raw = raw.get(part) if isinstance(raw, dict) else None
    return raw


def validated(raw: Any) -> Params:
    """Turn the file's content into `Params`.

    Raises:
        InputError: every finding, not only the first.
    """
    if not isinstance(raw, dict):
        raise InputError(f"{PARAMS}: should hold sections such as 'data:' and 'finetune:'")
    lines: list[str] = []
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        lines += findings(error, Params)
        params = _valid_part(raw, {str(item["loc"][0]) for item in error.errors()})
    sections, of_methods = _method_sections(raw.get("pretrain"))
    lines += of_methods + missing_sections(raw) + conflicts(params, sections, _named_methods(raw))
    if lines:
        more = [f"and {len(lines) - MOST:,} more findings"] if len(lines) > MOST else []
        raise InputError(*(f"{PARAMS}: {short(line)}" for line in [*lines[:MOST], *more]))
    return params.model_copy(update={"pretrain": params.pretrain.model_copy(update=sections)})


def _valid_part(raw: dict[str, Any], wrong: set[str]) -> Params:
    """The sections of the file that are valid; reading another one is an `UndeclaredError`."""
    fields: dict[str, Any] = {
        name: (field.annotation, field) for name, field in Params.model_fields.items() if name not in wrong
    }
    part = create_model("Part", __base__=Section, **fields)
    return Params.model_construct(None, **dict(part.model_validate({name: raw[name] for name in fields})))


def _named_methods(raw: dict[str, Any]) -> list[str]:
    """The known methods under `methods`, also where other names there are wrong."""
    named = raw.get("methods")
    return [name for name in named if name in available_methods()] if isinstance(named, list) else []


def _method_sections(raw: Any) -> tuple[dict[str, Section], list[str]]:
    """Each method's section by the model in the method's own file; and what is wrong in them."""
    sections, lines = {}, []
    for name, section in raw.items() if isinstance(raw, dict) else ():
        if name in available_methods():  # an unknown name is a finding of Params
            model = method_params(name)
            try:
                sections[name] = model.model_validate(section)
            except ValidationError as error:
                lines += findings(error, model, f"pretrain.{name}")
    return sections, lines


def read(path: Path) -> Any:
    """A YAML file's content, not validated."""
    try:
        return parsed(path.read_text(encoding="utf-8"))
    except TooLargeError as error:
        raise InputError(f"{path}: {error}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from None


def _only(value: Any, keys: list[str]) -> Any:
    """A copy of a section that has nothing but the dotted `keys`.

    Raises:
        LookupError: the section lacks a name; a mapping of names may lack one, such as a method without a
            fixed recipe.
    """
    wanted: dict[str, list[str]] = {}
    for key in keys:
        first, _, rest = key.partition(".")
        wanted.setdefault(first, []).append(rest)
    present = value if isinstance(value, dict) else dict(value) if isinstance(value, Section) else {}
    if absent := [name for name in wanted if name not in present and not isinstance(value, dict)]:
        raise LookupError(absent[0])
    parts = {name: present[name] for name in wanted if name in present}
    cut = {name: part if "" in wanted[name] else _only(part, wanted[name]) for name, part in parts.items()}
    return cut if isinstance(value, dict) else type(value).model_construct(None, **cut)
