"""Folders as people have them, through the whole stage; each stands for a kind that went wrong in silence."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.errors import InputError
from stages.files import locks
from stages.files.json_files import read_json
from stages.files.packs import read_pack
from stages.prepare import __main__ as stage
from tests.conftest import ROOT
from tests.pipeline.conftest import change

IMAGES = Path("images")


@pytest.fixture(autouse=True)
def _project(in_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (in_copy / "stages").symlink_to(ROOT / "stages")
    source = {
        "data.source": "folder",
        "data.path": "images",
        "data.image_size": 16,
        "data.folder.validation": 0.3,
    }
    change(
        in_copy / "params.yaml", source | {"views.pretrain": "photos_mild", "views.finetune": "photos_mild"}
    )
    monkeypatch.setattr(locks, "_claimed", {})


def blob(kind: int, number: int, size: int = 24) -> np.ndarray:
    """A random blob of colour whose channel `kind` is brighter, uint8 (size, size, 3)."""
    rng = np.random.default_rng([kind, number])
    small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize((size, size), Image.Resampling.BICUBIC)).astype(int)
    pixels[:, :, kind % 3] += 90
    return np.clip(pixels, 0, 255).astype(np.uint8)


def grey(kind: int, number: int) -> np.ndarray:
    return np.asarray(Image.fromarray(blob(kind, number)).convert("L"))


def classes(
    folder: str, names: tuple[str, ...], each: int, start: int = 0,
    make: Callable[[int, int], np.ndarray] = blob, suffix: str = "png",
) -> None:  # fmt: skip
    """Class folders with `each` pictures."""
    for kind, name in enumerate(names):
        (IMAGES / folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(start, start + each):
            Image.fromarray(make(kind, number)).save(IMAGES / folder / name / f"{number:03d}.{suffix}")


def labels() -> dict[str, int]:
    """The number of images of each class in pool, validation and test."""
    table = pd.read_csv("metrics/data_classes.csv", dtype={"class": str}).set_index("class")
    return {str(name): int(total) for name, total in table.sum(axis=1).items()}


def packs() -> np.ndarray:
    """All prepared images, (n, C, 16, 16)."""
    files = ("images/pool.npy", "images/validation.npy", "test/images.npy")
    return np.concatenate([read_pack(Path("data/prepared") / file) for file in files])


@pytest.mark.parametrize(
    ("make", "suffix", "stored", "white"),
    [
        (lambda kind, n: grey(kind, n).astype(np.int32), "tif", "int32", 255),
        (lambda kind, n: grey(kind, n).astype(np.uint16) * 4, "png", "uint16", 1023),
        (lambda kind, n: grey(kind, n).astype(np.float32) / 255, "tif", "float32", 1),
        (lambda kind, n: grey(kind, n).astype(np.float32), "tif", "float32", 255),
        (lambda kind, n: grey(kind, n).astype(np.uint16) * 257, "tif", "uint16", 65535),
    ],
)
def test_grey_levels_of_any_depth_are_shown_as_eight_bits(
    make: Callable[[int, int], np.ndarray], suffix: str, stored: str, white: int
) -> None:
    classes("", ("benign", "malignant"), 60, make=grey)
    stage.main()
    expected = {image.tobytes() for image in packs()}
    for path in IMAGES.rglob("*.png"):
        path.unlink()
    classes("", ("benign", "malignant"), 60, make=make, suffix=suffix)
    stage.main()
    assert {image.tobytes() for image in packs()} == expected
    assert read_json(Path("data/prepared/images/decoding.json"))[stored] == white


def test_a_file_beside_which_all_others_would_be_black_is_refused() -> None:
    classes("", ("benign", "malignant"), 30, make=lambda kind, n: grey(kind, n).astype(np.uint16) * 4)
    Image.fromarray(np.full((24, 24), 65535, dtype=np.uint16)).save(IMAGES / "benign/hot.png")
    with pytest.raises(InputError) as caught:
        stage.main()
    assert caught.value.args[0].startswith(
        "images/benign/hot.png: has 16-bit grey values up to 65535, beside"
    )


def test_sixteen_bit_colours_that_use_few_bits_are_refused() -> None:
    """Pillow reads their upper eight bits only: hardly anything would be left."""
    classes("", ("a", "b"), 30)
    for path in IMAGES.rglob("*.png"):
        write_deep_colours(path, np.asarray(Image.open(path)).astype(np.uint16) * 4)
    with pytest.raises(InputError, match="has 16-bit colours of which the upper 8 bits go up to 3 of 255"):
        stage.main()
    for path in IMAGES.rglob("*.png"):
        path.unlink()
    classes("", ("a", "b"), 60)
    stage.main()
    expected = {image.tobytes() for image in packs()}
    for path in IMAGES.rglob("*.png"):
        write_deep_colours(path, np.asarray(Image.open(path)).astype(np.uint16) * 257)
    stage.main()
    assert {image.tobytes() for image in packs()} == expected


def write_deep_colours(path: Path, pixels: np.ndarray) -> None:
    """A PNG with 16 bits a channel, which Pillow cannot write."""
    import struct
    import zlib

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    height, width, _ = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    png = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + png)


@pytest.mark.parametrize(
    ("train", "test"), [("Training", "Testing"), ("train_set", "test_set"), ("TRAIN", "test1")]
)
def test_splits_with_other_names_are_splits(
    train: str, test: str, capsys: pytest.CaptureFixture[str]
) -> None:
    classes(train, ("glioma", "pituitary"), 60)
    classes(test, ("glioma", "pituitary"), 20, start=60)
    stage.main()
    assert labels() == {"glioma": 80, "pituitary": 80}
    assert len(read_pack(Path("data/prepared/test/images.npy"))) == 40
    assert "images: classes: 'glioma' 80, 'pituitary' 80\n" in capsys.readouterr().out


def test_classes_in_file_names_are_refused_with_the_known_layouts() -> None:
    for folder, count in (("train", 60), ("test1", 20)):
        (IMAGES / folder).mkdir(parents=True)
        for number in range(count):
            name = f"{('cat', 'dog')[number % 2]}.{number}" if folder == "train" else str(number)
            Image.fromarray(blob(number, number)).save(IMAGES / folder / f"{name}.png")
    with pytest.raises(
        InputError, match=r"names begin with cat, dog, as .* does.* known layouts: CLASS/…; train"
    ):
        stage.main()


def test_all_formats_are_read_and_what_is_passed_over_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    classes("", ("cat", "dog"), 30)
    classes("", ("rabbit",), 30, start=300, suffix="webp")
    (IMAGES / "goat").mkdir()
    for number in range(30):
        Image.fromarray(blob(0, 100 + number)).save(IMAGES / f"cat/j{number}.jfif", "JPEG")
        (IMAGES / f"goat/{number}.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    stage.main()
    assert labels() == {"cat": 60, "dog": 30, "rabbit": 30}
    out = capsys.readouterr().out
    assert "images: 30 files are passed over, because they are no images that can be read: 30 .heic" in out
    assert "warning: images: no image can be read in goat\n" in out


def test_classes_that_are_equal_numbers_have_a_fixed_order(capsys: pytest.CaptureFixture[str]) -> None:
    classes("", ("1", "01"), 40)
    stage.main()
    assert read_json(Path("data/prepared/labels/classes.json")) == ["01", "1"]
    assert "note: images: '01', '1' are different classes\n" in capsys.readouterr().out


def test_pictures_of_one_colour_are_copies_at_any_size(capsys: pytest.CaptureFixture[str]) -> None:
    classes("", ("cat", "dog"), 40)
    for number in range(40):
        side = 40 + number
        path = IMAGES / ("cat", "dog")[number % 2] / f"black{number}.png"
        Image.new(("RGB", "L")[number % 3 == 0], (side, side)).save(path)
    stage.main()
    counts = read_json(Path("metrics/data.json"))
    assert counts["conflicting_labels"] == 39
    assert labels() == {"cat": 40, "dog": 40}
    assert "warning: images: 1 picture(s) have copies with different labels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("colours", "ground"), [((255,), "black"), ((0,), "white"), ((255, 0), "grey"), ((200, 90), "white")]
)
def test_ink_is_seen_on_its_ground(colours: tuple[int, ...], ground: str) -> None:
    for kind, name in enumerate(("star", "heart")):
        (IMAGES / name).mkdir(parents=True)
        for number in range(40):
            pixels = np.full((24, 24, 4), colours[number % len(colours)], dtype=np.uint8)
            pixels[:, :, 3] = np.where(blob(kind, number)[:, :, 0] > 128, 255, 0)
            Image.fromarray(pixels).save(IMAGES / name / f"{number}.png")
    stage.main()
    assert read_json(Path("data/prepared/images/decoding.json"))["ground"] == ground
    assert packs().std((1, 2, 3)).min() > 5


def test_photographs_without_transparent_pixels_do_not_choose_the_ground() -> None:
    classes(
        "", ("a", "b"), 40, make=lambda kind, n: np.dstack([blob(kind, n), np.full((24, 24), 255, np.uint8)])
    )
    stage.main()
    assert read_json(Path("data/prepared/images/decoding.json"))["ground"] == "white"


def test_train_and_val_alone_are_train_and_test(capsys: pytest.CaptureFixture[str]) -> None:
    classes("train", ("a", "b"), 80)
    classes("val", ("a", "b"), 20, start=80)
    stage.main()
    assert len(read_pack(Path("data/prepared/test/images.npy"))) == 40
    assert "there is no test split: the images of validation are the test" in capsys.readouterr().out


def test_the_same_files_in_valid_and_test_are_said_to_be_copies() -> None:
    classes("train", ("a", "b"), 40)
    for folder in ("valid", "test"):
        classes(folder, ("a", "b"), 20, start=40)
    with pytest.raises(InputError) as caught:
        stage.main()
    message = r"40 images of validation have copies in test \(such as valid/(.*) and test/\1\)"
    assert re.search(message, caught.value.args[0])


def test_an_empty_pool_is_refused() -> None:
    classes("train", ("a", "b"), 20)
    for folder, start in (("valid", 0), ("test", 20)):
        classes(folder, ("a", "b"), 20, start=start)
    with pytest.raises(
        InputError, match=r"no image is left for the pool.*40 images of train have copies in validation"
    ):
        stage.main()


def test_masks_are_left_out_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    classes("", ("cat", "dog"), 40)
    for path in sorted(IMAGES.rglob("*.png")):
        Image.fromarray(grey(9, 9)).save(path.with_stem(f"{path.stem}_mask"))
    stage.main()
    assert labels() == {"cat": 40, "dog": 40}
    assert (
        "images: 80 masks are left out (such as cat/000_mask.png, of cat/000.png)\n"
        in capsys.readouterr().out
    )
    left_out = pd.read_csv("metrics/data_left_out.csv")
    assert (left_out["reason"] == "mask of a picture").sum() == 80


def test_which_images_there_are_does_not_depend_on_their_size() -> None:
    """Near copies: a JPEG of the same picture. At 8 pixels unrelated pictures would be near copies too."""
    classes("", ("cat", "dog"), 60)
    for number in range(20):
        Image.fromarray(blob(0, number)).resize((48, 48)).save(IMAGES / f"cat/again{number}.jpg", quality=90)
    ids = []
    for size in (8, 16, 64):
        change(Path("params.yaml"), {"data.image_size": size})
        stage.main()
        ids.append([Path(f"data/prepared/images/{name}.csv").read_text() for name in ("pool", "validation")])
    assert ids[0] == ids[1] == ids[2]
    assert read_json(Path("metrics/data.json"))["near_duplicates_of_test"] > 0


def test_pictures_that_resemble_test_images_are_told_and_kept(capsys: pytest.CaptureFixture[str]) -> None:
    def similar(kind: int, number: int) -> np.ndarray:
        return (0.8 * blob(kind, 1000).astype(float) + 0.2 * blob(kind, number)).astype(np.uint8)

    classes("", ("cat", "dog"), 60)
    classes("", ("cat", "dog"), 20, start=200, make=similar)
    stage.main()
    counts = read_json(Path("metrics/data.json"))
    assert 0 < counts["test_resembles_pool"] < 30
    assert f"note: images: {counts['test_resembles_pool']} of " in capsys.readouterr().out
    assert counts["near_duplicates_of_test"] == 0
