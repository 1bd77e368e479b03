"""The metrics of methods that params.yaml no longer lists."""

import shutil
from pathlib import Path

import pytest

from stages.compare import leftovers
from stages.compare.leftovers import outputs, remove_leftovers
from stages.errors import InputError
from stages.settings import load
from stages.settings.pipeline import PIPELINE
from tests.conftest import ROOT

METHODS = ["scratch", "a", "a_model", "b"]


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / PIPELINE, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(leftovers, "available_methods", lambda: sorted(METHODS))


def write_outputs(*methods: str) -> set[Path]:
    paths = {path for method in methods for path in outputs(method)}
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("content")
    return paths


def files() -> set[Path]:
    return {path for path in Path().rglob("*") if path.is_file() and path != PIPELINE}


@pytest.mark.parametrize("stages", ["null", "{a: null}", "{a: {plots: null}}"])
def test_a_pipeline_without_plots_has_no_other_outputs(stages: str) -> None:
    PIPELINE.write_text(f"stages: {stages}\n")
    assert outputs("simclr") == {Path("data/predictions/simclr")}


def test_plots_without_options_are_outputs_too() -> None:
    PIPELINE.write_text("stages: {a: {plots: ['metrics/a/${item.method}.csv', {'b/${item.method}': {}}]}}\n")
    folder = Path("data/predictions/mine")
    assert outputs("mine") == {Path("metrics/a/mine.csv"), Path("b/mine"), folder}
    folder.mkdir(parents=True)
    assert remove_leftovers(["scratch"]) == []  # a folder of the user's own stays
    assert folder.is_dir()


@pytest.mark.parametrize(
    "stages",
    ["7", "[a]", "{a: [b]}", "{a: text}", "{a: {plots: 5}}", "{a: {plots: [null]}}", "{a: {plots: [[5]]}}"],
)
def test_a_pipeline_that_is_none_is_refused_before_anything_is_removed(stages: str) -> None:
    written = write_outputs("b")
    PIPELINE.write_text(f"stages: {stages}\n")
    with pytest.raises(InputError, match=r"^dvc.yaml: .* not as DVC needs (it|them); `git checkout"):
        remove_leftovers(["scratch"])
    assert all(path.is_file() for path in written)


@pytest.mark.parametrize("pattern", ["/x/${item.method}", "metrics/**${item.method}", "[a${item.method}"])
def test_a_path_of_a_plot_is_no_pattern(pattern: str) -> None:
    PIPELINE.write_text(f"stages: {{a: {{plots: ['{pattern}']}}}}\n")
    mine = [
        Path("data/predictions/mine"),
        Path("metrics/deep/mine"),
        Path("amine"),
    ]  # what a pattern would find
    for path in mine:
        path.mkdir(parents=True)
    assert remove_leftovers(METHODS) == []
    assert all(path.is_dir() for path in mine)


def test_outputs_are_the_metrics_of_one_method_in_the_folders_that_compare_reads() -> None:
    paths = outputs("simclr")
    assert Path("metrics/pretrain/simclr_shown.png") in paths
    assert Path("metrics/timings/evaluate/simclr.json") in paths
    assert Path("data/predictions/simclr") in paths
    assert len(paths) == 19
    folders = load.read(PIPELINE)["stages"]["compare"]["deps"]
    assert {"/".join(path.parts[:2]) for path in paths} <= set(folders)


def test_files_of_a_dropped_method_are_removed_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    expected = write_outputs("scratch", "a")
    write_outputs("b")
    assert remove_leftovers(["scratch", "a"]) == ["b"]
    assert files() == expected
    (line,) = capsys.readouterr().out.splitlines()
    assert "removed the metrics and predictions of b:" in line
    assert "git has the metrics" in line


def test_so_are_those_of_a_method_whose_module_was_deleted() -> None:
    expected = write_outputs("scratch", "a", "a_model")
    write_outputs("deleted")
    assert remove_leftovers(["scratch", "a", "a_model"]) == ["deleted"]
    assert files() == expected


def test_nothing_to_remove_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    expected = write_outputs(*METHODS)
    assert remove_leftovers(METHODS) == []
    assert files() == expected
    shutil.rmtree("metrics")
    shutil.rmtree("data")
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
