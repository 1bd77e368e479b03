"""Writes values into params.yaml as a person would: comments, order and all other lines stay as they are."""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.tokens import CommentToken

from stages.errors import InputError
from stages.files.whole import whole_file
from stages.settings import load
from stages.settings.yaml_text import parsed

OLD_REASON = re.compile(r"^# ?\[[^\]]*\] ?")  # that of an earlier `init`
NO_REASONS: Mapping[str, str] = {}


def write_values(
    changes: Mapping[str, Any], reasons: Mapping[str, str] = NO_REASONS, path: Path = load.PARAMS
) -> list[str]:
    """Set the values at some dotted keys of a file of parameters, after the result was validated.

    Args:
        changes, reasons: as for `with_values`.

    Returns:
        The dotted keys whose values have changed. The file is not touched if its text stays the same.

    Raises:
        InputError: the file is no valid YAML, or would not be valid with these values; it is then unchanged.
    """
    before, old = load.read(path), path.read_text(encoding="utf-8")
    new = with_values(old, changes, reasons)
    after = parsed(new)
    load.validated(after)
    if new != old:
        with whole_file(path) as temporary:
            temporary.write_text(new, encoding="utf-8")
    return [key for key in changes if load.value(before, key) != load.value(after, key)]


def with_values(text: str, changes: Mapping[str, Any], reasons: Mapping[str, str] = NO_REASONS) -> str:
    """YAML text with other values at some dotted keys.

    Args:
        text: of the file.
        changes: values by their dotted keys, such as `views.pretrain`; the last part of a key may be new. A
            mapping takes the place of the section that is there, in one line.
        reasons: for some of the keys, why the value was chosen: it stands in brackets in front of the comment
            of its line. The reason of a replaced value is removed.

    Raises:
        InputError: a section is missing, or is not a section.
    """
    yaml = _parser()
    content = yaml.load(text)
    for dotted, value in changes.items():
        *parents, key = dotted.split(".")
        section = content
        for parent in parents:
            if not isinstance(section.get(parent), CommentedMap):
                state = "is not a section" if parent in section else "is missing"
                raise InputError(f"{load.PARAMS}: {dotted}: the section {parent} {state}")
            section = section[parent]
        _set(section, key, value, reasons.get(dotted, ""))
    written = io.StringIO()
    yaml.dump(content, written)
    return written.getvalue()


def _set(section: CommentedMap, key: str, value: Any, reason: str) -> None:
    """Set a value; the comment behind the old one stays behind the new one."""
    if key in section and section[key] == value and not reason:
        return
    comment = _comment_after(section, key)
    if isinstance(value, list | tuple):
        value = CommentedSeq(value)
        value.fa.set_flow_style()  # [a, b], as all lists of params.yaml
        value.ca.comment = [comment, None] if comment else None
    elif isinstance(value, Mapping):
        value = CommentedMap(value)
        value.fa.set_flow_style()  # {a: 1}, as a recipe
        value.ca.comment = [comment, None] if comment else None
    if comment:
        section.ca.items[key] = [None, None, comment, None]
    section[key] = value
    if not reason or section.fa.flow_style():  # a comment inside {…} would end it
        return
    words = f"[{reason.replace('[', '(').replace(']', ')')}]"
    if comment:
        rest = comment.value.removeprefix("#").removeprefix(" ")
        comment.value = f"# {words}" + ("" if rest.startswith("\n") else " ") + rest
    else:
        section.yaml_add_eol_comment(words, key, column=0)


def _comment_after(section: CommentedMap, key: str) -> CommentToken | None:
    """The comment behind a value, without an old reason. ruamel has a list's in the list."""
    old = section.get(key)
    comment = (section.ca.items.get(key) or [None] * 3)[2]
    if comment is None and isinstance(old, CommentedSeq | CommentedMap) and old.ca.comment:
        comment = old.ca.comment[0]
    if not isinstance(comment, CommentToken):
        return None
    comment.column = 0  # one space behind the new value, not where the old one's length had put it
    comment.value = OLD_REASON.sub("# ", comment.value)
    return comment


class _Representer(RoundTripRepresenter):
    """Writes None as `null`; ruamel's own writes nothing."""

    def represent_none(self, _data: None) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_Representer.add_representer(type(None), _Representer.represent_none)


def _parser() -> YAML:
    """A parser that keeps comments, quotes and the layout of lines."""
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 4096, True
    yaml.Representer = _Representer
    return yaml
