"""Changes values of a YAML file and gives the reasons in its comments; all else stays as it is."""

import io
import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from stages.errors import InputError

OLD_REASON = re.compile(r"^# ?\[[^\]]*\] ?")  # that of an earlier call


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


def changed(text: str, changes: dict[str, tuple[Any, str]]) -> str:
    """The text of a YAML file with other values.

    Args:
        text: of the file.
        changes: by dotted key, the new value and the reason, which stands in brackets in front of the
            comment of its line. The last part of a key may be new.

    Raises:
        InputError: a section is missing.
    """
    yaml = _parser()
    content = yaml.load(text)
    for dotted, (value, reason) in changes.items():
        *parents, key = dotted.split(".")
        section = content
        for parent in parents:
            if not isinstance(section.get(parent), CommentedMap):
                raise InputError(f"params.yaml: {dotted}: the section {parent} is missing")
            section = section[parent]
        _put(section, key, value)
        if not section.fa.flow_style():  # a comment inside {…} would end it
            _comment(section, key, reason)
    stream = io.StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()


def _put(section: CommentedMap, key: str, value: Any) -> None:
    if isinstance(value, list):
        old = section.get(key)
        items = old if isinstance(old, CommentedSeq) else CommentedSeq()
        items[:] = value
        items.fa.set_flow_style()
        value = items
    section[key] = value


def _comment(section: CommentedMap, key: str, reason: str) -> None:
    """Put the reason in front of the comment at a key; the lines below the comment stay."""
    of_key = section.ca.items.get(key)
    reason = reason.replace("[", "(").replace("]", ")")
    if of_key and of_key[2] is not None:
        token = of_key[2]
        old = OLD_REASON.sub("", token.value).removeprefix("# ")
        token.start_mark = CommentMark(0)  # right behind the value, which may be shorter than the old one
        token.value = f"# [{reason}]" + ("" if old.startswith("\n") else " ") + old
    else:
        section.yaml_add_eol_comment(f"[{reason}]", key, column=0)
