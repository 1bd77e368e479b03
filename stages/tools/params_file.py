"""Writes values into params.yaml as a person would: comments, order and all other lines stay as they are."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.tokens import CommentToken

from stages.errors import InputError
from stages.files.whole import whole_file
from stages.settings import load
from stages.tools.yaml_comments import OLD_REASON


def write_values(changes: Mapping[str, Any], path: Path = load.PARAMS) -> list[str]:
    """Set the values at some dotted keys of a file of parameters, after the result was validated.

    Args:
        changes: values by their dotted keys, such as `views.pretrain`. A mapping is merged into the section
            that is there: keys that it does not name stay.

    Returns:
        The dotted keys whose values have changed; the file is not touched if there are none.

    Raises:
        InputError: the file is no valid YAML, or would not be valid with these values; it is then unchanged.
    """
    before = load.read(path)
    text = with_values(path.read_text(encoding="utf-8"), changes)
    after = _safe(text)
    load.validated(after)
    changed = [key for key in changes if _value(before, key) != _value(after, key)]
    if changed:
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return changed


def with_values(text: str, changes: Mapping[str, Any]) -> str:
    """YAML text with other values at some dotted keys; sections that are missing are added.

    Raises:
        InputError: a key leads through something that is no section.
    """
    yaml = _round_trip()
    content = yaml.load(text)
    for key, value in changes.items():
        *parents, last = key.split(".")
        section = content
        for parent in parents:
            section = section.setdefault(parent, CommentedMap())
            if not isinstance(section, CommentedMap):
                raise InputError(f"{load.PARAMS}: {key} cannot be set: {parent} is not a section")
        _set(section, last, value)
    written = io.StringIO()
    yaml.dump(content, written)
    return written.getvalue()


def _set(section: CommentedMap, key: str, value: Any) -> None:
    if isinstance(value, Mapping):
        present = section.get(key)
        if not isinstance(present, CommentedMap) or not present:  # `{}` is written in one line: start anew
            _comment_after(section, key)
            present = section[key] = CommentedMap()
        for name, part in value.items():
            _set(present, name, part)
        return
    comment = _comment_after(section, key)
    if isinstance(value, list | tuple):
        value = CommentedSeq(value)
        value.fa.set_flow_style()  # [a, b], as all lists of params.yaml
        value.ca.comment = [comment, None] if comment else None
    elif comment:
        section.ca.items[key] = [None, None, comment, None]
    section[key] = value


def _comment_after(section: CommentedMap, key: str) -> CommentToken | None:
    """The comment behind a value: a list holds its own, any other value's is at its key."""
    old = section.get(key)
    if isinstance(old, CommentedSeq):
        comment = old.ca.comment[0] if old.ca.comment else None
    else:
        comment = (section.ca.items.get(key) or [None] * 3)[2]
    if isinstance(comment, CommentToken):
        comment.column = 0  # one space behind the new value, not where the old one's length had put it
        comment.value = OLD_REASON.sub("# ", comment.value)  # of `init`, for the value that is replaced
        return comment
    return None


def _value(raw: Any, key: str) -> Any:
    for part in key.split("."):
        raw = raw.get(part) if isinstance(raw, dict) else None
    return raw


def _safe(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def _round_trip() -> YAML:
    yaml = YAML()
    yaml.width = 4096  # never break a line
    yaml.preserve_quotes = True
    yaml.representer.add_representer(
        type(None), lambda writer, _: writer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml
