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


def test_a_mapping_is_merged_into_its_section() -> None:
    text = with_values("recipe:\n  simclr: {} # tuned\n  byol:\n    rate: 1 # peak\n    decay: 2\n", {
        "recipe.simclr": {"rate": 0.1}, "recipe.byol": {"rate": 3},
    })  # fmt: skip
    lines = ["recipe:", "  simclr: # tuned", "    rate: 0.1", "  byol:", "    rate: 3 # peak", "    decay: 2"]
    assert text.splitlines() == lines


def test_missing_sections_are_added_and_none_is_null() -> None:
    assert with_values("a: 1\n", {"b.c": None}) == "a: 1\nb:\n  c: null\n"


def test_a_key_below_a_value_is_an_error() -> None:
    with pytest.raises(InputError, match=r"a\.b cannot be set: a is not a section"):
        with_values("a: 1\n", {"a.b": 2})


def test_only_what_differs_is_named_and_the_file_stays_if_nothing_does(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(TEXT)
    before = file.stat().st_mtime_ns
    assert write_values({"views.pretrain": "digits"}, file) == []
    assert file.stat().st_mtime_ns == before
    assert write_values({"views.pretrain": "photos", "views.finetune": "digits"}, file) == ["views.pretrain"]
    assert load.validated(load.read(file)).views.pretrain == "photos"


def test_invalid_values_are_refused_and_the_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(TEXT)
    with pytest.raises(InputError, match=r"views\.pretrain: unknown name 'none'"):
        write_values({"views.pretrain": "none"}, file)
    assert file.read_text() == TEXT
