"""The pipeline on a folder of images: from files to predictions, and what runs again after labelling more."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.image_files import write_bomb, write_shapes
from tests.pipeline.conftest import Project, made_once
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


@pytest.fixture(scope="module")
def reproduced(baseline: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project on a folder of coloured shapes, most of them unlabelled; reproduced and committed."""

    def make(path: Path) -> Project:
        project = baseline.copy(path)
        write_shapes(project.path / "data/images", each=60, unlabelled=100)
        project.set(**OWN)
        project.run("dvc", "add", "data/images")
        ran = project.repro()
        assert len(ran) == 13
        project.commit("own images")
        return project

    return made_once(tmp_path_factory, "shapes", make)


@pytest.fixture
def shapes(reproduced: Project, tmp_path: Path) -> Project:
    """A copy of the project on coloured shapes, for a test to change."""
    return reproduced.copy(tmp_path / "shapes")


def summary(project: Project) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(project.read("metrics/summary.json"))
    return content


def unlabelled(project: Project) -> list[Path]:
    """The files of the pool that have no label."""
    table = pd.read_csv(project.path / "data/prepared/labels/pool.csv", keep_default_na=False)
    return [project.path / file for file in table[table["label"] == ""]["file"]]


def label(files: list[Path]) -> None:
    """Move files from `unlabeled` to the folder of their class."""
    classes = {"c": "circle", "s": "square", "t": "triangle"}
    for file in files:
        file.rename(file.parents[1] / classes[file.name[0]] / file.name)


def test_fifty_more_labels_add_a_budget_without_pretraining(shapes: Project) -> None:
    before = summary(shapes)
    assert set(before["simclr"]) == {"n30"}  # there are fewer than 150 labels
    encoder = shapes.read("models/encoders/simclr/run0.safetensors")
    shapes.stage("stages.tools.suggest", "--count", "50")
    table = pd.read_csv(shapes.path / "suggestions.csv")  # lines for labels.csv, in the folder of images
    suggested = [shapes.path / "data/images" / file for file in table["file"]]
    assert set(suggested) <= set(unlabelled(shapes))
    label(suggested)
    shapes.run("dvc", "add", "data/images")
    ran = shapes.repro()
    assert ran[0] == "prepare"
    assert not [stage for stage in ran if stage.startswith("pretrain")]
    assert shapes.read("models/encoders/simclr/run0.safetensors") == encoder
    after = summary(shapes)
    assert set(after["simclr"]) == {"n30", "n150"}
    assert len(np.load(shapes.path / "data/predictions/simclr/n150-draw0-finetuned.npy")) == 41
    diff = shapes.run("dvc", "metrics", "diff", "main", "--targets", "metrics/summary.json").stdout
    assert "simclr.n150.accuracy" in diff
    counts = shapes.run("dvc", "metrics", "diff", "main", "--targets", "metrics/data.json", "--json").stdout
    assert {name: change["diff"] for name, change in json.loads(counts)["metrics/data.json"].items()} == {
        "pool_labelled": len(suggested)
    }
    assert shapes.repro() == []


@pytest.mark.full
def test_a_label_in_the_validation_split_does_not_train_again(shapes: Project) -> None:
    table = pd.read_csv(shapes.path / "data/prepared/images/validation.csv", keep_default_na=False)
    names = set(table[table["label"] == ""]["source"])
    files = [file for file in (shapes.path / "data/images/unlabeled").iterdir() if file.name in names]
    assert files
    before, encoder = (
        shapes.read("metrics/pretrain/simclr.csv"),
        shapes.read("models/encoders/simclr/run0.safetensors"),
    )
    label(files)
    shapes.run("dvc", "add", "data/images")
    output = shapes.run("dvc", "repro").stdout
    assert re.search(r"pretrain simclr: resumed at step (\d+) of \1$", output, re.MULTILINE), output
    assert shapes.read("models/encoders/simclr/run0.safetensors") == encoder
    updated = shapes.read("metrics/pretrain/simclr.csv")
    assert updated != before
    shutil.rmtree(shapes.path / "models/checkpoints")
    shapes.repro("--force", "--single-item", "pretrain@simclr")
    assert shapes.read("metrics/pretrain/simclr.csv") == updated
    assert shapes.read("models/encoders/simclr/run0.safetensors") == encoder


@pytest.mark.full
def test_labels_may_be_added_in_the_table(project: Project) -> None:
    files = write_shapes(project.path / "data/images", each=1, unlabelled=99)
    flat = project.path / "data/images"
    for file in files:
        file.rename(flat / file.name)
    for path in flat.iterdir():
        if path.is_dir():
            path.rmdir()
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


def test_from_a_folder_to_a_prediction(shapes: Project, tmp_path: Path) -> None:
    write_shapes(tmp_path / "new", each=5)
    result = shapes.stage("stages.tools.predict", str(tmp_path / "new"), "--model", "simclr/n30")
    table = pd.read_csv(shapes.path / "predictions.csv")
    assert len(table) == 15
    assert set(table["label"]) <= {"circle", "square", "triangle"}
    assert "15 images classified" in result.stdout


def test_the_report_has_the_name_of_the_folder_and_mistakes_would_have_those_of_their_files(
    shapes: Project,
) -> None:
    index = pd.read_csv(shapes.path / "data/prepared/test/index.csv")
    assert all((shapes.path / file).is_file() for file in index["file"])
    mistakes = pd.read_csv(shapes.path / "metrics/evaluate/simclr_mistakes.csv")  # often there are none
    assert set(mistakes["file"]) <= set(index["file"])
    assert "What pretraining bought on images<" in shapes.read("metrics/report.html").decode()


@pytest.mark.full
def test_images_without_labels_are_pretrained_on_and_finetuning_reports_why_it_is_skipped(
    project: Project,
) -> None:
    write_shapes(project.path / "data/images", each=0, unlabelled=60)
    project.set(**OWN)
    project.run("dvc", "add", "data/images")
    output = project.run("dvc", "repro").stdout
    assert "images only" in output
    assert "0 images of the pool have a label, of 0 classes: skipping the budget 30, 150" in output
    assert summary(project) == {"scratch": {}, "simclr": {}}
    figures = json.loads(project.read("metrics/pretrain/simclr.json"))
    assert figures["knn"] is None
    assert figures["rankme"] > 1
    project.stage("stages.compare", "--show")
    project.stage("stages.tools.suggest", "--count", "5")


@pytest.mark.full
def test_fashion_mnist_as_files_gives_the_same_results(project: Project) -> None:
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
        "models/encoders/simclr/run0.safetensors", "metrics/summary.json", "metrics/details.json",
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


def test_every_bad_file_is_listed_and_no_output_is_changed(shapes: Project) -> None:
    images = shapes.path / "data/images"
    before = files(shapes, "data/prepared") | files(shapes, "metrics")
    write_bomb(images / "circle/bomb.png")
    Image.linear_gradient("L").save(images / "circle/\u00fc.png")  # a name that is not ASCII is allowed
    (images / "circle/empty.png").touch()
    (images / "circle/text.jpg").write_text("not an image")
    (images / "square/cut.png").write_bytes((images / "square").glob("*.png").__next__().read_bytes()[:200])
    (images / "square/nowhere.png").symlink_to("/nowhere/at/all.png")
    (images / "lonely").mkdir()
    file = next((images / "unlabeled").iterdir()).name
    Image.radial_gradient("L").save(images / "lonely/alone.png")
    rows = [
        f"unlabeled/{file},square",
        f"unlabeled/{file},circle",
        "../up.png,circle",
        "gone.png,circle",
    ]
    lines = ["file,label", *rows, "lonely/alone.png,lonely", "circle/empty.png,triangle"]
    (images / "labels.csv").write_text("\n".join(lines))
    result = shapes.stage("stages.prepare", check=False)
    assert result.returncode == 2
    for message in (
        "empty.png: is empty",
        "text.jpg: is not an image",
        "cut.png: cannot be decoded",
        "nowhere.png: is a broken link",
        "class 'lonely' has one image",
        "bomb.png: has 60,000 × 60,000 pixels",
        f"labels.csv, line 3: unlabeled/{file} is listed twice",
        "labels.csv, line 4: ../up.png is outside the folder",
        "labels.csv, line 5: there is no image gone.png",
        "set data.folder.on_bad_image to skip",
    ):
        assert message in result.stderr, message  # fmt: skip
    assert "Traceback" not in result.stderr
    assert "\u00fc" not in result.stderr
    assert files(shapes, "data/prepared") | files(shapes, "metrics") == before
