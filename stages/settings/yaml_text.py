"""YAML text as Python values, if it is of the size that a person writes.

An alias (`*name`) repeats a value, and may repeat one with aliases in it: a few lines stand for gigabytes, in
every message that shows the value. DVC knows aliases, so a few are no mistake.
"""

from copy import deepcopy
from functools import cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode
from ruamel.yaml.scanner import Scanner

VALUES = 20_000  # in one file, each alias counted as what it stands for; the project's files have up to 2,000
DEPTH = 20  # of sections within sections
CHARACTERS = 1_000_000
BITS = 1_000  # of a whole number; Python refuses to write out much longer ones


class TooLargeError(YAMLError):
    """The text stands for more than a person writes."""


class NoValueError(YAMLError):
    """What stands for a value is none, such as a date with month 13."""


def parsed(text: str) -> Any:
    """The content of YAML text.

    Raises:
        YAMLError: it is not valid.
        NoValueError: a value in it is none.
        TooLargeError: it is too long, stands for too many values, or has sections nested too deeply.
    """
    return deepcopy(_parsed(text))


@cache  # a stage reads both files about ten times, and parsing takes a tenth of a second
def _parsed(text: str) -> Any:
    if len(text) > CHARACTERS:
        raise TooLargeError(f"has {len(text):,} characters; allowed: up to {CHARACTERS:,}")
    # NOTE: DVC's own parser, so that both read `1e-3` as the same number.
    yaml = YAML(typ="safe", pure=True)
    yaml.Scanner, yaml.Constructor = _Scanner, _Constructor
    try:
        return yaml.load(text)
    except (ValueError, OverflowError) as error:  # a character that does not exist
        raise NoValueError(str(error)) from None


class _Scanner(Scanner):
    """Stops at deep nesting, which would take the parser's recursion, and minutes: a square of its depth."""

    def fetch_flow_collection_start(self, *arguments: Any, **options: Any) -> None:
        if len(self.flow_context) > DEPTH:
            raise TooLargeError(_too_deep())
        super().fetch_flow_collection_start(*arguments, **options)

    def add_indent(self, column: int) -> bool:
        if len(self.indents) > DEPTH:
            raise TooLargeError(_too_deep())
        return bool(super().add_indent(column))


class _Constructor(SafeConstructor):
    """Examines what the text stands for before it makes values of it."""

    def construct_document(self, node: Node) -> Any:
        _values(node, {}, 1)
        return super().construct_document(node)

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ValueError, LookupError, ArithmeticError) as error:
            raise _no_value(node, str(error)) from None
        if isinstance(value, int) and value.bit_length() > BITS:
            raise _no_value(node, "the number is too large")
        return value


def _values(node: Node, known: dict[int, tuple[int, int]], depth: int) -> tuple[int, int]:
    """The number of values that a node stands for, and how deeply they are nested.

    Args:
        known: the answer for nodes that were examined, by their identity: an alias is the same node.
        depth: of the node.

    Raises:
        TooLargeError: they are too many or too deep. A node within itself is.
    """
    count, height = known.get(id(node), (0, 0))
    if depth + height > DEPTH:
        raise TooLargeError(_too_deep())
    if count:
        return count, height
    children: list[Node] = []
    if isinstance(node, MappingNode):
        children = [part for pair in node.value for part in pair]
    elif not isinstance(node, ScalarNode):
        children = node.value
    count = 1
    for child in children:
        values, below = _values(child, known, depth + 1)
        count, height = count + values, max(height, below + 1)
        if count > VALUES:
            raise TooLargeError(
                f"stands for more than {VALUES:,} values, with its aliases (*name) written out"
            )
    known[id(node)] = count, height
    return count, height


def _no_value(node: Node, why: str) -> NoValueError:
    shown = repr(node.value)
    shown = shown if len(shown) <= 100 else f"{shown[:100]}…"
    return NoValueError(f"line {node.start_mark.line + 1}, {shown}: {why}; a text needs quotes")


def _too_deep() -> str:
    return f"has sections nested deeper than {DEPTH}, or within themselves"
