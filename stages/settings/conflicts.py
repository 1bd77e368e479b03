"""Values of `params.yaml` that are valid one by one and do not fit together."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.settings.findings import dotted
from stages.settings.schema import PUBLISHED, PUBLISHED_FOR, Params, Training, method_params
from stages.settings.values import OFFICIAL, Section, available_methods


def missing_sections(raw: Mapping[str, Any]) -> list[str]:
    """Methods under `methods` without a section under `pretrain` or a recipe under `finetune.recipe`."""
    lines = []
    named, finetune = raw.get("methods"), raw.get("finetune")
    recipes = finetune.get("recipe") if isinstance(finetune, dict) else None
    for name in named if isinstance(named, list) else ():
        for path, section in ((("pretrain",), raw.get("pretrain")), (("finetune", "recipe"), recipes)):
            if name in available_methods() and isinstance(section, dict) and name not in section:
                lines.append(f"{dotted('', *path, name)} is missing; methods names {name}")
    return lines


def conflicts(params: Params, sections: Mapping[str, Section], methods: Sequence[str]) -> list[str]:
    """One line for each conflict.

    Args:
        params: the sections of the file that are valid; the others are missing.
        sections: the methods' own sections that are valid.
        methods: the known methods under `methods`.
    """
    lines = []
    if hasattr(params, "encoder"):
        lines += _wrong_encoders(params.encoder.name, methods)
        lines += _unpublished(params.encoder.name, sections, methods)
    if hasattr(params, "data") and params.data.source in OFFICIAL:  # the size of other data is not known yet
        lines += _sizes(params, params.finetune.budgets if hasattr(params, "finetune") else ())
    return lines


def _wrong_encoders(encoder: str, methods: Sequence[str]) -> list[str]:
    """Methods that cannot work with the encoder."""
    lines = []
    for name in methods:
        model = method_params(name)
        if issubclass(model, Training) and model.encoders and encoder not in model.encoders:
            lines.append(
                f"encoder.name is {encoder!r}; allowed: {', '.join(model.encoders)} "
                f"(pretrain.{name} works with no other)"
            )
    return lines


def _unpublished(encoder: str, sections: Mapping[str, Section], methods: Sequence[str]) -> list[str]:
    """Methods that start from published weights, where there are none for the encoder."""
    if encoder == PUBLISHED_FOR:
        return []
    starts = {name: getattr(sections[name], "start", None) for name in methods if name in sections}
    return [
        f"pretrain.{name}.start.file is {PUBLISHED!r}; allowed: the path of a file ({PUBLISHED} has weights "
        f"for {PUBLISHED_FOR} only, encoder.name is {encoder})"
        for name, start in starts.items()
        if start is not None and start.file == PUBLISHED
    ]


def _sizes(params: Params, budgets: Sequence[int | str]) -> list[str]:
    """Budgets that are larger than the pool, or smaller than the number of classes."""
    data = params.data
    available, classes = OFFICIAL[data.source]
    images = min(data.train_limit or available, available)
    pool = images - data.validation
    if pool < classes:
        return [
            f"data.validation is {data.validation}; allowed: at most {images - classes}, so that {classes} "
            f"of the {images} training images remain in the pool"
        ]
    return [
        f"finetune.budgets[{index}] is {budget}; allowed: 'all' or {classes} (one label a class) "
        f"to {pool} (the pool)"
        for index, budget in enumerate(budgets)
        if isinstance(budget, int) and not classes <= budget <= pool
    ]
