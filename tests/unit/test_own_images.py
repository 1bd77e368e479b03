import contextlib
import gc
import json
import shutil
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.errors import InputError
from stages.files import packs
from stages.images import pictures
from stages.prepare import near_duplicates, own_images, parts, row_cache
from stages.prepare.checks import check_parts
from stages.prepare.columns import natural_key
from stages.prepare.parts import Prepared
from stages.prepare.split import split_by_hash
from stages.pretrain.decoding_file import read_decoding
from stages.settings.data import Data, Folder
from stages.training.randomness import Stream
from tests.conftest import seal
from tests.image_files import picture, write_bomb, write_shapes

STREAM = Stream.of(1, "prepare")


@pytest.fixture(autouse=True)
def _working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settings(validation_share: float = 0.1, **changes: Any) -> Data:
    folder: dict[str, Any] = {
        "test": 0.2,
        "validation": validation_share,
        "on_bad_image": "error",
        "twins": 0.99,
        "detail": 1,
    }
    data: dict[str, Any] = {
        "source": "folder",
        "path": "images",
        "validation": 5000,
        "train_limit": None,
        "test_limit": None,
        "image_size": 16,
        "channels": "auto",
        "fit": "crop",
    }
    return Data(
        **data | {key: changes.pop(key) for key in list(changes) if key in data},
        folder=Folder(**folder | changes),
    )


def prepare(**changes: Any) -> Prepared:
    return own_images.prepare(settings(**changes), STREAM)


def splits(data: Prepared) -> dict[str, str]:
    """The split of each image, by its id."""
    return {
        row["id"]: row["split"]
        for part in (data.pool, data.validation, data.test)
        for row in part.table().to_dict("records")
    }


def test_a_split_depends_only_on_the_key() -> None:
    keys = [str(number).encode() for number in range(20_000)]
    names = [split_by_hash(key, 0.2, 0.1) for key in keys]
    shares = [names.count(name) / len(keys) for name in ("test", "validation", "pool")]
    assert shares == pytest.approx([0.2, 0.1, 0.7], abs=0.01)
    wider = [split_by_hash(key, 0.3, 0.1) for key in keys]  # a larger test split contains the smaller one
    assert all(new == "test" for old, new in zip(names, wider, strict=True) if old == "test")


def test_adding_images_does_not_move_others(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=60)
    before = splits(prepare())
    write_shapes(tmp_path / "images", each=90)
    after = splits(prepare())
    assert len(after) == len(before) + 90
    assert before.items() <= after.items()


def test_labelling_images_of_the_pool_does_not_change_the_packs(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=30, unlabelled=40)
    first = prepare()
    first.write({})
    images = {path: path.read_bytes() for path in Path("data/prepared/images").iterdir()}
    test = Path("data/prepared/test/images.npy").read_bytes()
    unlabelled = [
        Path(f) for f, n in zip(first.pool.table()["file"], first.pool.labels, strict=True) if n < 0
    ]
    assert len(unlabelled) > 60
    for path in unlabelled[:20]:
        path.rename(
            tmp_path / "images" / {"c": "circle", "s": "square", "t": "triangle"}[path.name[0]] / path.name
        )
    second = prepare()
    second.write({})
    assert {path: path.read_bytes() for path in images} == images
    assert Path("data/prepared/test/images.npy").read_bytes() == test
    assert (second.pool.labels >= 0).sum() == (first.pool.labels >= 0).sum() + 20


def test_unlabelled_test_images_are_set_aside(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=30, unlabelled=40)
    data = prepare()
    assert (data.test.labels >= 0).all()
    assert data.counts["test_waiting_for_a_label"] > 10
    sizes = [len(part.rows) for part in (data.pool, data.validation, data.test)]
    assert sum(sizes) + data.counts["test_waiting_for_a_label"] == 210
    # Unlabelled validation images are used to detect a collapse.
    assert (data.validation.labels < 0).any()


def test_a_group_is_never_in_two_splits(tmp_path: Path) -> None:
    files = write_shapes(tmp_path / "images", each=60)
    rows = [
        {"file": f.relative_to(tmp_path / "images"), "group": f"g{number % 30}"}
        for number, f in enumerate(files)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "images/labels.csv", index=False)
    groups = {str(Path("images") / row["file"]): row["group"] for row in rows}
    data = prepare()
    names: dict[str, set[str]] = {}
    for part in (data.pool, data.validation, data.test):
        for row in part.table().to_dict("records"):
            names.setdefault(groups[row["file"]], set()).add(row["split"])
    assert all(len(group) == 1 for group in names.values())
    assert {name for group in names.values() for name in group} == {"pool", "validation", "test"}


def test_a_stated_test_split_is_complete_and_validation_is_held_out_of_train(tmp_path: Path) -> None:
    write_shapes(tmp_path / "all", each=60)
    for number, file in enumerate(sorted((tmp_path / "all").rglob("*.*"))):
        parent = tmp_path / "images" / ("test" if number % 4 == 0 else "train") / file.parent.name
        parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, parent)
    data = prepare()
    assert {Path(file).parts[1] for file in data.test.table()["file"]} == {"test"}
    assert len(data.test.rows) == 45
    assert {Path(file).parts[1] for file in data.pool.table()["file"]} == {"train"}
    assert 5 < len(data.validation.rows) < 30


@pytest.mark.parametrize(
    ("stated", "shares"), [("train", (0.2, 0.1)), ("test", (0.0, 0.1)), ("validation", (0.2, 0.0))]
)
def test_the_output_says_how_images_without_a_stated_split_are_split(
    tmp_path: Path, stated: str, shares: tuple[float, float], capsys: pytest.CaptureFixture[str]
) -> None:
    files = write_shapes(tmp_path / "images", each=60)
    rows = [{"file": f.relative_to(tmp_path / "images"), "split": stated} for f in files[::3]]
    pd.DataFrame(rows).to_csv(tmp_path / "images/labels.csv", index=False)
    test, validation = shares
    with contextlib.suppress(InputError):
        prepare()
    line = f"a split is stated for 60 of 180 images; of the others, {test:.0%} go to test and "
    assert f"{line}{validation:.0%} to validation\n" in capsys.readouterr().out
    rows = [{"file": f.relative_to(tmp_path / "images"), "split": stated} for f in files]
    pd.DataFrame(rows).to_csv(tmp_path / "images/labels.csv", index=False)
    with contextlib.suppress(InputError):
        prepare()
    assert "a split is stated" not in capsys.readouterr().out


def test_near_duplicates_of_a_test_image_are_left_out_and_listed(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=60)
    original = next(Path(file) for file in prepare().test.table()["file"] if file.endswith(("png", "bmp")))
    image = Image.open(original).convert("RGB")
    copies = []
    for quality in range(60, 95):  # the same picture in lower quality: other bytes, nearly the same pixels
        path = original.with_name(f"again{quality}.jpg")
        image.resize((2 * image.width, 2 * image.height)).save(path, quality=quality)
        copies.append(path)
    data = prepare()
    left_out = {
        file: other for file, reason, other in data.left_out if reason == "near duplicate of a test image"
    }
    in_test = {path for path in map(str, copies) if path in set(data.test.table()["file"])}
    assert len(left_out) == data.counts["near_duplicates_of_test"] == len(copies) - len(in_test)
    assert {str(Path("images") / file) for file in left_out} == {str(p) for p in copies} - in_test
    assert prepare(twins=None).counts["near_duplicates_of_test"] == 0


def test_different_pictures_are_not_near_duplicates(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=80)
    assert prepare().counts["near_duplicates_of_test"] == 0


@pytest.mark.parametrize(("scenes", "warnings"), [(0, 0), (3, 1)])
def test_many_near_duplicates_give_a_warning(
    tmp_path: Path, scenes: int, warnings: int, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shapes(tmp_path / "images", each=60)
    for scene in range(scenes):  # each has 50 frames, which differ in brightness
        frame = np.asarray(picture("circle", 1000 + scene).convert("RGB"))
        for number in range(50):
            path = tmp_path / "images/circle" / f"scene{scene}-{number}.png"
            Image.fromarray(frame // 2 + number).save(path)
    data = prepare()
    assert (data.counts["near_duplicates_of_test"] > 50) == bool(scenes)
    assert capsys.readouterr().out.count("warning: ") == warnings


def test_copies_are_left_out_and_a_conflict_removes_the_label(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=60, unlabelled=3)
    pool = prepare().pool.table()["file"]
    first = {
        kind: next(Path(file) for file in pool if kind in file) for kind in ("circle", "square", "unlabeled")
    }
    shutil.copy(first["circle"], tmp_path / "images/circle/zcopy.png")
    shutil.copy(first["square"], tmp_path / "images/triangle/zother.png")
    shutil.copy(first["unlabeled"], tmp_path / "images/circle/zlabel.png")
    data = prepare()
    assert sorted(data.left_out) == [
        ("circle/zcopy.png", "duplicate", str(first["circle"].relative_to("images"))),
        ("circle/zlabel.png", "duplicate", str(first["unlabeled"].relative_to("images"))),
        ("triangle/zother.png", "conflicting labels", str(first["square"].relative_to("images"))),
    ]
    assert (data.counts["duplicates"], data.counts["conflicting_labels"]) == (2, 1)
    label = dict(zip(data.pool.table()["file"], data.pool.labels, strict=True))
    assert label[str(first["circle"])] == data.classes.index("circle")
    assert label[str(first["square"])] == -1
    assert label[str(first["unlabeled"])] == data.classes.index("circle")
    data.write({})
    assert json.loads(Path("metrics/data.json").read_text())["duplicates"] == 2
    assert len(pd.read_csv("metrics/data_left_out.csv")) == 3


def test_a_copy_of_a_test_image_is_a_test_image(tmp_path: Path) -> None:
    for part, start in (("train", 0), ("test", 60)):
        for shape in ("circle", "square"):
            (tmp_path / "images" / part / shape).mkdir(parents=True)
            for number in range(start, start + 60):
                picture(shape, number).save(tmp_path / "images" / part / shape / f"{number}.png")
    shutil.copy(tmp_path / "images/test/circle/60.png", tmp_path / "images/train/circle/0copy.png")
    data = prepare()
    assert len(data.test.rows) == 120
    assert len(data.pool.rows) + len(data.validation.rows) == 120
    assert len(data.left_out) == 1


def test_copies_in_other_groups_move_whole_groups(tmp_path: Path) -> None:
    files = write_shapes(tmp_path / "images", each=60)
    group = {file.relative_to(tmp_path / "images"): f"g{n % 30}" for n, file in enumerate(files)}
    for number in range(4):  # a copy in the next group
        copy = files[number].with_name(f"zcopy{number}{files[number].suffix}")
        shutil.copy(files[number], copy)
        group[copy.relative_to(tmp_path / "images")] = f"g{number + 1}"
    table = pd.DataFrame({"file": list(group), "group": list(group.values())})
    table.to_csv(tmp_path / "images/labels.csv", index=False)
    data = prepare()
    names: dict[str, set[str]] = {}
    for part in (data.pool, data.validation, data.test):
        for row in part.table().to_dict("records"):
            names.setdefault(group[Path(row["file"]).relative_to("images")], set()).add(row["split"])
    assert data.counts["duplicates"] == 4
    assert all(len(splits) == 1 for splits in names.values())
    assert len({str(names[f"g{number}"]) for number in range(5)}) == 1
    assert {name for splits in names.values() for name in splits} == {"pool", "validation", "test"}


def test_bad_files_are_reported_together_or_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shapes(tmp_path / "images", each=60)
    expected = prepare()
    (tmp_path / "images/circle/empty.png").touch()
    (tmp_path / "images/circle/text.png").write_text("text")
    content = (tmp_path / "images/circle/c0000é.png").read_bytes()
    (tmp_path / "images/circle/cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "images/circle/gone.png").symlink_to("nowhere")
    write_bomb(tmp_path / "images/circle/bomb.png")
    with pytest.raises(InputError) as caught:
        prepare()
    lines = list(caught.value.args)
    assert [Path(line.split(": ")[0]).name for line in lines[:-1]] == [
        "gone.png", "bomb.png", "empty.png", "text.png", "cut.png",
    ]  # fmt: skip
    assert lines[-1] == "set data.folder.on_bad_image to skip to leave out bad files"
    data = prepare(on_bad_image="skip")
    assert splits(data) == splits(expected)
    assert data.counts["bad_files"] == 5
    assert capsys.readouterr().out.count("skipped: ") == 5
    reasons = {file: reason for file, reason, _ in data.left_out}
    assert len(reasons) == 5
    assert reasons["circle/empty.png"] == "bad file: is empty"
    assert reasons["circle/gone.png"] == "bad file: is a broken link"
    assert reasons["circle/cut.png"].startswith("bad file: cannot be decoded (")


def test_every_copy_of_a_bad_file_is_reported_by_its_path(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=60)
    content = (tmp_path / "images/circle/c0000é.png").read_bytes()
    names = ["circle/a: b.png", "square/cut.png"]
    for name in names:
        (tmp_path / "images" / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError) as caught:
        prepare()
    for name, line in zip(names, caught.value.args[:-1], strict=True):
        assert line.startswith(f"images/{name}: cannot be decoded (")
    data = prepare(on_bad_image="skip")
    assert [file for file, _, _ in data.left_out] == names
    assert data.counts["bad_files"] == 2


def write_grey_shapes(folder: Path) -> None:
    for path in write_shapes(folder, each=40):
        image = Image.open(path).convert("L")
        path.unlink()
        image.save(path.with_suffix(".png"))


def test_a_skipped_file_does_not_decide_the_channels(tmp_path: Path) -> None:
    write_grey_shapes(tmp_path / "images")
    expected = prepare()
    picture("circle", 999).save(tmp_path / "images/circle/colour.png")
    content = (tmp_path / "images/circle/colour.png").read_bytes()
    (tmp_path / "images/circle/colour.png").write_bytes(content[: len(content) // 2])
    data = prepare(on_bad_image="skip")
    assert data.counts["bad_files"] == 1
    assert data.pool.images.shape[1] == 1
    assert splits(data) == splits(expected)
    assert prepare(on_bad_image="skip", channels=3).pool.images.shape[1] == 3


def test_a_wrong_table_is_an_error_even_if_bad_images_are_skipped(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=20)
    (tmp_path / "images/labels.csv").write_text("file,split\nnowhere.png,test\n")
    with pytest.raises(InputError, match=r"there is no image nowhere\.png"):
        prepare(on_bad_image="skip")


def test_there_is_one_channel_if_all_images_are_grey(tmp_path: Path) -> None:
    write_grey_shapes(tmp_path / "images")
    assert prepare().pool.images.shape[1:] == (1, 16, 16)
    assert prepare(channels=3).pool.images.shape[1:] == (3, 16, 16)
    picture("circle", 999).save(tmp_path / "images/circle/colour.png")
    assert prepare().pool.images.shape[1] == 3


@pytest.mark.parametrize(
    ("each", "unlabelled", "classes", "message"),
    [
        (10, 0, 3, "held out for validation; allowed: at least 10"),
        (150, 0, 1, "there is only one class, 'circle'"),
        (1, 100, 3, "has one image"),
    ],
)
def test_too_few_images_or_classes_are_an_error(
    tmp_path: Path, each: int, unlabelled: int, classes: int, message: str
) -> None:
    write_shapes(tmp_path / "images", each, unlabelled)
    for shape in ("square", "triangle")[: 3 - classes]:
        shutil.rmtree(tmp_path / "images" / shape)
    with pytest.raises(InputError, match=message):
        prepare()


def test_images_that_are_left_out_do_not_count_for_their_class(tmp_path: Path) -> None:
    """Four classes of two files have one image left or none; all errors are reported at once."""
    write_shapes(tmp_path / "images", each=60)
    test_file = next(Path(f) for f in prepare().test.table()["file"] if f.endswith("bmp"))
    for name in ("broken", "conflict", "copies", "near"):
        (tmp_path / "images" / name).mkdir()
        for number in (1, 2):
            picture("circle", 2000 + number + len(name)).save(tmp_path / f"images/{name}/{number}.png")
    shutil.copy("images/copies/1.png", "images/copies/2.png")
    Path("images/broken/1.png").write_bytes(b"")
    shutil.copy("images/circle/c0000é.png", "images/conflict/1.png")
    (image := Image.open(test_file).convert("RGB")).save("images/near/1.png")
    Image.fromarray(np.asarray(image) // 2 + 20).save("images/near/2.png")
    Path("images/labels.csv").write_text("file,split\nnear/1.png,train\nnear/2.png,train\n")
    for on_bad_image in ("error", "skip"):
        with pytest.raises(InputError) as caught:
            prepare(on_bad_image=on_bad_image)
        lines = [line for line in caught.value.args if "class" in line]
        assert [line.split(" (")[0] for line in lines] == [
            "images: class 'broken' has one image", "images: class 'conflict' has one image",
            "images: class 'copies' has one image", "images: class 'near' has no image",
        ]  # fmt: skip
    assert any("broken/1.png: is empty" in line for line in caught.value.args)


def test_classes_without_a_label_in_the_pool_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shapes(tmp_path / "images", each=60)
    data = prepare()
    assert "no image of the pool has the label" not in capsys.readouterr().out
    for file, number in zip(data.pool.table()["file"], data.pool.labels, strict=True):
        if data.classes[number] in ("square", "triangle"):
            (tmp_path / "images/unlabeled").mkdir(exist_ok=True)
            Path(file).rename(tmp_path / "images/unlabeled" / Path(file).name)
    assert prepare().classes == ["circle", "square", "triangle"]
    assert "images: no image of the pool has the label 'square', 'triangle'\n" in capsys.readouterr().out


def test_a_test_split_without_labels_is_an_error(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=0, unlabelled=60)
    pool = prepare().pool.table()["file"]
    for shape in ("circle", "square"):
        (tmp_path / "images" / shape).mkdir()
        for file in [file for file in pool if Path(file).name[0] == shape[0]][:2]:
            Path(file).rename(tmp_path / "images" / shape / Path(file).name)
    with pytest.raises(InputError, match="label some images of the test split, such as unlabeled/"):
        prepare()


def test_limits_reduce_pool_and_test_split(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=60)
    data = prepare(train_limit=30, test_limit=12)
    assert (len(data.pool.rows), len(data.test.rows)) == (30, 12)
    assert len(data.pool.table()) == 30


def test_classes_are_in_natural_order() -> None:
    assert sorted(["10²", "2²", "10", "²", "٣"], key=natural_key) == ["2²", "٣", "10", "10²", "²"]
    assert sorted(["10 b", "9 a", "x", "2", "100"], key=natural_key) == [
        "2",
        "9 a",
        "10 b",
        "100",
        "x",
    ]


def test_packs_and_tables_have_the_same_rows(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=40, unlabelled=20)
    data = prepare()
    data.write({})
    pool = np.load("data/prepared/images/pool.npy")
    index, labels = (pd.read_csv(f"data/prepared/{name}/pool.csv") for name in ("images", "labels"))
    assert len(pool) == len(index) == len(labels)
    assert index["id"].is_unique
    assert list(index["id"]) == list(labels["id"])
    classes = json.loads(Path("data/prepared/labels/classes.json").read_text())
    for row in (0, 17, len(pool) - 1):
        assert (pool[row] == pictures.read(Path(labels["file"][row]), 16, 3)).all()
        folder = "unlabeled" if np.isnan(labels["label"][row]) else classes[int(labels["label"][row])]
        assert Path(labels["file"][row]).parent.name == folder


def test_the_pool_is_stored_with_more_pixels_too_if_asked(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=25)
    prepare(train_limit=20, validation_share=0.3).write({})
    images = Path("data/prepared/images")
    before = {path.name: path.read_bytes() for path in images.iterdir()}
    assert "pool_large.npy" not in before
    prepare(train_limit=20, detail=2, validation_share=0.3).write({})
    files = pd.read_csv("data/prepared/labels/pool.csv")["file"]
    large = np.load(images / "pool_large.npy")
    assert large.shape == (20, 3, 32, 32)
    for row, file in enumerate(files):
        assert (large[row] == pictures.read(Path(file), 32, 3)).all()
    (images / "pool_large.npy").unlink()
    seal()
    assert {path.name: path.read_bytes() for path in images.iterdir()} == before


def test_pictures_that_are_not_square_are_fitted_as_asked(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=40)
    for file in sorted((tmp_path / "images").rglob("*.*")):
        with Image.open(file) as picture:
            picture.resize((40, 20)).save(file)
    fitted = {}
    for fit in ("crop", "pad", "stretch"):
        prepare(fit=fit, validation_share=0.3).write({})
        fitted[fit] = np.load("data/prepared/images/pool.npy")
        decoding = read_decoding()
        assert decoding.fit == fit
        file = pd.read_csv("data/prepared/labels/pool.csv")["file"][3]
        assert (fitted[fit][3] == pictures.read(Path(file), 16, 3, decoding)).all()  # as `predict` reads it
    assert not np.array_equal(fitted["crop"], fitted["stretch"])
    bars = fitted["pad"][:, :, [0, 1, -1]].astype(int)
    assert (bars == bars[..., :1]).all()  # of one colour in each row


def peak_of_preparing() -> int:
    """The most bytes that Python's objects take while the images are prepared."""
    gc.collect()  # what other tests have left is not freed in between
    tracemalloc.start()
    names = grown_table_of_interned_strings()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    prepare(image_size=8).write({})
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    del names
    return peak


def grown_table_of_interned_strings() -> list[str]:
    """New interned strings, so many that Python's table of them has just grown.

    pathlib interns the name of each file. The table is the whole process's and grows by megabytes at once: so
    it does now, and not while the bytes of an image are counted.
    """
    names = []
    for number in range(10_000_000):
        before = tracemalloc.get_traced_memory()[0]
        names.append(sys.intern(f"a name that is in no folder {number}"))
        if tracemalloc.get_traced_memory()[0] - before > 100_000:
            return names
    raise AssertionError("the table of interned strings has not grown")


@pytest.mark.parametrize("layout", ["class folders", "a table"])
def test_each_image_takes_few_bytes_of_memory(monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    """Measured by the growth of the peak: buffers of fixed size are made small, so that it shows."""
    monkeypatch.setattr(row_cache, "CHUNK", 64)
    monkeypatch.setattr(near_duplicates, "SAMPLE", 16)
    monkeypatch.setattr(parts, "ROWS", 64)
    monkeypatch.setattr(packs, "PART", 64 * 3 * 8 * 8)
    peaks = []
    for start, stop in ((0, 500), (500, 2000)):
        for number in range(start, stop):
            pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
            path = Path("images", f"class {number % 4}", f"{number:024d}.bmp")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        if layout == "a table":
            files = sorted(Path("images").glob("*/*.bmp"))
            lines = [f"{file.relative_to('images')},{file.parent.name},,{file.stem}" for file in files]
            Path("images/labels.csv").write_text("\n".join(["file,label,split,group", *lines]))
        prepare(image_size=8).write({})  # fills the pixel cache
        peaks.append(peak_of_preparing())
    assert (peaks[1] - peaks[0]) / 1500 < {"class folders": 200, "a table": 500}[layout]


def test_truncated_files_are_one_cause_however_many_bytes_each_lacks(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", 60, 0)
    for number in range(40):
        file = tmp_path / f"images/circle/cut{number}.jpg"
        Image.effect_noise((40, 40), 50).convert("RGB").save(file)
        file.write_bytes(file.read_bytes()[: 700 + 7 * number])
    with pytest.raises(InputError) as caught:
        prepare()
    assert len(caught.value.args) == 5 + 1 + 1
    assert caught.value.args[5].startswith("and 35 more of this kind: cannot be decoded")


def test_more_classes_than_can_be_confused_are_refused() -> None:
    classes = [f"c{number}" for number in range(1001)]
    with pytest.raises(
        InputError, match=r"^x: there are 1,001 classes, such as 'c0', 'c1', 'c2'; allowed: up to 1,000$"
    ):
        check_parts({}, classes, [], Path("x"), [], [])
