import contextlib
import json
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.errors import InputError
from stages.files import packs
from stages.prepare import decode, own_images, parts
from stages.prepare.parts import Prepared
from stages.prepare.split import by_content
from stages.settings.schema import Data, Folder
from stages.training.randomness import Stream
from tests.image_files import picture, write_bomb, write_shapes

STREAM = Stream.of(1, "prepare")


@pytest.fixture(autouse=True)
def _in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settings(**changes: Any) -> Data:
    usual = {
        "test": 0.2,
        "validation": 0.1,
        "on_bad_image": "error",
        "twins": 0.99,
    }
    data: dict[str, Any] = {
        "source": "folder",
        "path": "images",
        "validation": 5000,
        "train_limit": None,
        "test_limit": None,
        "image_size": 16,
        "channels": "auto",
    }
    return Data(
        **data | {key: changes.pop(key) for key in list(changes) if key in data},
        folder=Folder(**usual | changes),
    )


def prepared(**changes: Any) -> Prepared:
    return own_images.prepared(settings(**changes), STREAM)


def splits(found: Prepared) -> dict[str, str]:
    return {
        row["id"]: row["split"]
        for part in (found.pool, found.validation, found.test)
        for row in part.table().to_dict("records")
    }


def test_a_split_depends_on_nothing_but_the_key() -> None:
    keys = [str(number).encode() for number in range(20_000)]
    found = [by_content(key, 0.2, 0.1) for key in keys]
    shares = [found.count(name) / len(keys) for name in ("test", "validation", "pool")]
    assert shares == pytest.approx([0.2, 0.1, 0.7], abs=0.01)
    wider = [by_content(key, 0.3, 0.1) for key in keys]  # a larger test split keeps what was in it
    assert all(new == "test" for old, new in zip(found, wider, strict=True) if old == "test")


def test_adding_images_moves_none(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=60)
    before = splits(prepared())
    write_shapes(tmp_path / "images", each=90)
    after = splits(prepared())
    assert len(after) == len(before) + 90
    assert before.items() <= after.items()


def test_labelling_an_image_of_the_pool_changes_no_image(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=30, unlabelled=40)
    first = prepared()
    first.write({})
    images = {path: path.read_bytes() for path in Path("data/prepared/images").iterdir()}
    test = Path("data/prepared/test/images.npy").read_bytes()
    waiting = [Path(f) for f, n in zip(first.pool.table()["file"], first.pool.labels, strict=True) if n < 0]
    assert len(waiting) > 60
    for path in waiting[:20]:
        path.rename(
            tmp_path / "images" / {"c": "circle", "s": "square", "t": "triangle"}[path.name[0]] / path.name
        )
    second = prepared()
    second.write({})
    assert {path: path.read_bytes() for path in images} == images
    assert Path("data/prepared/test/images.npy").read_bytes() == test
    assert (second.pool.labels >= 0).sum() == (first.pool.labels >= 0).sum() + 20


def test_what_is_held_out_without_a_label_waits(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=30, unlabelled=40)
    found = prepared()
    assert (found.test.labels >= 0).all()
    assert found.counts["test_waiting_for_a_label"] > 10
    sizes = [len(part.rows) for part in (found.pool, found.validation, found.test)]
    assert sum(sizes) + found.counts["test_waiting_for_a_label"] == 210
    assert (
        found.validation.labels < 0
    ).any()  # the validation images help to see a collapse, labelled or not


def test_a_group_is_never_in_two_splits(tmp_path: Path) -> None:
    files = write_shapes(tmp_path / "images", each=60)
    rows = [
        {"file": f.relative_to(tmp_path / "images"), "group": f"g{number % 30}"}
        for number, f in enumerate(files)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "images/labels.csv", index=False)
    of_file = {str(Path("images") / row["file"]): row["group"] for row in rows}
    found = prepared()
    where: dict[str, set[str]] = {}
    for part in (found.pool, found.validation, found.test):
        for row in part.table().to_dict("records"):
            where.setdefault(of_file[row["file"]], set()).add(row["split"])
    assert all(len(names) == 1 for names in where.values())
    assert {name for names in where.values() for name in names} == {"pool", "validation", "test"}


def test_a_stated_test_split_is_all_of_it_and_validation_is_taken_from_train(tmp_path: Path) -> None:
    write_shapes(tmp_path / "all", each=60)
    for number, file in enumerate(sorted((tmp_path / "all").rglob("*.*"))):
        place = tmp_path / "images" / ("test" if number % 4 == 0 else "train") / file.parent.name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    found = prepared()
    assert {Path(file).parts[1] for file in found.test.table()["file"]} == {"test"}
    assert len(found.test.rows) == 45
    assert {Path(file).parts[1] for file in found.pool.table()["file"]} == {"train"}
    assert 5 < len(found.validation.rows) < 30


@pytest.mark.parametrize(
    ("stated", "shares"), [("train", (0.2, 0.1)), ("test", (0.0, 0.1)), ("validation", (0.2, 0.0))]
)
def test_where_some_splits_are_stated_it_is_said_what_the_others_do(
    tmp_path: Path, stated: str, shares: tuple[float, float], capsys: pytest.CaptureFixture[str]
) -> None:
    files = write_shapes(tmp_path / "images", each=60)
    rows = [{"file": f.relative_to(tmp_path / "images"), "split": stated} for f in files[::3]]
    pd.DataFrame(rows).to_csv(tmp_path / "images/labels.csv", index=False)
    test, validation = shares
    with contextlib.suppress(InputError):
        prepared()
    line = f"a split is stated for 60 of 180 images: by content the others give {test:.0%} to test and "
    assert f"{line}{validation:.0%} to validation\n" in capsys.readouterr().out
    rows = [{"file": f.relative_to(tmp_path / "images"), "split": stated} for f in files]
    pd.DataFrame(rows).to_csv(tmp_path / "images/labels.csv", index=False)
    with contextlib.suppress(InputError):
        prepared()
    assert "a split is stated" not in capsys.readouterr().out


def test_a_twin_of_a_test_image_is_left_out_and_listed(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=60)
    original = next(Path(file) for file in prepared().test.table()["file"] if file.endswith(("png", "bmp")))
    image = Image.open(original).convert("RGB")
    made = []
    for quality in range(60, 95):  # the same picture, saved again: other bytes, nearly the same pixels
        path = original.with_name(f"again{quality}.jpg")
        image.resize((2 * image.width, 2 * image.height)).save(path, quality=quality)
        made.append(path)
    found = prepared()
    left = {
        file: other for file, reason, other in found.left_out if reason == "near duplicate of a test image"
    }
    in_test = {path for path in map(str, made) if path in set(found.test.table()["file"])}
    assert len(left) == found.counts["near_duplicates_of_test"] == len(made) - len(in_test)
    assert {str(Path("images") / file) for file in left} == {str(p) for p in made} - in_test
    assert prepared(twins=None).counts["near_duplicates_of_test"] == 0


def test_other_pictures_are_no_twins(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=80)
    assert prepared().counts["near_duplicates_of_test"] == 0


@pytest.mark.parametrize(("films", "said"), [(0, 0), (3, 1)])
def test_many_twins_are_warned_of(
    tmp_path: Path, films: int, said: int, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shapes(tmp_path / "images", each=60)
    for film in range(films):  # three scenes of 50 frames, nearly alike
        frame = np.asarray(picture("circle", 1000 + film).convert("RGB"))
        for number in range(50):
            place = tmp_path / "images/circle" / f"film{film}-{number}.png"
            Image.fromarray(frame // 2 + number).save(place)
    found = prepared()
    assert (found.counts["near_duplicates_of_test"] > 50) == bool(films)
    assert capsys.readouterr().out.count("warning: ") == said


def test_copies_count_once_and_a_conflict_takes_the_label_away(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=60, unlabelled=3)
    pool = prepared().pool.table()["file"]
    of = {
        kind: next(Path(file) for file in pool if kind in file) for kind in ("circle", "square", "unlabeled")
    }
    shutil.copy(of["circle"], tmp_path / "images/circle/zcopy.png")
    shutil.copy(of["square"], tmp_path / "images/triangle/zother.png")
    shutil.copy(of["unlabeled"], tmp_path / "images/circle/zlabel.png")
    found = prepared()
    assert sorted(found.left_out) == [
        ("circle/zcopy.png", "duplicate", str(of["circle"].relative_to("images"))),
        ("circle/zlabel.png", "duplicate", str(of["unlabeled"].relative_to("images"))),
        ("triangle/zother.png", "conflicting labels", str(of["square"].relative_to("images"))),
    ]
    assert (found.counts["duplicates"], found.counts["conflicting_labels"]) == (2, 1)
    label = dict(zip(found.pool.table()["file"], found.pool.labels, strict=True))
    assert label[str(of["circle"])] == found.classes.index("circle")
    assert label[str(of["square"])] == -1
    assert label[str(of["unlabeled"])] == found.classes.index("circle")
    found.write({})
    assert json.loads(Path("metrics/data.json").read_text())["duplicates"] == 2
    assert len(pd.read_csv("metrics/data_left_out.csv")) == 3


def test_a_copy_of_a_test_image_is_a_test_image(tmp_path: Path) -> None:
    for part, start in (("train", 0), ("test", 60)):
        for shape in ("circle", "square"):
            (tmp_path / "images" / part / shape).mkdir(parents=True)
            for number in range(start, start + 60):
                picture(shape, number).save(tmp_path / "images" / part / shape / f"{number}.png")
    shutil.copy(tmp_path / "images/test/circle/60.png", tmp_path / "images/train/circle/0copy.png")
    found = prepared()
    assert len(found.test.rows) == 120
    assert len(found.pool.rows) + len(found.validation.rows) == 120
    assert len(found.left_out) == 1


def test_groups_are_whole_after_copies_are_left_out(tmp_path: Path) -> None:
    files = write_shapes(tmp_path / "images", each=60)
    group = {file.relative_to(tmp_path / "images"): f"g{n % 30}" for n, file in enumerate(files)}
    for number in range(4):  # of one group in the next one
        copy = files[number].with_name(f"zcopy{number}{files[number].suffix}")
        shutil.copy(files[number], copy)
        group[copy.relative_to(tmp_path / "images")] = f"g{number + 1}"
    table = pd.DataFrame({"file": list(group), "group": list(group.values())})
    table.to_csv(tmp_path / "images/labels.csv", index=False)
    found = prepared()
    where: dict[str, set[str]] = {}
    for part in (found.pool, found.validation, found.test):
        for row in part.table().to_dict("records"):
            where.setdefault(group[Path(row["file"]).relative_to("images")], set()).add(row["split"])
    assert found.counts["duplicates"] == 4
    assert all(len(names) == 1 for names in where.values())
    assert len({str(where[f"g{number}"]) for number in range(5)}) == 1
    assert {name for names in where.values() for name in names} == {"pool", "validation", "test"}


def test_bad_files_are_refused_together_or_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shapes(tmp_path / "images", each=60)
    whole = prepared()
    (tmp_path / "images/circle/empty.png").touch()
    (tmp_path / "images/circle/text.png").write_text("text")
    content = (tmp_path / "images/circle/c0000é.png").read_bytes()
    (tmp_path / "images/circle/cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "images/circle/gone.png").symlink_to("nowhere")
    write_bomb(tmp_path / "images/circle/bomb.png")
    with pytest.raises(InputError) as caught:
        prepared()
    lines = list(caught.value.args)
    assert [Path(line.split(": ")[0]).name for line in lines[:-1]] == [
        "gone.png", "bomb.png", "empty.png", "text.png", "cut.png",
    ]  # fmt: skip
    assert lines[-1] == "data.folder.on_bad_image: skip leaves bad files out"
    found = prepared(on_bad_image="skip")
    assert splits(found) == splits(whole)
    assert found.counts["bad_files"] == 5
    assert capsys.readouterr().out.count("skipped: ") == 5
    said = {file: reason for file, reason, _ in found.left_out}
    assert len(said) == 5
    assert said["circle/empty.png"] == "bad file: is empty"
    assert said["circle/gone.png"] == "bad file: is a link to nothing"
    assert said["circle/cut.png"].startswith("bad file: cannot be decoded (")


def test_every_copy_of_a_bad_file_is_named_by_its_whole_name(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=60)
    content = (tmp_path / "images/circle/c0000é.png").read_bytes()
    names = ["circle/a: b.png", "square/cut.png"]
    for name in names:
        (tmp_path / "images" / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError) as caught:
        prepared()
    for name, line in zip(names, caught.value.args[:-1], strict=True):
        assert line.startswith(f"images/{name}: cannot be decoded (")
    found = prepared(on_bad_image="skip")
    assert [file for file, _, _ in found.left_out] == names
    assert found.counts["bad_files"] == 2


def grey_shapes(folder: Path) -> None:
    for path in write_shapes(folder, each=40):
        image = Image.open(path).convert("L")
        path.unlink()
        image.save(path.with_suffix(".png"))


def test_a_skipped_file_does_not_decide_the_channels(tmp_path: Path) -> None:
    grey_shapes(tmp_path / "images")
    whole = prepared()
    picture("circle", 999).save(tmp_path / "images/circle/colour.png")
    content = (tmp_path / "images/circle/colour.png").read_bytes()
    (tmp_path / "images/circle/colour.png").write_bytes(content[: len(content) // 2])
    found = prepared(on_bad_image="skip")
    assert found.counts["bad_files"] == 1
    assert found.pool.images.shape[1] == 1
    assert splits(found) == splits(whole)
    assert prepared(on_bad_image="skip", channels=3).pool.images.shape[1] == 3


def test_a_wrong_table_is_refused_even_where_bad_images_are_skipped(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=20)
    (tmp_path / "images/labels.csv").write_text("file,split\nnowhere.png,test\n")
    with pytest.raises(InputError, match=r"there is no image nowhere\.png"):
        prepared(on_bad_image="skip")


def test_channels_are_one_where_all_are_grey(tmp_path: Path) -> None:
    grey_shapes(tmp_path / "images")
    assert prepared().pool.images.shape[1:] == (1, 16, 16)
    assert prepared(channels=3).pool.images.shape[1:] == (3, 16, 16)
    picture("circle", 999).save(tmp_path / "images/circle/colour.png")
    assert prepared().pool.images.shape[1] == 3


@pytest.mark.parametrize(
    ("each", "unlabelled", "classes", "word"),
    [
        (10, 0, 3, "held out for validation; allowed: at least 10"),
        (150, 0, 1, "there is one class, 'circle'"),
        (1, 100, 3, "has one image"),
    ],
)
def test_too_little_is_refused(tmp_path: Path, each: int, unlabelled: int, classes: int, word: str) -> None:
    write_shapes(tmp_path / "images", each, unlabelled)
    for shape in ("square", "triangle")[: 3 - classes]:
        shutil.rmtree(tmp_path / "images" / shape)
    with pytest.raises(InputError, match=word):
        prepared()


def test_a_class_is_counted_without_what_is_left_out(tmp_path: Path) -> None:
    """Of four classes of two files each, one is left or none; all is said in one go, beside the bad files."""
    write_shapes(tmp_path / "images", each=60)
    tested = next(Path(f) for f in prepared().test.table()["file"] if f.endswith("bmp"))
    for name in ("copies", "twins", "broken", "conflict"):
        (tmp_path / "images" / name).mkdir()
        for number in (1, 2):
            picture("circle", 2000 + number + len(name)).save(tmp_path / f"images/{name}/{number}.png")
    shutil.copy("images/copies/1.png", "images/copies/2.png")
    Path("images/broken/1.png").write_bytes(b"")
    shutil.copy("images/circle/c0000é.png", "images/conflict/1.png")
    (image := Image.open(tested).convert("RGB")).save("images/twins/1.png")
    Image.fromarray(np.asarray(image) // 2 + 20).save("images/twins/2.png")
    Path("images/labels.csv").write_text("file,split\ntwins/1.png,train\ntwins/2.png,train\n")
    for on_bad_image in ("error", "skip"):
        with pytest.raises(InputError) as caught:
            prepared(on_bad_image=on_bad_image)
        lines = [line for line in caught.value.args if "class" in line]
        assert [line.split(",")[0] for line in lines] == [
            "images: class 'broken' has one image", "images: class 'conflict' has one image",
            "images: class 'copies' has one image", "images: class 'twins' has no image",
        ]  # fmt: skip
    assert any("broken/1.png: is empty" in line for line in caught.value.args)


def test_classes_without_a_label_in_the_pool_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shapes(tmp_path / "images", each=60)
    found = prepared()
    assert "no image of the pool has the label" not in capsys.readouterr().out
    for file, number in zip(found.pool.table()["file"], found.pool.labels, strict=True):
        if found.classes[number] in ("square", "triangle"):
            (tmp_path / "images/unlabeled").mkdir(exist_ok=True)
            Path(file).rename(tmp_path / "images/unlabeled" / Path(file).name)
    assert prepared().classes == ["circle", "square", "triangle"]
    assert "images: no image of the pool has the label 'square', 'triangle'\n" in capsys.readouterr().out


def test_labels_of_which_none_is_in_the_test_split_are_refused(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=0, unlabelled=60)
    pool = prepared().pool.table()["file"]
    for shape in ("circle", "square"):
        (tmp_path / "images" / shape).mkdir()
        for file in [file for file in pool if Path(file).name[0] == shape[0]][:2]:
            Path(file).rename(tmp_path / "images" / shape / Path(file).name)
    with pytest.raises(InputError, match=r"label some of those that wait there, such as unlabeled/"):
        prepared()


def test_limits_take_a_part(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=60)
    found = prepared(train_limit=30, test_limit=12)
    assert (len(found.pool.rows), len(found.test.rows)) == (30, 12)
    assert len(found.pool.table()) == 30


def test_classes_are_sorted_as_people_do() -> None:
    assert sorted(["10²", "2²", "10", "²", "٣"], key=own_images.natural) == ["2²", "٣", "10", "10²", "²"]
    assert sorted(["10 b", "9 a", "x", "2", "100"], key=own_images.natural) == [
        "2",
        "9 a",
        "10 b",
        "100",
        "x",
    ]


def test_packs_and_tables_fit_each_other(tmp_path: Path) -> None:
    write_shapes(tmp_path / "images", each=40, unlabelled=20)
    found = prepared()
    found.write({})
    pool = np.load("data/prepared/images/pool.npy")
    index, labels = (pd.read_csv(f"data/prepared/{name}/pool.csv") for name in ("images", "labels"))
    assert len(pool) == len(index) == len(labels)
    assert index["id"].is_unique
    assert list(index["id"]) == list(labels["id"])
    classes = json.loads(Path("data/prepared/labels/classes.json").read_text())
    from stages.images import pictures

    for row in (0, 17, len(pool) - 1):
        assert (pool[row] == pictures.read(Path(labels["file"][row]), 16, 3)).all()
        said = "unlabeled" if np.isnan(labels["label"][row]) else classes[int(labels["label"][row])]
        assert Path(labels["file"][row]).parent.name == said


@pytest.mark.parametrize("layout", ["class folders", "a table"])
def test_an_image_more_takes_few_bytes(monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    """Of the peak: what is worked on at the same time is made small, so that what grows is seen."""
    monkeypatch.setattr(decode, "PART", 64)
    monkeypatch.setattr(parts, "ROWS", 64)
    monkeypatch.setattr(packs, "PART", 64 * 3 * 8 * 8)
    peaks = []
    for start, stop in ((0, 500), (500, 2000)):
        for number in range(start, stop):
            pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
            place = Path("images", f"class {number % 4}", f"{number:024d}.bmp")
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place)
        if layout == "a table":
            files = sorted(Path("images").glob("*/*.bmp"))
            lines = [f"{file.relative_to('images')},{file.parent.name},,{file.stem}" for file in files]
            Path("images/labels.csv").write_text("\n".join(["file,label,split,group", *lines]))
        prepared(image_size=8).write({})  # what is made once is there
        tracemalloc.start()
        prepared(image_size=8).write({})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 1500 < {"class folders": 200, "a table": 500}[layout]
