"""Images of one's own: from a folder to a prediction, and the day on which fifty more get a label."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.image_files import write_bomb, write_shapes
from tests.pipeline.conftest import Project
from tests.pipeline.test_honesty import files

OWN: dict[str, Any] = {
    "data__source": "folder",
    "data__path": "data/images",
    "data__train_limit": None,
    "data__test_limit": None,
    "views__pretrain": "photos_mild",
    "views__finetune": "photos_mild",
    "finetune__budgets": [30, 150],
}


@pytest.fixture
def own(project: Project) -> Project:
    """The project on a folder of coloured shapes, most of them without a label; reproduced and committed."""
    write_shapes(project.path / "data/images", each=60, unlabelled=100)
    project.set(**OWN)
    project.run("dvc", "add", "data/images")
    ran = project.repro()
    assert len(ran) == 8
    project.commit("own images")
    return project


def summary(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(project.read("metrics/summary.json"))
    return found


def unlabelled(project: Project, split: str = "pool") -> list[Path]:
    """Files of the pool that have no label."""
    table = pd.read_csv(project.path / "data/prepared/labels" / f"{split}.csv", keep_default_na=False)
    return [project.path / file for file in table[table["label"] == ""]["file"]]


def label(project: Project, files: list[Path]) -> None:
    """Move files from `unlabeled` into the folder of their class."""
    classes = {"c": "circle", "s": "square", "t": "triangle"}
    for file in files:
        file.rename(file.parents[1] / classes[file.name[0]] / file.name)


def test_fifty_more_labels_pretrain_nothing_and_a_budget_appears(own: Project) -> None:
    before = summary(own)
    assert set(before["simclr"]) == {"n30"}  # 150 labels are not there yet
    encoder = own.read("models/encoders/simclr.safetensors")
    own.stage("stages.suggest", "--count", "50")
    suggested = [own.path / file for file in pd.read_csv(own.path / "suggestions.csv")["source"]]
    assert set(suggested) <= set(unlabelled(own))
    label(own, suggested)
    own.run("dvc", "add", "data/images")
    ran = own.repro()
    assert ran[0] == "prepare"
    assert not [stage for stage in ran if stage.startswith("pretrain")]
    assert own.read("models/encoders/simclr.safetensors") == encoder
    after = summary(own)
    assert set(after["simclr"]) == {"n30", "n150"}
    assert len(np.load(own.path / "data/predictions/simclr/n150-draw0-finetuned.npy")) == 41
    diff = own.run("dvc", "metrics", "diff", "main", "--targets", "metrics/summary.json").stdout
    assert "simclr.n150.accuracy" in diff
    counted = own.run("dvc", "metrics", "diff", "main", "--targets", "metrics/data.json", "--json").stdout
    assert {name: change["diff"] for name, change in json.loads(counted)["metrics/data.json"].items()} == {
        "pool_labelled": len(suggested)
    }
    assert own.repro() == []


def test_a_label_in_the_validation_split_trains_nothing_again(own: Project) -> None:
    table = pd.read_csv(own.path / "data/prepared/images/validation.csv", keep_default_na=False)
    names = set(table[table["label"] == ""]["source"])
    files = [file for file in (own.path / "data/images/unlabeled").iterdir() if file.name in names]
    assert files
    before, encoder = own.read("metrics/pretrain/simclr.csv"), own.read("models/encoders/simclr.safetensors")
    label(own, files)
    own.run("dvc", "add", "data/images")
    output = own.run("dvc", "repro").stdout
    assert "pretrain simclr: resumed at step 10 of 10" in output  # nothing is left to be trained
    assert own.read("models/encoders/simclr.safetensors") == encoder
    looked_at_anew = own.read("metrics/pretrain/simclr.csv")
    assert looked_at_anew != before
    shutil.rmtree(own.path / "models/checkpoints")
    own.repro("--force", "--single-item", "pretrain@simclr")
    assert own.read("metrics/pretrain/simclr.csv") == looked_at_anew
    assert own.read("models/encoders/simclr.safetensors") == encoder


def test_a_row_in_the_table_is_a_label_too(project: Project) -> None:
    files = write_shapes(project.path / "data/images", each=1, unlabelled=99)
    flat = project.path / "data/images"
    for file in files:
        file.rename(flat / file.name)
    for place in flat.iterdir():
        if place.is_dir():
            place.rmdir()
    classes = {"c": "circle", "s": "square", "t": "triangle"}
    names = sorted(file.name for file in files)
    rows = pd.DataFrame({"file": names, "label": [classes[name[0]] for name in names]})
    first = rows.iloc[::2]
    first.to_csv(flat / "labels.csv", index=False)
    project.set(**OWN | {"finetune__budgets": [30, "all"]})
    project.run("dvc", "add", "data/images")
    project.repro()
    images = project.read("data/prepared/images/pool.npy")
    pool = {Path(file).name for file in unlabelled(project)}
    rows[rows["file"].isin(pool) | rows["file"].isin(first["file"])].to_csv(flat / "labels.csv", index=False)
    project.run("dvc", "add", "data/images")
    ran = project.repro()
    assert project.read("data/prepared/images/pool.npy") == images
    assert not [stage for stage in ran if stage.startswith("pretrain")]
    assert unlabelled(project) == []


def test_from_a_folder_to_a_prediction(own: Project, tmp_path: Path) -> None:
    write_shapes(tmp_path / "new", each=5)
    result = own.run(sys.executable, "-m", "stages.predict", str(tmp_path / "new"), "--model", "simclr/n30")
    table = pd.read_csv(own.path / "predictions.csv")
    assert len(table) == 15
    assert set(table["label"]) <= {"circle", "square", "triangle"}
    assert "15 images classified" in result.stdout


def test_images_without_any_label_are_pretrained_on_and_finetune_says_why_not_more(project: Project) -> None:
    write_shapes(project.path / "data/images", each=0, unlabelled=60)
    project.set(**OWN)
    project.run("dvc", "add", "data/images")
    output = project.run("dvc", "repro").stdout
    assert "nothing but images" in output
    assert "0 images of the pool have a label, of 0 classes: nothing to do for the budget 30, 150" in output
    assert summary(project) == {"scratch": {}, "simclr": {}}
    figures = json.loads(project.read("metrics/pretrain/simclr.json"))
    assert figures["knn"] is None
    assert figures["rankme"] > 1
    project.stage("stages.compare", "--show")
    project.stage("stages.suggest", "--count", "5")


def test_fashion_mnist_as_files_gives_the_same_numbers(project: Project) -> None:
    project.set(data__source="fashion-mnist")
    project.repro()
    parts, rows = project.path / "data/prepared", []
    classes = json.loads((parts / "labels/classes.json").read_text())
    tables = {
        "train": (parts / "images/pool.npy", parts / "labels/pool.csv"),
        "validation": (parts / "images/validation.npy", parts / "images/validation.csv"),
        "test": (parts / "test/images.npy", parts / "test/index.csv"),
    }
    for split, (pack, table) in tables.items():
        for number, (image, label) in enumerate(zip(np.load(pack), pd.read_csv(table)["label"], strict=True)):
            name = f"{label} {classes[label].replace('/', ' or ')}/{number:05d}-{split}.png"
            (project.path / "data/images" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0]).save(project.path / "data/images" / name)
            rows.append({"file": name, "split": split})
    pd.DataFrame(rows).to_csv(project.path / "data/images/labels.csv", index=False)
    compared = [
        "data/prepared/images/pool.npy", "data/prepared/images/validation.npy",
        "data/prepared/test/images.npy",
        "models/encoders/simclr.safetensors", "metrics/summary.json", "metrics/details.json",
    ]  # fmt: skip
    before = {name: project.read(name) for name in compared}
    project.set(
        data__source="folder", data__path="data/images", data__train_limit=None, data__test_limit=None
    )
    project.set(data__image_size=28, data__folder__twins=None)
    shutil.rmtree(project.path / "models/checkpoints")
    project.run("dvc", "add", "data/images")
    project.repro()
    assert {name: project.read(name) for name in compared} == before


def test_every_bad_file_is_listed_and_nothing_is_half_written(own: Project) -> None:
    images = own.path / "data/images"
    whole = files(own, "data/prepared") | files(own, "metrics")
    write_bomb(images / "circle/bomb.png")
    Image.linear_gradient("L").save(images / "circle/\u00fc.png")  # a name that is not ASCII is no fault
    (images / "circle/empty.png").touch()
    (images / "circle/text.jpg").write_text("no image")
    (images / "square/cut.png").write_bytes((images / "square").glob("*.png").__next__().read_bytes()[:200])
    (images / "square/nowhere.png").symlink_to("/nowhere/at/all.png")
    (images / "lonely").mkdir()
    waiting = next((images / "unlabeled").iterdir()).name
    Image.radial_gradient("L").save(images / "lonely/alone.png")
    rows = [
        f"unlabeled/{waiting},square",
        f"unlabeled/{waiting},circle",
        "../up.png,circle",
        "gone.png,circle",
    ]
    lines = ["file,label", *rows, "lonely/alone.png,lonely", "circle/empty.png,triangle"]
    (images / "labels.csv").write_text("\n".join(lines))
    result = own.run(sys.executable, "-m", "stages.prepare", check=False)
    assert result.returncode == 2
    for words in (
        "empty.png: is empty",
        "text.jpg: is no image",
        "cut.png: cannot be decoded",
        "nowhere.png: is a link to nothing",
        "class 'lonely' has one image",
        "bomb.png: has 60,000 × 60,000 pixels",
        f"labels.csv, line 3: unlabeled/{waiting} stands there twice",
        "labels.csv, line 4: ../up.png leaves the folder",
        "labels.csv, line 5: there is no image gone.png",
        "on_bad_image: skip",
    ):
        assert words in result.stderr, words  # fmt: skip
    assert "Traceback" not in result.stderr
    assert "\u00fc" not in result.stderr
    assert files(own, "data/prepared") | files(own, "metrics") == whole
