"""The command `init`: from a folder to params.yaml."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.errors import InputError
from stages.settings import load
from stages.tools import fitting_images, init, rehearsal
from stages.tools.rehearsal import Times
from stages.tools.survey import read_headers
from tests.pipeline.conftest import change


@pytest.fixture
def images(in_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 160 colour images in two classes, in a working directory; nothing is timed."""
    monkeypatch.setattr(rehearsal, "measure", lambda *_: Times(0.1, 0.01, 1719))
    pixels = np.random.default_rng(1).integers(0, 256, (160, 48, 60, 3), dtype=np.uint8)
    for number, picture in enumerate(pixels):
        folder = in_copy / "images" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{number}.png")
    return in_copy / "images"


def test_the_parameters_fit_the_folder_and_all_else_stays(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load.read(load.PARAMS)
    init.main([str(images)])
    settings = load.validated(load.read(load.PARAMS))
    assert (settings.data.source, settings.data.path, settings.data.image_size) == ("folder", "images", 48)
    assert settings.methods == ("scratch", "simclr")
    assert (settings.views.pretrain, settings.views.finetune) == ("photos", "photos_mild")
    assert settings.finetune.budgets == (50, "all")
    assert settings.pretrain.runs == 3
    assert settings.finetune.schedule.epochs == 50
    assert settings.encoder.name == "residual"
    after = load.read(load.PARAMS)
    assert after["views"]["presets"] == before["views"]["presets"]
    assert after["finetune"]["recipe"] == before["finetune"]["recipe"]
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("  data.path: images (")]
    assert line.endswith(" images to pretrain on); was data/raw")
    assert any(line.startswith("make repro will take about ") for line in lines)
    assert any(line.startswith("at best the test shows gains from about ") for line in lines)
    assert any(line.startswith("doubtful: the test has ") for line in lines)
    assert "    # in a subfolder `mnist`" in load.PARAMS.read_text()  # a comment of two lines
    assert "source: folder # [your own images] mnist, fashion-mnist" in load.PARAMS.read_text()

    first = load.PARAMS.read_bytes()
    init.main([str(images)])
    assert load.PARAMS.read_bytes() == first


def test_a_slow_machine_gets_smaller_images_and_is_timed_with_them(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in images.rglob("*.png"):
        with Image.open(file) as image:
            image.resize((70, 64)).save(file)
    timed = []

    def measure(_: object, pool: np.ndarray, __: int) -> Times:
        timed.append(pool.shape[2:])
        return Times(pool.shape[2] ** 2 / 8000, 0.01, 1719)

    monkeypatch.setattr(rehearsal, "measure", measure)
    init.main([str(images)])
    assert timed == [(64, 64), (48, 48)]
    assert load.validated(load.read(load.PARAMS)).data.image_size == 48
    assert "  data.image_size: 48 (with 64 pixels enough pretraining would take 44" in capsys.readouterr().out


@pytest.mark.parametrize(("load", "is_said"), [(0.1, False), (3.0, True), (None, False)])
def test_a_busy_machine_is_named_because_the_times_are_then_too_long(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], load: float | None,
    is_said: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(init, "cores", lambda: 2)
    if load is None:
        monkeypatch.delattr(os, "getloadavg")
    else:
        monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    init.main([str(images), "--dry-run"])
    assert ("doubtful: other programs were busy" in capsys.readouterr().out) == is_said


def test_more_is_held_out_for_validation_so_that_it_has_labels_to_choose_by(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting_images, "CHOOSING", 24)
    init.main([str(images)])
    assert load.read(load.PARAMS)["data"]["folder"]["validation"] == 0.15  # 24 of 160
    rows = [f"dog/{number}.png,validation" for number in range(1, 40, 2)]
    (images / "labels.csv").write_text("\n".join(["file,split", *rows]) + "\n")
    init.main([str(images)])
    assert load.read(load.PARAMS)["data"]["folder"]["validation"] == 0.15  # the folder's own is not changed


def of_one_scene(images: Path) -> None:
    """All pictures show the same, with little noise, as those of a fixed camera."""
    scene = np.random.default_rng(2).integers(0, 256, (48, 60, 3))
    for number, file in enumerate(sorted(images.rglob("*.png"))):
        noise = np.random.default_rng(number).integers(-6, 7, scene.shape)
        Image.fromarray(np.clip(scene + noise, 0, 255).astype(np.uint8)).save(file)


def twins() -> float | None:
    value: float | None = load.read(load.PARAMS)["data"]["folder"]["twins"]
    return value


def test_pictures_of_one_scene_are_kept(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of_one_scene(images)
    init.main([str(images)])
    assert twins() is None
    said = "  data.folder.twins: null (100% of the images look like copies of test images, of "
    assert said in capsys.readouterr().out
    before = load.PARAMS.read_bytes()
    init.main([str(images)])
    assert load.PARAMS.read_bytes() == before


def test_what_was_kept_in_one_folder_is_left_out_in_the_next(images: Path) -> None:
    other = images.rename(images.parent / "other")
    images.mkdir()
    for file in other.rglob("*.png"):
        copy = images / file.relative_to(other)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(file.read_bytes())
    of_one_scene(other)
    init.main([str(other)])
    assert twins() is None
    init.main([str(images)])
    assert twins() == 0.99


def test_copies_are_left_out_however_many(images: Path) -> None:
    # Two more exports of each picture: many images of the pool have copies in the test, but one or two each.
    for file in list(images.rglob("*.png")):
        with Image.open(file) as image:
            for name, factor in (("darker", 0.9), ("dark", 0.8)):
                image.point(lambda value, by=factor: value * by).save(file.with_name(f"{name}-{file.name}"))
    init.main([str(images)])
    assert twins() == 0.99


def test_a_threshold_that_was_set_by_hand_stays(images: Path) -> None:
    change(load.PARAMS, {"data.folder.twins": 0.95})
    init.main([str(images)])
    assert twins() == 0.95


def test_a_class_that_is_too_small_is_named_although_its_images_are_copies(images: Path) -> None:
    with Image.open(images / "cat" / "0.png") as image:
        (images / "rare").mkdir()
        for number in range(3):
            image.point(lambda value, by=number: value * (0.9 - 0.1 * by)).save(
                images / "rare" / f"{number}.png"
            )
    before = load.PARAMS.read_bytes()
    with pytest.raises(InputError, match="'rare'") as caught:
        init.main([str(images)])
    assert len(caught.value.args) == 1
    assert load.PARAMS.read_bytes() == before


def test_bad_files_are_named_once_although_all_pictures_look_like_copies(images: Path) -> None:
    of_one_scene(images)
    (images / "cat" / "bad.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"bad\.png") as caught:
        init.main([str(images)])
    assert sum("bad.png" in line for line in caught.value.args) == 1


def test_without_a_label_there_are_no_views_to_try(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("cat", "dog"):
        for file in (images / folder).glob("*.png"):
            file.rename(images / f"{folder}-{file.name}")
        (images / folder).rmdir()
    init.main([str(images)])
    output = capsys.readouterr().out
    assert "make views before it" not in output
    assert "params.yaml is written; next: make repro" in output


def test_grey_pictures_stored_in_colour_get_one_channel(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in images.rglob("*.png"):
        with Image.open(file) as image:
            image.convert("L").convert("RGB").save(file)
    init.main([str(images)])
    settings = load.validated(load.read(load.PARAMS))
    assert (settings.data.channels, settings.views.pretrain) == (1, "clothes")
    assert "  data.channels: 1 (stored in colour, but all of a sample are grey)" in capsys.readouterr().out


def test_of_long_pictures_not_only_the_centre_is_taken(images: Path) -> None:
    for file in images.rglob("*.png"):
        with Image.open(file) as image:
            image.resize((120, 40)).save(file)
    init.main([str(images)])
    data = load.validated(load.read(load.PARAMS)).data
    assert (data.fit, data.image_size) == ("pad", 64)


def test_with_few_groups_a_larger_fraction_is_held_out(images: Path) -> None:
    # By their names a tenth of these ten groups would be none of them.
    rows = [f"{file.relative_to(images)},D{int(file.stem) % 10:02}" for file in images.rglob("*.png")]
    (images / "labels.csv").write_text("\n".join(["file,group", *rows]) + "\n")
    init.main([str(images)])
    assert load.read(load.PARAMS)["data"]["folder"]["validation"] == 0.23


def test_a_dry_run_prints_the_changes_and_writes_nothing(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load.PARAMS.read_bytes()
    init.main([str(images), "--dry-run"])
    assert load.PARAMS.read_bytes() == before
    output = capsys.readouterr().out
    assert "+  source: folder # [your own images]" in output
    assert f"{load.PARAMS} is written" not in output


def test_a_folder_that_is_none_or_has_no_images_is_named(images: Path) -> None:
    before = load.PARAMS.read_bytes()
    with pytest.raises(InputError, match=r"^nowhere: is not a folder"):
        init.main(["nowhere"])
    (images.parent / "empty").mkdir()
    with pytest.raises(InputError, match=r"contains no image files"):
        init.main(["empty"])
    assert load.PARAMS.read_bytes() == before


def test_headers_are_read_and_files_that_are_no_images_passed_over(images: Path) -> None:
    (images / "broken.png").write_bytes(b"no image")
    Image.new("RGBA", (10, 20)).save(images / "clear.png")
    found = read_headers(images, ["broken.png", "cat/0.png", "cat/2.png", "clear.png"])
    assert found.sides == (10, 48, 48)
    assert (found.shapes, found.median) == (2, (60, 48))
    assert found.alpha == pytest.approx(1 / 3)
    assert read_headers(images, ["broken.png"]).sides == ()


def test_a_folder_elsewhere_keeps_its_whole_path(
    images: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert init.inside(images) == "images"
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert init.inside(elsewhere) == elsewhere.resolve().as_posix()
