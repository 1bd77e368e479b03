from pathlib import Path

import pytest

from stages.errors import InputError
from stages.settings import load
from stages.tools.params_file import with_values, write_values

TEXT = load.PARAMS.read_text()


def differing(before: str, after: str) -> list[tuple[str, str]]:
    """The lines that differ; both texts have the same number of lines."""
    lines = before.splitlines(), after.splitlines()
    return [(old, new) for old, new in zip(*lines, strict=True) if old != new]


def test_params_yaml_without_changes_keeps_every_byte() -> None:
    assert with_values(TEXT, {}) == TEXT


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("views.pretrain", "photos", "  pretrain: photos # the preset for pretraining"),
        ("methods", ["scratch"], "methods: [scratch] # one column each; scratch is the control"),
        (
            "data.channels",
            3,
            "  channels: 3 # 1 (grey), 3 (RGB), or auto: 1 if every image is stored as grey",
        ),
        ("views.presets.photos_mild.hue", 0.05, "      hue: 0.05"),  # before an empty line
        ("views.presets.photos.crop", [0.3, 1], "      crop: [0.3, 1]"),
    ],
)
def test_one_value_changes_one_line_and_keeps_its_comment(key: str, value: object, line: str) -> None:
    changed = differing(TEXT, with_values(TEXT, {key: value}))
    assert [new for _, new in changed] == [line]


def test_comments_that_go_on_in_the_next_line_stay() -> None:
    changed = differing(TEXT, with_values(TEXT, {"data.path": "photographs"}))
    assert len(changed) == 1
    assert changed[0][1].startswith("  path: photographs # the folder of images")


def test_the_reason_that_init_gave_goes_with_the_value_that_it_was_for() -> None:
    text = "a: 1 # [few images] how many\nb: 2 # [so] what\nc: 3\n"
    assert with_values(text, {"a": 4}) == "a: 4 # how many\nb: 2 # [so] what\nc: 3\n"


def test_a_mapping_takes_the_place_of_its_section() -> None:
    text = "recipe:\n  simclr: {} # tuned\n  byol:\n    rate: 1 # peak\n    decay: 2\nlast: 1\n"
    new = with_values(text, {"recipe.simclr": {"rate": 0.1}, "recipe.byol": {"rate": 3}})
    assert new == "recipe:\n  simclr: {rate: 0.1} # tuned\n  byol: {rate: 3}\nlast: 1\n"


def test_a_new_key_is_added_and_none_is_null() -> None:
    assert with_values("b:\n  a: 1\n", {"b.c": None}) == "b:\n  a: 1\n  c: null\n"


@pytest.mark.parametrize(("text", "state"), [("a: 1\n", "is not a section"), ("b: 1\n", "is missing")])
def test_a_missing_section_is_named(text: str, state: str) -> None:
    with pytest.raises(InputError, match=rf"^params\.yaml: a\.b: the section a {state}"):
        with_values(text, {"a.b": 2})


SMALL = """\
# about the file
methods: [a, b, c] # one column each

data:
  path: data/raw # the folder; for mnist a folder
    # that may hold its files
  limit: null # none
  size: 32
short: {first: 1, second: 2} # both
"""


def test_reasons_stand_in_front_of_the_comments() -> None:
    changes = {
        "methods": ["a", "x"],
        "data.path": "images",
        "data.size": 64,
        "short.first": 3,
        "data.new": None,
    }
    reasons = {
        "methods": "two", "data.path": "yours", "data.size": "large [very]",
        "short.first": "in braces there is no room", "data.new": "was missing",
    }  # fmt: skip
    assert (
        with_values(SMALL, changes, reasons)
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
    keys = ("methods", "data.size")
    once = with_values(SMALL, dict(zip(keys, (["a"], 64), strict=True)), dict.fromkeys(keys, "first"))
    values, reasons = {"methods": ["a", "b"], "data.size": 8}, dict.fromkeys(keys, "second")
    assert with_values(once, values, reasons) == with_values(SMALL, values, reasons)


def test_a_value_that_stays_keeps_its_reason() -> None:
    text = "a: 1 # [few images] how many\n"
    assert with_values(text, {"a": 1}) == text
    assert with_values(text, {"a": 1}, {"a": "none"}) == "a: 1 # [none] how many\n"


def test_only_what_differs_is_named_and_the_file_stays_if_nothing_does(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(TEXT)
    before = file.stat().st_mtime_ns
    assert write_values({"views.pretrain": "digits"}, path=file) == []
    assert file.stat().st_mtime_ns == before
    assert write_values({"views.pretrain": "photos", "views.finetune": "digits"}, path=file) == [
        "views.pretrain"
    ]
    assert load.validated(load.read(file)).views.pretrain == "photos"


def test_invalid_values_are_refused_and_the_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(TEXT)
    with pytest.raises(InputError, match=r"views\.pretrain: unknown name 'none'"):
        write_values({"views.pretrain": "none"}, path=file)
    assert file.read_text() == TEXT
