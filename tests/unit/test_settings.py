import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML

from stages.errors import InputError
from stages.pretrain.methods import simclr
from stages.settings import load, values
from stages.settings.recipes import FixedRecipe, Schedule
from stages.settings.schema import Params, Training, Views
from stages.settings.values import OFFICIAL
from tests.conftest import ROOT, drop, finding_first, put


def findings(raw: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        load.validated(raw)
    lines = list(caught.value.args)
    assert all(line.startswith("params.yaml: ") and "\n" not in line for line in lines), lines
    return [line.removeprefix("params.yaml: ") for line in lines]


def finding(raw: Any) -> str:
    lines = findings(raw)
    assert len(lines) == 1, lines
    return lines[0]


def write(raw: dict[str, Any]) -> None:
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(raw, file)


def test_the_projects_params_yaml_is_valid() -> None:
    checked = load.validated(load.read(ROOT / "params.yaml"))
    assert checked.methods
    assert set(checked.methods) <= dict(checked.pretrain).keys()


def test_values_arrive_as_they_stand_in_the_file(raw: dict[str, Any]) -> None:
    checked = load.validated(raw)
    assert checked.finetune.budgets == (10, 900, "all")
    assert checked.pretrain["simclr"].temperature == raw["pretrain"]["simclr"]["temperature"]
    assert checked.views.presets["digits"].scale == tuple(raw["views"]["presets"]["digits"]["scale"])
    with pytest.raises(ValidationError, match="frozen"):
        checked.seeds = 2


@pytest.mark.parametrize(
    ("key", "meant", "model"),
    [
        ("finetune.schedule.stepz", "steps", Schedule),
        ("views.presets.digits.rotat", "rotate", Views),
        ("finetune.recipe.simclr.weight_decai", "weight_decay", FixedRecipe),
        ("sead", "seeds", Params),
    ],
)
def test_unknown_key_gets_a_suggestion_and_the_allowed_names(
    raw: dict[str, Any], key: str, meant: str, model: type[BaseModel]
) -> None:
    put(raw, key, 1)
    line = finding(raw)
    assert line.startswith(f"{key}: ")
    assert f"unknown name '{key.split('.')[-1]}'" in line
    assert f"did you mean {meant}?" in line
    assert line.endswith(f"allowed: {', '.join(model.model_fields)}")


def test_unknown_key_that_resembles_no_other_gets_no_suggestion(raw: dict[str, Any]) -> None:
    raw["knn"]["zzz"] = 1
    assert "did you mean" not in finding(raw)


@pytest.mark.parametrize("key", ["Seed", "weight-decay", "data.Validation", "data.train-limit"])
def test_unknown_key_with_capitals_or_hyphens_is_a_finding_too(raw: dict[str, Any], key: str) -> None:
    put(raw, key, 1)
    line = finding(raw)
    assert line.startswith(f"{key}: unknown name '{key.split('.')[-1]}'")


@pytest.mark.parametrize(
    "section",
    [
        "data",
        "pretrain",
    ],
)
def test_key_that_is_a_number_is_a_finding(raw: dict[str, Any], section: str) -> None:
    raw[section][7] = {}
    assert finding(raw).startswith(section)
    assert "7" in finding(raw)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        # wrong type
        ("seeds.split", "one", "integer"),
        ("seeds.draws", True, "integer"),
        ("pretrain.runs", 1.5, "integer"),
        ("finetune.draws", 2.5, "integer"),
        ("pretrain.simclr.learning_rate", "1e-3x", "number"),
        ("pretrain.simclr.learning_rate", float("nan"), "finite"),
        ("data.path", 7, "string"),
        ("data.path", "a\x1b[31mb", "a path without control characters"),
        ("data.path", "", "a path"),
        # out of range
        ("seeds.training", -1, "0"),
        ("pretrain.runs", 0, "1"),
        ("pretrain.runs", 101, "100"),
        ("finetune.draws", 0, "1"),
        ("encoder.width", 7, "8"),
        ("probe.l2", 0, "greater than 0"),
        ("finetune.schedule.warmup", 1.5, "1"),
        ("pretrain.simclr.temperature", -0.5, "greater than 0"),
        ("pretrain.autoencoder.batch_size", 1, "2"),
        ("views.presets.digits.shift", -0.1, "0"),
        # not among the names
        ("runtime.device", "gpu", "'auto', 'cpu' or 'cuda'"),
        ("finetune.schedule.class_weights", "balance", "'equal' or 'balanced'"),
        ("distil.few", 0, "1"),
    ],
)
def test_bad_value_is_one_line_with_key_value_and_what_is_allowed(
    raw: dict[str, Any], key: str, value: object, allowed: str
) -> None:
    put(raw, key, value)
    found = re.fullmatch(rf"{re.escape(key)} is (.*); allowed: (.*)", finding(raw))
    assert found
    assert found[1] == repr(value)
    assert allowed in found[2]


def test_bad_element_of_a_list_is_named_by_its_place(raw: dict[str, Any]) -> None:
    put(raw, "views.presets.digits.scale", [-1.0, 1.2])
    assert finding(raw).startswith("views.presets.digits.scale[0] is -1.0; allowed: greater than 0")


def test_a_bad_budget_is_one_finding_that_allows_numbers_and_all(raw: dict[str, Any]) -> None:
    raw["finetune"]["budgets"] = [10, "al"]
    line = finding(raw)
    assert line.startswith("finetune.budgets[1] is 'al'; allowed: ")
    assert "a whole number" in line
    assert "'all'" in line


@pytest.mark.parametrize(
    ("key", "value"), [("finetune.budgets", ["al"]), ("finetune.budgets", [0]), ("methods", [1])]
)
def test_a_list_whose_only_element_is_bad_is_not_called_empty(
    raw: dict[str, Any], key: str, value: list[object]
) -> None:
    put(raw, key, value)
    assert finding(raw).startswith(f"{key}[0]")


@pytest.mark.parametrize("key", ["methods", "finetune.budgets"])
def test_empty_list_is_refused(raw: dict[str, Any], key: str) -> None:
    put(raw, key, [])
    assert finding(raw).startswith(f"{key} is []; allowed: ")


def test_unknown_method_is_named_with_the_files_that_exist(raw: dict[str, Any]) -> None:
    raw["methods"] = ["scratch", "simcrl"]
    line = finding(raw)
    assert line.startswith("methods")
    assert "unknown name 'simcrl' (did you mean simclr?)" in line
    assert line.endswith(f"allowed: {', '.join(values.available_methods())}")


def test_section_of_an_unknown_method_is_refused(raw: dict[str, Any]) -> None:
    raw["pretrain"]["simcrl"] = {}
    assert finding(raw).startswith("pretrain.simcrl: unknown name 'simcrl' (did you mean simclr?)")


def test_recipe_of_an_unknown_method_is_refused(raw: dict[str, Any]) -> None:
    recipes = raw["finetune"]["recipe"]
    recipes["simcrl"] = {"weight_decay": 0.1}
    assert finding(raw).startswith("finetune.recipe.simcrl: unknown name 'simcrl' (did you mean simclr?)")


def test_section_of_a_method_that_is_not_run_is_validated_too(raw: dict[str, Any]) -> None:
    raw["methods"] = ["scratch"]
    raw["pretrain"]["simclr"]["temperature"] = -1
    assert finding(raw).startswith("pretrain.simclr.temperature is -1; allowed: ")


@pytest.mark.parametrize(
    ("key", "value"),
    [("methods", ["scratch", "simclr", "scratch"]), ("finetune.budgets", [10, "all", 10])],
)
def test_duplicates_are_refused(raw: dict[str, Any], key: str, value: list[object]) -> None:
    put(raw, key, value)
    line = finding(raw)
    assert line.startswith(f"{key} is {value}")
    assert "once" in line


@pytest.mark.parametrize(
    ("budgets", "index", "value"), [([10, 901], 1, 901), ([9, "all"], 0, 9), ([100, 10**9], 1, 10**9)]
)
def test_budget_outside_classes_and_pool_is_refused(
    raw: dict[str, Any], budgets: list[object], index: int, value: int
) -> None:
    raw["finetune"]["budgets"] = budgets
    line = finding(raw)
    assert line.startswith(f"finetune.budgets[{index}] is {value}; allowed: ")
    assert "'all'" in line
    assert re.search(r"\b10\b.* to 900\b", line)


def test_pool_is_what_validation_leaves_of_the_whole_data(raw: dict[str, Any]) -> None:
    raw["data"] |= {"train_limit": None, "validation": 59_000}
    raw["finetune"]["budgets"] = [1000]
    load.validated(raw)
    raw["finetune"]["budgets"] = [1001]
    assert "to 1000 " in finding(raw)


@pytest.mark.parametrize("source", OFFICIAL)
def test_every_source_is_accepted(raw: dict[str, Any], source: str) -> None:
    raw["data"] |= {"source": source, "train_limit": None, "validation": 5000}
    raw["finetune"]["budgets"] = [55_000]
    assert load.validated(raw).data.source == source
    raw["finetune"]["budgets"] = [55_001]
    assert "to 55000 (the pool)" in finding(raw)


def test_the_size_and_existence_of_a_folder_are_not_checked(raw: dict[str, Any]) -> None:
    # `predict`, `finetune` and `dvc repro --pull --allow-missing` do not need the images.
    raw["data"] |= {"source": "folder", "path": "nowhere", "train_limit": None}
    raw["finetune"]["budgets"] = [1_000_000]
    assert load.validated(raw).data.source == "folder"


@pytest.mark.parametrize("source", ["fashion_mnist", 1, None, ["mnist"]])
def test_unknown_source_is_one_line_with_those_that_exist(raw: dict[str, Any], source: object) -> None:
    raw["data"]["source"] = source
    line = finding(raw)
    assert line.startswith(f"data.source: unknown name {source!r}")
    assert line.endswith(f"allowed: {', '.join(values.SOURCES)}")
    assert ("did you mean fashion-mnist?" in line) == (source == "fashion_mnist")


def test_validation_must_leave_an_image_per_class(raw: dict[str, Any]) -> None:
    raw["methods"] = ["scratch", "autoencoder"]
    raw["data"] |= {"train_limit": 100, "validation": 91}
    raw["pretrain"]["autoencoder"]["batch_size"] = 9
    raw["finetune"]["budgets"] = ["all"]
    assert finding(raw).startswith("data.validation is 91; allowed: at most 90, so that 10 of the 100 ")
    raw["data"]["validation"] = 90
    load.validated(raw)


@pytest.mark.parametrize(
    ("method", "least"),
    [
        ("simclr", 16),
        ("vicreg", 32),
        ("barlow_twins", 32),
        ("lejepa", 32),
        ("byol", 16),
        ("dino", 16),
        ("gan", 16),
        ("autoencoder", 2),
    ],
)
def test_batch_too_small_for_a_method_that_is_run(raw: dict[str, Any], method: str, least: int) -> None:
    raw["methods"] = ["scratch", method]
    raw["pretrain"][method]["batch_size"] = least
    load.validated(raw)
    raw["pretrain"][method]["batch_size"] = least - 1
    line = finding(raw)
    assert line.startswith(f"pretrain.{method}.batch_size is {least - 1}; allowed: ")
    assert f"at least {least} " in line or f"to {least}" in line
    raw["methods"] = ["scratch"]  # the section of a method that is not run is checked too
    assert finding(raw) == line


def test_batch_larger_than_the_pool_is_allowed(raw: dict[str, Any]) -> None:
    raw["pretrain"]["simclr"]["batch_size"] = 901  # the training takes as many images as there are
    load.validated(raw)


@pytest.mark.parametrize("name", ["images", "steps"])
def test_a_training_has_images_and_steps(raw: dict[str, Any], name: str) -> None:
    raw["pretrain"]["simclr"][name] = 0
    assert finding(raw) == f"pretrain.simclr.{name} is 0; allowed: greater than or equal to 1"


def test_method_names_the_encoders_that_it_works_with(
    raw: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simclr.Params, "encoders", ("cnn", "vit"))
    raw["encoder"]["name"] = "residual"
    assert finding(raw) == (
        "encoder.name is 'residual'; allowed: cnn, vit (pretrain.simclr works with no other)"
    )
    raw["encoder"]["name"] = "vit"
    load.validated(raw)
    raw["encoder"]["name"] = "residual"
    raw["methods"] = ["scratch", "autoencoder"]
    load.validated(raw)


def test_encoders_and_smallest_batch_of_a_method_are_no_keys(raw: dict[str, Any]) -> None:
    class Own(Training):
        encoders = ("vit",)
        smallest_batch = 8

    assert Own.model_fields.keys() == Training.model_fields.keys()
    assert (Training.encoders, Training.smallest_batch) == ((), 2)
    raw["pretrain"]["simclr"]["smallest_batch"] = 8
    assert finding(raw).startswith("pretrain.simclr.smallest_batch: unknown name 'smallest_batch'")


def test_small_batch_and_wrong_encoder_are_listed_with_other_errors(
    raw: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simclr.Params, "encoders", ("vit",))
    put(raw, "encoder.name", "residual")
    put(raw, "pretrain.simclr.batch_size", 8)
    put(raw, "pretrain.simclr.temperature", -1)
    put(raw, "seeds.training", "x")
    assert sorted(line.split(" is ")[0] for line in findings(raw)) == [
        "encoder.name", "pretrain.simclr.batch_size", "pretrain.simclr.temperature",
        "seeds.training",
    ]  # fmt: skip


@pytest.mark.parametrize("where", ["pretrain", "finetune.recipe"])
def test_named_method_needs_its_section(raw: dict[str, Any], where: str) -> None:
    drop(raw, f"{where}.simclr")
    line = finding(raw)
    assert line.startswith(f"{where}.simclr is missing")
    raw["methods"] = ["scratch", "autoencoder"]  # a method that is not run needs none
    load.validated(raw)


@pytest.mark.parametrize(
    "key",
    [
        *("seeds", "seeds.draws", "knn", "knn.k", "pretrain", "pretrain.runs", "distil.images"),
        *("finetune.schedule.steps", "finetune.recipe.default.weight_decay"),
    ],
)
def test_missing_key_is_named(raw: dict[str, Any], key: str) -> None:
    drop(raw, key)
    assert finding(raw) == f"{key} is missing"


@pytest.mark.parametrize("key", ["data", "pretrain", "finetune.recipe.simclr"])
def test_empty_section_is_named(raw: dict[str, Any], key: str) -> None:
    put(raw, key, None)  # what `data:` with nothing below it is in YAML
    assert finding(raw).startswith(f"{key} is None; allowed: ")


def test_empty_section_of_a_method_is_named(raw: dict[str, Any]) -> None:
    raw["pretrain"]["simclr"] = None
    assert finding(raw).startswith("pretrain.simclr is None; allowed: ")


def test_unknown_preset_of_views_is_named_with_the_known_ones(raw: dict[str, Any]) -> None:
    put(raw, "views.finetune", "clothes_mid")
    assert finding(raw) == (
        "views.finetune: unknown name 'clothes_mid' (did you mean clothes_mild?); allowed: digits, "
        "clothes, clothes_mild, photos, photos_mild, photos_no_colour, signs, from_above, textures"
    )


@pytest.mark.parametrize("content", [None, [], "text"])
def test_file_without_sections_is_refused(content: object) -> None:
    assert finding(content).startswith("should hold sections")


def test_every_error_is_listed_on_a_line_of_its_own(raw: dict[str, Any]) -> None:
    put(raw, "seeds.training", "x")
    put(raw, "knn.kk", 3)
    put(raw, "pretrain.simclr.temperature", -1)
    put(raw, "pretrain.autoencoder.noises", 0.5)
    put(raw, "pretrain.foo", {})
    drop(raw, "probe.l2")
    keys = [re.split(r": | is ", line)[0] for line in findings(raw)]
    assert sorted(keys) == [
        "knn.kk", "pretrain.autoencoder.noises", "pretrain.foo", "pretrain.simclr.temperature",
        "probe.l2", "seeds.training",
    ]  # fmt: skip


def test_unknown_methods_and_bad_budgets_are_listed_together(raw: dict[str, Any]) -> None:
    raw["methods"] = ["scratch", "foo", "bar"]
    raw["finetune"]["budgets"] = [5, 10, 901]
    drop(raw, "pretrain.scratch")
    found = "\n".join(findings(raw))
    for part in ("'foo'", "'bar'", "budgets[0] is 5", "budgets[2] is 901", "pretrain.scratch is missing"):
        assert part in found


def test_wrong_types_do_not_hide_budgets_that_do_not_fit(raw: dict[str, Any]) -> None:
    put(raw, "seeds.training", "x")
    put(raw, "finetune.budgets", [5])
    assert [line.split(" is ")[0] for line in findings(raw)] == ["seeds.training", "finetune.budgets[0]"]


def test_wrong_types_do_not_hide_unknown_methods(raw: dict[str, Any]) -> None:
    put(raw, "seeds.training", "x")
    raw["methods"] = ["scratch", "foo"]
    found = findings(raw)
    assert len(found) == 2
    assert any("'foo'" in line for line in found)


def test_one_duplicate_does_not_hide_another(raw: dict[str, Any]) -> None:
    raw["methods"] = ["scratch", "scratch"]
    raw["finetune"]["budgets"] = [10, 10]
    assert [line.split(" is ")[0] for line in findings(raw)] == ["methods", "finetune.budgets"]


def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("rate: 1e-3\nyes: no\n")
    # YAML 1.1 would make 1e-3 a text and `no` a truth value.
    assert load.read(file) == {"rate": 0.001, "yes": "no"}


@pytest.mark.parametrize(
    "content", [b"seed: [1, 2", b"seed: 1\nseed: 2\n", b"seed: \xff\xfe", b"a: b: c", b"\tseed: 1"]
)
def test_invalid_yaml_is_one_line_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "params.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError, match="is not valid YAML") as caught:
        load.read(file)
    assert len(caught.value.args) == 1
    assert str(file) in caught.value.args[0]
    assert "\n" not in caught.value.args[0]


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Every leaf of a section by its dotted key."""
    if isinstance(value, BaseModel):
        value = dict(value)
    if not isinstance(value, dict):
        return {path: list(value) if isinstance(value, tuple) else value}
    leaves: dict[str, Any] = {}
    for name, part in value.items():
        leaves |= flat(part, f"{path}.{name}".lstrip("."))
    return leaves


@pytest.mark.usefixtures("in_copy")
@pytest.mark.parametrize(
    ("stage", "method"),
    [
        ("prepare", None),
        *[
            (stage, m)
            for stage in ("pretrain", "choose", "finetune", "distil", "evaluate")
            for m in ("scratch", "simclr")
        ],
        ("compare", None),
    ],
)
def test_a_stage_is_handed_exactly_what_dvc_yaml_declares(
    raw: dict[str, Any], stage: str, method: str | None
) -> None:
    write(raw)
    declared = [
        key.replace("${item.method}", method or "")
        .replace("${views.pretrain}", raw["views"]["pretrain"])
        .replace("${views.finetune}", raw["views"]["finetune"])
        for key in load.read(Path("dvc.yaml"))["stages"][stage]["params"]
    ]
    expected = {
        key: value
        for key, value in flat(load.validated(raw)).items()
        if any(f"{key}.".startswith(f"{one}.") for one in declared)
    }
    assert {key: flat(raw)[key] for key in expected if key in flat(raw)}.items() <= expected.items()
    assert expected
    assert flat(load.parameters(stage, method)) == expected


def test_a_recipe_has_the_default_values_that_it_does_not_change(raw: dict[str, Any]) -> None:
    put(raw, "finetune.recipe.simclr", {"encoder_learning_rate": 0.2})
    put(raw, "finetune.recipe.default.encoder_learning_rate", 0.1)
    put(raw, "finetune.recipe.default.weight_decay", 0.3)
    recipes = load.validated(raw).finetune.recipe
    assert (recipes["simclr"].encoder_learning_rate, recipes["simclr"].weight_decay) == (0.2, 0.3)
    put(raw, "finetune.recipe.gan", {})
    assert "gan" not in load.validated(raw).finetune.recipe  # it is chosen


def test_a_mistake_in_the_default_recipe_is_reported_once(raw: dict[str, Any]) -> None:
    put(raw, "finetune.recipe.default.weight_decay", -1)
    assert finding(raw).startswith("finetune.recipe.default.weight_decay is -1; allowed: ")
    drop(raw, "finetune.recipe.default")
    assert finding(raw).startswith("finetune.recipe.default is None; allowed: ")


def test_a_transform_that_is_left_out_is_off(raw: dict[str, Any]) -> None:
    put(raw, "views.presets.digits", {"flip": 0.5})
    assert load.validated(raw).views.presets["digits"] == Views(flip=0.5)
    assert Views().model_dump() == dict.fromkeys(Views.model_fields, 0) | {"crop": (1, 1), "scale": (1, 1)}


@pytest.mark.parametrize("method", ["simclr", "autoencoder", "mae", "dino"])
def test_every_method_that_trains_may_start_from_weights(raw: dict[str, Any], method: str) -> None:
    assert load.validated(raw).pretrain[method].start is None
    raw["pretrain"][method]["start"] = {"file": "models/other.safetensors", "digest": "ab"}
    assert load.validated(raw).pretrain[method].start.file == "models/other.safetensors"
    raw["pretrain"][method]["start"] = {"file": "models/other.safetensors"}
    assert finding(raw) == f"pretrain.{method}.start.digest is missing"


@pytest.mark.usefixtures("in_copy")
def test_an_undeclared_key_cannot_be_read(raw: dict[str, Any]) -> None:
    write(raw)
    raw["finetune"]["recipe"] |= {
        "simclr": {"weight_decay": 0.1},
        "gan": {"weight_decay": 0.2},
        "scratch": {},
    }
    write(raw)
    finetune = load.parameters("finetune", "simclr")
    for name in ("data", "encoder", "methods", "knn"):
        with pytest.raises(AttributeError, match=name):
            getattr(finetune, name)
    with pytest.raises(AttributeError, match="recipe"):
        _ = finetune.finetune.recipe
    assert load.parameters("choose", "simclr").finetune.recipe.keys() == {"default", "simclr"}
    assert load.parameters("choose", "scratch").finetune.recipe.keys() == {"default"}
    assert dict(finetune.pretrain).keys() == {"runs"}
    pretrain = load.parameters("pretrain", "simclr")
    assert dict(pretrain.pretrain).keys() == {"runs", "simclr"}
    with pytest.raises(AttributeError, match="finetune"):
        _ = pretrain.finetune
    with pytest.raises(AttributeError, match="draws"):
        _ = load.parameters("compare").finetune.draws


@pytest.mark.usefixtures("in_copy")
def test_a_stage_validates_also_what_it_does_not_declare(raw: dict[str, Any]) -> None:
    raw["pretrain"]["simclr"]["temperature"] = -1
    write(raw)
    with pytest.raises(InputError, match=r"pretrain\.simclr\.temperature"):
        load.parameters("prepare")


@pytest.mark.usefixtures("in_copy")
def test_a_method_that_is_not_run_has_no_parameters(raw: dict[str, Any]) -> None:
    raw["methods"] = ["scratch"]
    write(raw)
    with pytest.raises(InputError, match="simclr is not among scratch"):
        load.parameters("pretrain", "simclr")


def command_line(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stages.settings"],
        cwd=folder, env=finding_first(ROOT), capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_command_line_prints_one_line_per_error_and_exits_2(in_copy: Path, raw: dict[str, Any]) -> None:
    put(raw, "seeds.training", "x")
    put(raw, "pretrain.simclr.temperature", -1)
    write(raw)
    result = command_line(in_copy)
    assert result.returncode == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 2, result.stderr
    assert lines[0].startswith("error: params.yaml: seeds.training is 'x'; allowed: ")
    assert lines[1].startswith("error: params.yaml: pretrain.simclr.temperature is -1; allowed: ")


def test_command_line_names_a_missing_file(in_copy: Path) -> None:
    (in_copy / "params.yaml").unlink()
    result = command_line(in_copy)
    assert result.returncode == 2
    assert result.stderr.splitlines() == ["error: params.yaml: No such file or directory"]


def test_command_line_is_silent_about_a_good_file(in_copy: Path) -> None:
    result = command_line(in_copy)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["my.own", 1, None, "", "1st", "ä", "a b", "a\nb", True, 0.5])
def test_a_bad_name_of_a_preset_is_refused(raw: dict[str, Any], name: Any) -> None:
    raw["views"]["presets"][name] = raw["views"]["presets"]["digits"]
    line, text = finding(raw), "a letter, then letters, digits, _ and -"
    assert line.startswith("views.presets")
    assert f" is {name!r}; allowed: {text if isinstance(name, str) else 'a valid string'}" in line


@pytest.mark.parametrize("name", ["my-own", "Mine_2", "x"])
def test_a_new_preset_is_accepted(raw: dict[str, Any], name: str) -> None:
    raw["views"]["presets"][name] = raw["views"]["presets"]["digits"]
    raw["views"]["pretrain"] = name
    assert name in load.validated(raw).views.presets


def test_no_presets_or_a_preset_without_a_name_is_one_finding(raw: dict[str, Any]) -> None:
    presets = raw["views"]["presets"]
    raw["views"]["presets"] = {}
    assert finding(raw).startswith("views.presets is {}; allowed: should have at least 1 item")
    raw["views"]["presets"] = {1: presets["digits"]}
    assert finding(raw) == "views.presets[1] is 1; allowed: a valid string"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("2024-13-01", "'2024-13-01': month must be in 1..12"),
        ("!!int x", "'x': invalid literal"),
        ("!!float x", "'x': could not convert"),
        ("!!bool x", "'x': 'x'"),
        ("0x" + "F" * 4000, "the number is too large"),
        ("1" * 900, "the number is too large"),
    ],
)
def test_what_is_no_value_is_named_with_its_line(tmp_path: Path, value: str, why: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(f"data:\n  path: {value}\n")
    with pytest.raises(InputError, match="is not valid YAML: line 2, ") as caught:
        load.read(file)
    (line,) = caught.value.args
    assert why in line
    assert line.endswith("; a text needs quotes")
    assert len(line) < 400


@pytest.mark.parametrize("escape", ["U00110000", "UFFFFFFFF"])
def test_a_character_that_does_not_exist_is_refused(tmp_path: Path, escape: str) -> None:
    (tmp_path / "params.yaml").write_text(f'data: "\\{escape}"\n')
    with pytest.raises(InputError, match="is not valid YAML"):
        load.read(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    "content", ["", "[]", "stages: 7", "stages: {}", "stages: {prepare: {deps: 7}}", "stages: {prepare: []}"]
)
def test_a_pipeline_that_is_none_is_refused(in_copy: Path, content: str) -> None:
    (in_copy / "dvc.yaml").write_text(content)
    with pytest.raises(InputError, match=r"dvc.yaml: stages.prepare.deps is not as DVC needs it; `git check"):
        load.declared_files("prepare", None)


@pytest.mark.parametrize(
    "key", ["x", "finetune.x", "seeds.training.x", "seeds.model_dump", "seeds.__dict__.x", "methods.0"]
)
def test_a_name_in_dvc_yaml_that_no_parameter_has_is_refused(
    in_copy: Path, raw: dict[str, Any], key: str
) -> None:
    write(raw)
    pipeline = {"stages": {"baselines": {"params": ["seeds.draws", key]}}}
    (in_copy / "dvc.yaml").write_text(json.dumps(pipeline))
    with pytest.raises(InputError, match=r"^dvc.yaml: stages.baselines.params has \w+, which params"):
        load.parameters("baselines")


def test_a_parameter_that_dvc_yaml_lost_is_named(in_copy: Path, raw: dict[str, Any]) -> None:
    write(raw)
    (in_copy / "dvc.yaml").write_text("stages: {baselines: {params: [seeds.draws]}}")
    with pytest.raises(InputError, match=r"^dvc.yaml: the parameter finetune, which the stage reads, is not"):
        _ = load.parameters("baselines").finetune.budgets


@pytest.mark.parametrize("path", ["", ".", "a\0b", "\ud800", "a\x1b[31m"])
def test_a_path_in_dvc_yaml_that_is_none_is_refused(in_copy: Path, path: str) -> None:
    pipeline = {"stages": {"baselines": {"deps": ["data/prepared", path]}}}
    (in_copy / "dvc.yaml").write_text(json.dumps(pipeline))
    with pytest.raises(InputError, match=r"^dvc.yaml: stages.baselines.deps is not as DVC needs it; `git"):
        load.declared_files("baselines", None)


def test_very_many_findings_are_counted(raw: dict[str, Any]) -> None:
    raw["methods"] = [f"method{number}" for number in range(15_000)]
    found = findings(raw)
    assert len(found) == load.MOST + 1
    assert found[-1].endswith("more findings")


# --- small files that stand for much


def laughs(levels: int, line: str) -> str:
    """Ten aliases of ten aliases of … ten values."""
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, levels + 1):
        text += f"a{level}: &a{level} {line.format(', '.join([f'*a{level - 1}'] * 10))}\n"
    return text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (laughs(9, "[{}]"), "stands for more than 20,000 values, with its aliases (*name) written out"),
        (
            laughs(9, "{{<<: [{}]}}"),
            "stands for more than 20,000 values, with its aliases (*name) written out",
        ),
        ("a: &a [*a]", "has sections nested deeper than 20, or within themselves"),
        ("a: " + "[" * 21 + "]" * 21, "has sections nested deeper than 20, or within themselves"),
        ("a: " + "[" * 5000, "has sections nested deeper than 20, or within themselves"),
        ("- " * 5000 + "a", "has sections nested deeper than 20, or within themselves"),
        ("a: " + "{a: " * 5000, "has sections nested deeper than 20, or within themselves"),
        ("a: " + "x" * 1_000_000, "has 1,000,003 characters; allowed: up to 1,000,000"),
        (
            "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 30)),
            "has sections nested deeper than 20, or within themselves",
        ),
    ],
)
def test_a_small_file_that_stands_for_much_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        load.read(file)
    assert caught.value.args == (f"{file}: {message}",)


def test_a_few_aliases_are_taken(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("a: &a {b: [1, 2]}\nc: {<<: *a, d: *a}\n")
    assert load.read(tmp_path / "params.yaml")["c"] == {"b": [1, 2], "d": {"b": [1, 2]}}


def test_a_finding_about_a_long_value_is_short(raw: dict[str, Any]) -> None:
    raw["runtime"]["device"] = ["x" * 9] * 10_000
    raw["data"]["source"] = "x" * 900_000
    for line in findings(raw):
        assert len(line) < 2100
        assert "; allowed: " in line or " … " in line
