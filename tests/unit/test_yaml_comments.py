"""A YAML file keeps its comments and its layout when values change, and the reasons stand in its comments."""

import pytest

from stages.errors import InputError
from stages.settings import load
from stages.tools.yaml_comments import changed
from tests.conftest import ROOT

TEXT = """\
# about the file
methods: [a, b, c] # one column each

data:
  path: data/raw # the folder; for mnist a folder
    # that may hold its files
  limit: null # none
  size: 32
short: {first: 1, second: 2} # both
"""


def test_values_change_and_reasons_stand_in_front_of_the_comments() -> None:
    changes = {
        "methods": (["a", "x"], "two"), "data.path": ("images", "yours"), "data.size": (64, "large [very]"),
        "short.first": (3, "in braces there is no room"), "data.new": (None, "was missing"),
    }  # fmt: skip
    assert (
        changed(TEXT, changes)
        == """\
# about the file
methods: [a, x] # [two] one column each

data:
  path: images # [yours] the folder; for mnist a folder
    # that may hold its files
  limit: null # none
  size: 64 # [large (very)]
  new: null # [was missing]
short: {first: 3, second: 2} # both
"""
    )


def test_a_second_change_replaces_the_reasons() -> None:
    once = changed(TEXT, {"methods": (["a"], "one"), "data.size": (64, "large")})
    twice = changed(once, {"methods": (["a", "b"], "two"), "data.size": (8, "small")})
    assert twice == changed(TEXT, {"methods": (["a", "b"], "two"), "data.size": (8, "small")})


def test_the_parameters_stay_byte_for_byte_where_nothing_changes() -> None:
    text = (ROOT / load.PARAMS).read_text()
    assert changed(text, {}) == text


def test_a_missing_section_is_named() -> None:
    with pytest.raises(
        InputError, match=r"^params\.yaml: pretrain\.simclr\.steps: the section pretrain is mi"
    ):
        changed(TEXT, {"pretrain.simclr.steps": (1, "")})
