"""Stages in this process on a few digits: what a failure in the middle of a stage leaves behind."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import Tensor

from stages.errors import InputError
from stages.evaluate.frozen import FrozenEncoder
from stages.files.json_files import write_json
from stages.files.packs import write_array
from stages.files.paths import IMAGES, LABELS, encoder_file
from stages.files.tables import read_table, write_table
from stages.finetune import every_draw
from stages.pretrain import __main__ as pretrain
from stages.pretrain import health
from stages.settings import load
from stages.settings.recipes import Recipe
from stages.tasks import finetuning
from stages.tasks.chosen import recipes_file, write_recipes
from stages.training.machine import Machine
from tests.conftest import ROOT, seal
from tests.pipeline.conftest import SMALL, change

POOL = 200


def write_part(folder: Path, name: str, images: np.ndarray, labels: np.ndarray) -> None:
    table = pd.DataFrame({"id": [f"{name}-{row}" for row in range(len(images))], "split": name, "source": ""})
    write_array(folder / f"{name}.npy", images)
    write_table(folder / f"{name}.csv", table.assign(label=labels))


@pytest.fixture
def project(in_copy: Path, digits: tuple[Tensor, Tensor]) -> Path:
    """A working directory with a small pool, and parameters with which each stage takes a moment."""
    (in_copy / "stages").symlink_to(ROOT / "stages")
    change(in_copy / "params.yaml", SMALL | {"finetune.budgets": [10], "finetune.draws": 1})
    images, labels = (part.numpy() for part in digits)
    write_part(IMAGES, "pool", images[:POOL], labels[:POOL])
    write_part(IMAGES, "validation", images[POOL:], labels[POOL:])
    ids = read_table(IMAGES / "pool.csv")[["id", "label"]]
    write_table(LABELS / "pool.csv", ids)
    write_json(LABELS / "classes.json", [str(digit) for digit in range(10)])
    seal()
    pretrain.main("scratch")
    recipe = Recipe(encoder_learning_rate=0.01, head_learning_rate=0.01, weight_decay=0.5)
    write_recipes(recipes_file("scratch"), {f"n{budget}": recipe for budget in (10, 20, 40)}, or_frozen=False)
    return in_copy


def outputs() -> dict[Path, bytes]:
    return {
        path: path.read_bytes()
        for folder in ("models/encoders", "models/classifiers", "metrics")
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("stage", "module", "name"), [(pretrain, health, "encode"), (every_draw, finetuning, "encode_rows")]
)
def test_a_parameter_that_changes_while_a_stage_runs_leaves_its_outputs(
    stage: Any, module: Any, name: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every_draw.main("scratch")
    before, original = outputs(), getattr(module, name)

    def meanwhile(*arguments: Any) -> Tensor:  # the stage has read the parameters
        change(project / "params.yaml", {"seeds.training": 2})
        return original(*arguments)

    (project / "models/checkpoints/finetune/scratch/n10-draw0").unlink()
    monkeypatch.setattr(module, name, meanwhile)
    with pytest.raises(InputError, match=r"changed while it ran \(seeds\.training\); no result was written"):
        stage.main("scratch")
    assert load.read(load.PARAMS)["seeds"]["training"] == 2
    assert outputs() == before


@pytest.mark.usefixtures("project")
def test_a_changed_validation_label_does_not_train_classifiers_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    every_draw.main("scratch")
    before = outputs()
    validation = IMAGES / "validation.csv"
    table = read_table(validation)
    write_table(validation, table.assign(label=table["label"].where(table.index > 0)))
    seal()
    capsys.readouterr()
    every_draw.main("scratch")
    assert "finetune scratch n10-draw0: resumed at step 4 of 4" in capsys.readouterr().out
    classifiers = {path for path in before if path.suffix == ".safetensors"}
    assert {path: content for path, content in outputs().items() if path in classifiers} == {
        path: before[path] for path in classifiers
    }


def test_other_files_and_folders_among_the_checkpoints_are_reported_and_ignored(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every_draw.main("scratch")
    expected, checkpoints = outputs(), project / "models/checkpoints/finetune/scratch"
    (checkpoints / "n10-draw0").unlink()
    for name in ("n10-draw0", "unknown"):
        (checkpoints / name).mkdir()
        (checkpoints / name / "file").write_text("content")
    (checkpoints / "n99-draw0").write_text("a budget that was removed")
    (project / "models/classifiers/.scratch.1.tmp").write_text("not a folder")
    capsys.readouterr()
    every_draw.main("scratch")
    output = capsys.readouterr().out
    assert "finetune/scratch/unknown: is a folder, which no stage makes; it is not removed" in output
    assert "finetune/scratch/n10-draw0: is a folder, so no checkpoint of this training is written" in output
    assert {path.name for path in checkpoints.iterdir()} == {"n10-draw0", "unknown"}
    assert (checkpoints / "n10-draw0" / "file").read_text() == "content"
    classifiers = [path for path in expected if path.suffix == ".safetensors"]
    assert {path: outputs()[path] for path in classifiers} == {path: expected[path] for path in classifiers}


def test_the_checkpoint_of_another_draw_is_not_taken_though_the_labels_are_equal(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each draw of the budget `all` has the same images; only its random numbers differ."""
    recipe = Recipe(encoder_learning_rate=0.01, head_learning_rate=0.01, weight_decay=0.5)
    write_recipes(recipes_file("scratch"), {"nall": recipe}, or_frozen=False)
    change(project / "params.yaml", {"finetune.budgets": ["all"], "finetune.draws": 2})
    every_draw.main("scratch")
    expected, checkpoints = outputs(), project / "models/checkpoints/finetune/scratch"
    first, second = (Path(f"models/classifiers/scratch/nall-draw{draw}.safetensors") for draw in (0, 1))
    assert expected[first] != expected[second]
    (checkpoints / "nall-draw1").write_bytes((checkpoints / "nall-draw0").read_bytes())
    capsys.readouterr()
    every_draw.main("scratch")
    output = capsys.readouterr().out
    assert "nall-draw0: resumed at step" in output
    assert "nall-draw1: resumed" not in output
    assert (outputs()[first], outputs()[second]) == (expected[first], expected[second])


@pytest.mark.parametrize("images", [POOL - 1, POOL + 1])
@pytest.mark.usefixtures("project")
def test_a_pool_of_another_length_than_its_table_is_refused(
    images: int, digits: tuple[Tensor, Tensor], cpu: Machine
) -> None:
    write_array(IMAGES / "pool.npy", digits[0][:images].numpy())
    seal()
    message = rf"pool\.npy: holds {images} images; its table has {POOL} rows"
    with pytest.raises(InputError, match=message):
        every_draw.main("scratch")
    settings = load.parameters("evaluate", "scratch")
    with pytest.raises(InputError, match=message):
        FrozenEncoder(encoder_file("scratch", 0), digits[0], digits[1][:POOL], 10, settings, cpu)
    write_array(IMAGES / "validation.npy", digits[0][:images].numpy())
    seal()
    with pytest.raises(InputError, match=r"validation\.npy: holds"):
        pretrain.main("scratch")
