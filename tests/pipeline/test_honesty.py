"""Test labels cannot reach a model; equal inputs give equal bytes."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.files.locks import CLAIMS
from tests.pipeline.conftest import Project


def files(project: Project, folder: str) -> dict[str, bytes]:
    root = project.path / folder
    paths = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(project.path)): path.read_bytes() for path in paths}


def test_training_gives_the_same_bytes_without_the_test_split(project: Project) -> None:
    encoder = "models/encoders/simclr/run0.safetensors"
    recipes = "models/recipes/simclr.json"
    folders = ["models/classifiers/simclr", "models/distilled/simclr"]

    def results() -> dict[str, bytes]:
        places = (encoder, recipes, *folders, "metrics/pretrain", "metrics/distil")
        return {name: content for place in places for name, content in files(project, place).items()}

    project.set(finetune__recipe__simclr={})  # so that a recipe is chosen
    project.repro("distil@simclr")
    before = results()
    shutil.rmtree(project.path / "data" / "prepared" / "test")
    (project.path / encoder).unlink()
    (project.path / recipes).unlink()
    for folder in folders:
        shutil.rmtree(project.path / folder)
    shutil.rmtree(project.path / "models" / "checkpoints")  # otherwise nothing would be trained again

    labels = project.path / "data" / "prepared" / "labels"
    labels.rename(project.path / "hidden")  # pretraining sees no label of the pool either
    pretrained = project.stage("stages.pretrain", "simclr")
    (project.path / "hidden").rename(labels)
    chosen = project.stage("stages.choose", "simclr")
    finetuned = project.stage("stages.finetune", "simclr")
    distilled = project.stage("stages.distil", "simclr")
    assert "resumed" not in pretrained.stdout + chosen.stdout + finetuned.stdout + distilled.stdout

    assert (
        len(before) == 1 + 1 + 7 + 4 + 6 + 2
    )  # encoder; recipes; draws, index and digests, twice, recipes once; 3 files of each method, and 1
    assert results() == before


CHANGING = """
import sys
from {module} import every_{what} as stage
original = stage.{function}
def change():
    with open("stages/errors.py", "a") as file:
        file.write("# a change")
def meanwhile(*arguments):
    change()
    return original(*arguments)
if {early}:
    change()
else:
    stage.{function} = meanwhile
from stages.errors import reported
with reported():
    stage.main(*sys.argv[1:])
"""


@pytest.mark.parametrize("early", [True, False])  # before the stage has hashed its code, and later
@pytest.mark.parametrize(
    ("module", "what", "function", "arguments"),
    [
        ("stages.evaluate", "model", "tables_of", ["simclr"]),
        ("stages.compare", "method", "SimpleBaselines.read", []),
    ],
)
def test_code_that_changes_while_a_stage_measures_leaves_its_figures(
    module: str, what: str, function: str, arguments: list[str], early: bool, project: Project
) -> None:
    before = files(project, "metrics") | files(project, "data/predictions")
    script = CHANGING.format(module=module, what=what, function=function, early=early)
    result = project.run(sys.executable, "-c", script, *arguments, check=False)
    assert result.returncode == 2, result.stderr
    assert "changed while it ran (stages/errors.py); no result was written" in result.stderr
    assert files(project, "metrics") | files(project, "data/predictions") == before


WATCHER = """
import runpy, sys
opened = open(sys.argv[1], "w")
root, stage, method = sys.argv[2:5]
def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        opened.write(arguments[0] + "\\n")
sys.argv = [stage, method]
sys.path.insert(0, root)
sys.addaudithook(hook)
runpy.run_module(stage, run_name="__main__")
"""


def undeclared(project: Project, stage: str, log: Path, room: str = "") -> list[str]:
    """The files of the project that a stage of simclr opens, and that are neither code nor in dvc.yaml.

    room: the package that the stage runs, below `stages`; "": that of its name.
    """
    module = f"stages.{room or stage}"
    project.run(sys.executable, "-c", WATCHER, str(log), str(project.path), module, "simclr")
    opened = log.read_text().splitlines()
    assert [name for name in opened if "data/prepared/images" in name], "the watcher recorded nothing"
    assert [name for name in opened if "t10k" in name] == []  # nor a library's copy of the test split
    pipeline = YAML(typ="safe").load(project.path / "dvc.yaml")["stages"][stage]
    declared = [*pipeline["deps"], *pipeline["outs"], *(path for plot in pipeline["plots"] for path in plot)]
    # The stage itself wrote the checkpoint, from the same inputs; a lock holds a process number.
    allowed = ["params.yaml", "dvc.yaml", "stages/", "models/checkpoints", str(CLAIMS)]
    allowed += [path.replace("${item.method}", "simclr") for path in declared]
    inside = {os.path.relpath(project.path / name, project.path) for name in opened}
    ours = {name for name in inside if not name.startswith("..") and not name.endswith(".tmp")}
    folders = {str(Path(path).parent) for path in allowed}
    temporary = tuple(f"{folder}/." for folder in folders)  # names of temporary files begin with a dot
    return sorted(name for name in ours - folders if not name.startswith((*allowed, *temporary)))


def test_training_opens_no_undeclared_file(project: Project, tmp_path: Path) -> None:
    """Every file of the project that a training stage opens is code, or declared in dvc.yaml."""
    shutil.rmtree(project.path / "models" / "checkpoints")  # otherwise nothing would be trained again
    project.set(finetune__recipe__simclr={})  # so that a recipe is chosen
    for stage in ("pretrain", "choose", "finetune", "distil"):
        assert undeclared(project, stage, tmp_path / stage) == []


def test_baselines_open_no_model_and_no_undeclared_file(project: Project, tmp_path: Path) -> None:
    shutil.rmtree(project.path / "models")
    shutil.rmtree(project.path / "data/baselines")  # the stage would open its folders to remove them
    assert undeclared(project, "baselines", tmp_path / "log", "evaluate.baselines") == []


def test_a_planted_look_at_the_test_split_is_noticed(project: Project, tmp_path: Path) -> None:
    stage = project.path / "stages" / "finetune" / "every_draw.py"
    text = stage.read_text()
    leak = '    open("data/prepared/test/index.csv").close()\n'
    place = "    settings = stage.settings\n"
    assert place in text
    stage.write_text(text.replace(place, leak + place))
    assert undeclared(project, "finetune", tmp_path / "log") == ["data/prepared/test/index.csv"]
