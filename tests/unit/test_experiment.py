"""Named experiments: valid content, and the arguments for DVC. tests/pipeline runs one."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from benchmarks.folders import FOLDERS
from stages.errors import InputError
from stages.settings import load
from stages.tools import experiment, fitting
from tests.conftest import ROOT


@pytest.fixture
def experiments(in_copy: Path) -> Path:
    (in_copy / "experiments").mkdir()
    return in_copy / "experiments"


def refusal(name: str) -> str:
    """The one line that refuses an experiment."""
    with pytest.raises(InputError) as caught:
        experiment.checked(name, load.read(load.PARAMS), experiment.read(name))
    (line,) = caught.value.args
    assert "\n" not in line
    return str(line)


def test_the_experiments_of_the_project_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert {"mnist", "fashion-mnist"} <= set(experiment.names())
    raw = load.read(load.PARAMS)
    for name in experiment.names():
        load.validated(experiment.checked(name, raw, experiment.read(name)))


def test_an_unknown_experiment_is_named_with_those_that_exist(experiments: Path) -> None:
    (experiments / "fashion.yaml").write_text("seeds.draws: 2\n")
    assert refusal("fashoin") == (
        "experiments: unknown name 'fashoin' (did you mean fashion?); allowed: fashion"
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("finetune.drawz: 5", ["finetune.drawz: unknown name 'drawz' (did you mean draws?)"]),
        ("finetuen.draws: 5", ["finetuen: unknown name 'finetuen' (did you mean finetune?)"]),
        ("seeds.draws.first: 5", ["seeds.draws is {'first': 5}; allowed: "]),
        ("finetune.draws: one", ["finetune.draws is 'one'; allowed: ", "integer"]),
        ("finetune.budgets: [5]", ["finetune.budgets[0] is 5; allowed: "]),
        ("data: {source: mnist}", ["data is {'source': 'mnist'}; allowed: one value per dotted key"]),
        ("7: 1", ["7 is 1; allowed: one value per dotted key"]),
        ("just words", ["should contain dotted keys and values"]),
        ("", ["should contain dotted keys and values"]),
        ("[", ["is not valid YAML"]),
    ],
)
def test_an_invalid_experiment_is_refused_in_one_line_that_names_its_file(
    experiments: Path, content: str, words: list[str]
) -> None:
    (experiments / "tiny.yaml").write_text(content)
    line = refusal("tiny")
    assert line.startswith("experiments/tiny.yaml: ")
    assert all(word in line for word in words), line


def test_values_are_set_in_a_copy(raw: dict[str, Any]) -> None:
    before = raw["finetune"]["draws"], raw["data"]["source"]
    changed = experiment.applied(raw, {"finetune.draws": 7, "data.source": "fashion-mnist", "new.part": [1]})
    assert (changed["finetune"]["draws"], changed["data"]["source"]) == (7, "fashion-mnist")
    assert changed["new"] == {"part": [1]}
    assert (raw["finetune"]["draws"], raw["data"]["source"]) == before
    assert changed["knn"] == raw["knn"]


def test_dvc_reads_every_value_as_in_the_file(tmp_path: Path) -> None:
    old = {"a": {"b": 1, "list": [1], "text": "x"}, "flag": False, "none": 3}
    changes: dict[str, Any] = {
        "a.b": 1e-05,
        "a.list": [10, 1000, "all", 0.5],
        "a.text": "fashion-mnist",
        "flag": True,
        "none": None,
        "new.path": "../some where/{x}, [y]: 'z'=\"w\"",
        "a.word": "null",
        "a.digits": "10",
        "a.empty": "",
        "a.pair": ["true", "a b"],
    }
    file = tmp_path / "params.yaml"
    yaml = YAML(typ="safe", pure=True)
    yaml.dump(old, file)
    arguments = experiment.overrides(old, changes)
    assert arguments[:2] == ["-S", "a.b=1e-05"]
    assert "a.list=[10,1000,all,0.5]" in arguments
    assert set(arguments[::2]) == {"-S"}
    apply_overrides(file, arguments[1::2])
    assert yaml.load(file) == experiment.applied(old, changes)


def test_the_command_has_the_changes_then_the_options(
    experiments: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (experiments / "tiny.yaml").write_text(
        "seeds.draws: 2\npretrain.simclr.start.file: a b\npretrain.simclr.start.digest: null\n"
    )
    commands = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(subprocess, "run", run)
    assert experiment.main(["tiny", "--name", "first", "--queue", "-S", "seeds.split=3"]) == 3
    start = ["-S", '++pretrain.simclr.start.file="a b"', "-S", "++pretrain.simclr.start.digest=null"]
    assert commands == [
        [
            "dvc",
            "exp",
            "run",
            "-S",
            "seeds.draws=2",
            *start,
            "--name",
            "first",
            "--queue",
            "-S",
            "seeds.split=3",
        ]
    ]
    assert capsys.readouterr().out.startswith("dvc exp run -S seeds.draws=2 -S ")


@pytest.mark.usefixtures("experiments")
def test_without_a_name_the_usage_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        experiment.main([])
    assert caught.value.code == 2
    assert "usage: python -m stages.tools.experiment" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_automatic_experiments_are_the_tuned_ones_without_what_was_tuned(name: str) -> None:
    tuned = load.read(ROOT / experiment.file_of(name))
    left = {
        key: value for key, value in tuned.items() if not key.startswith(("finetune.recipe", "pretrain.s"))
    }
    assert left["finetune.budgets"] == [10, 100, 1000, "all"]
    left["pretrain.simclr.images"] = fitting.SEEN[0]  # as much as `init` lets a pretraining see
    few = left | {"finetune.budgets": [10, 100, 1000], "finetune.schedule.epochs": fitting.EPOCHS[0]}
    assert load.read(ROOT / experiment.file_of(f"{name}-automatic")) == few
    every = left | {"finetune.budgets": ["all"], "finetune.draws": 3}
    assert load.read(ROOT / experiment.file_of(f"{name}-automatic-all")) == every


def test_the_experiments_on_folders_have_a_folder_that_a_command_makes() -> None:
    sources = {file.stem: load.read(file) for file in (ROOT / "experiments").glob("*.yaml")}
    of_folders = {name: of for name, of in sources.items() if of["data.source"] == "folder"}
    assert {"emoji", "satellite"} <= of_folders.keys()
    for of in of_folders.values():
        folder = Path(of["data.path"])
        assert folder == Path("data") / folder.name
        assert folder.name in FOLDERS
    for name in ("emoji", "satellite"):
        of = of_folders[name]
        assert of["data.path"] == f"data/{name}"
        assert of["pretrain.runs"] >= 3
        assert of["finetune.draws"] == 10
        assert of["pretrain.simclr.images"] == fitting.SEEN[0]
