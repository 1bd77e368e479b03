"""What is wrong in a file of parameters, in words: one line for each finding."""

import difflib
from collections.abc import Iterable

from pydantic import BaseModel, ValidationError

LONGEST = 2000  # characters


def findings(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[str]:
    """One line for each of pydantic's errors: the key, the value, and what is allowed.

    Args:
        error: what the validation of `model` raised.
        prefix: the dotted key of the section that was validated.
    """
    items = error.errors()
    lines = []
    for item in items:
        parts = [part for part in item["loc"] if part != "[key]"]
        if item["type"] == "too_short" and any(other["loc"][:-1] == item["loc"] for other in items):
            continue  # pydantic counts the good elements only; the bad ones are findings already
        key = dotted(prefix, *parts)
        if item["type"] == "extra_forbidden":
            lines.append(f"{key}: {unknown(parts[-1], _known_keys(model, parts[:-1]))}")
        elif item["type"] == "missing":
            lines.append(f"{key} is missing")
        elif item["type"] == "invalid_key":
            lines.append(f"{key}: {unknown(parts[-1], _known_keys(model, parts[:-1]))}")
        elif item["type"] == "value_error":
            # The schema's own errors continue the key: " is 5; allowed: …", or ": unknown name …".
            lines += [f"{key}{text}" for text in item["ctx"]["error"].args]
        else:
            lines.append(f"{key} is {item['input']!r}; allowed: {_allowed(item['type'], item['msg'])}")
    return lines


def dotted(prefix: str, *parts: str | int) -> str:
    """A key as people write it: `finetune.budgets[1]`."""
    key = prefix
    for part in parts:
        name = part if str(part).isprintable() else repr(part)  # a finding is one line
        key += f"[{part}]" if isinstance(part, int) else f".{name}"
    return key.lstrip(".")


def unknown(name: object, known: list[str]) -> str:
    """The message for an unknown name, with the nearest known one as a hint."""
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"unknown name {name!r}{hint}; allowed: {', '.join(known)}"


def short(line: str) -> str:
    """A finding without its middle if that makes it too long: a value may have a million characters."""
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"


def _allowed(kind: str, message: str) -> str:
    if kind in ("model_type", "dict_type"):
        return "a section of keys and values"
    if kind == "tuple_type":
        return "a list, such as [a, b]"
    if kind == "string_pattern_mismatch":
        return "a letter, then letters, digits, _ and -"
    message = message.replace("Dictionary should", "should")
    return message.replace("Input should be ", "").replace("Tuple should", "should")


def _known_keys(model: type[BaseModel], path: Iterable[str | int]) -> list[str]:
    for part in path:
        # The keys of a RootModel's mapping are no fields: their model is the one in its annotation.
        field = model.model_fields.get("root") or model.model_fields.get(str(part))
        if field is None:  # the name of a method inside a mapping: stay with its model
            continue
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)
