"""The metrics of methods that params.yaml no longer lists."""

import shutil
from pathlib import Path

import pytest
import yaml

from stages.compare import leftovers
from stages.compare.leftovers import OUTPUTS, outputs, remove_leftovers

DVC_YAML = Path(__file__).parents[2] / "dvc.yaml"
METHODS = ["scratch", "a", "a_model", "b"]


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(leftovers, "available_methods", lambda: sorted(METHODS))


def write_outputs(*methods: str) -> set[Path]:
    paths = {path for method in methods for path in outputs(method)}
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("content")
    return paths


def files() -> set[Path]:
    return {path for path in Path().rglob("*") if path.is_file()}


def test_outputs_are_those_of_the_methods_stages_in_dvc_yaml() -> None:
    stages = yaml.safe_load(DVC_YAML.read_text())["stages"]
    declared = [
        path.removeprefix("metrics/").replace("${item.method}", "{method}")
        for stage in stages.values()
        if "matrix" in stage
        for plot in stage["plots"]
        for path in plot
    ]
    assert sorted(OUTPUTS) == sorted(declared)
    folders = {f"metrics/{name.split('/')[0]}" for name in OUTPUTS}
    assert folders <= set(stages["compare"]["deps"])


def test_files_of_a_dropped_method_are_removed_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    expected = write_outputs("scratch", "a")
    write_outputs("b")
    assert remove_leftovers(["scratch", "a"]) == ["b"]
    assert files() == expected
    (line,) = capsys.readouterr().out.splitlines()
    assert "removed the metrics of b:" in line
    assert "git" in line
    assert "run cache" in line


def test_nothing_to_remove_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    expected = write_outputs(*METHODS)
    assert remove_leftovers(METHODS) == []
    assert files() == expected
    shutil.rmtree("metrics")
    assert remove_leftovers(["scratch"]) == []  # the folders may be missing
    assert capsys.readouterr().out == ""


def test_methods_with_a_common_prefix_keep_their_files() -> None:
    assert outputs("a") & outputs("a_model") == {Path("metrics/evaluate/a_model.json")}
    expected = write_outputs("a")
    write_outputs("a_model")
    assert remove_leftovers(["a"]) == ["a_model"]
    assert files() == expected  # also a_model.json, the model of `a`

    expected = write_outputs("a_model")
    write_outputs("a")
    assert remove_leftovers(["a_model"]) == ["a"]
    assert files() == expected


def test_unknown_files_stay() -> None:
    unknown = {
        Path("metrics/evaluate/notes.txt"),
        Path("metrics/evaluate/b_notes.csv"),
        Path("metrics/pretrain/unavailable.json"),  # no such method
        Path("metrics/pretrain/b/b.json"),
        Path("metrics/b.json"),
        Path("models/b.json"),
    }
    for path in unknown:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("content")
    assert remove_leftovers(["scratch"]) == []
    assert files() == unknown
