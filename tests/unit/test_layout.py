import errno
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from stages.errors import InputError
from stages.prepare.columns import own_name
from stages.prepare.layout import SPLITS, scan


def write(folder: Path, *files: str) -> None:
    for number, file in enumerate(files):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 9), number).save(folder / file)


def table(folder: Path, *rows: str) -> None:
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def found(folder: Path) -> dict[str, tuple[str | None, str | None, str | None]]:
    pictures, findings, _ = scan(folder)
    assert findings.files == {}
    assert findings.table == []
    return {picture.file: (picture.label, picture.split, picture.group) for picture in pictures}


def test_class_folders_with_an_unlabelled_one_beside_them(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.png", "cat/deep/er/2.PNG", "dog/1.png", "dog/3.jpg", "unlabeled/4.png", "5.bmp")
    assert found(tmp_path) == {
        "cat/1.png": ("cat", None, None), "cat/deep/er/2.PNG": ("cat", None, None),
        "dog/1.png": ("dog", None, None), "dog/3.jpg": ("dog", None, None),
        "unlabeled/4.png": (None, None, None), "5.bmp": (None, None, None),
    }  # fmt: skip
    assert scan(tmp_path)[2] == "class folders"


def test_class_folders_below_train_and_test(tmp_path: Path) -> None:
    write(
        tmp_path, "train/cat/1.png", "train/cat/2.png", "val/dog/1.png", "test/dog/2.png", "unlabelled/3.png"
    )
    assert found(tmp_path) == {
        "train/cat/1.png": ("cat", "train", None), "train/cat/2.png": ("cat", "train", None),
        "val/dog/1.png": ("dog", "validation", None), "test/dog/2.png": ("dog", "test", None),
        "unlabelled/3.png": (None, None, None),
    }  # fmt: skip


@pytest.mark.parametrize("train", ["train", "Train"])
@pytest.mark.parametrize("other", ["val", "valid", "validation", "test", "Test", "VALID"])
def test_two_of_the_splits_are_enough(tmp_path: Path, train: str, other: str) -> None:
    write(tmp_path, f"{train}/cat/1.png", f"{train}/cat/2.png", f"{other}/cat/3.png", f"{other}/cat/4.png")
    assert {label for label, _, _ in found(tmp_path).values()} == {"cat"}
    assert {split for _, split, _ in found(tmp_path).values()} == {"train", SPLITS[other.casefold()]}
    assert scan(tmp_path)[2] == f"class folders below {', '.join(sorted([train, other]))}"


def test_train_valid_and_test_are_splits(tmp_path: Path) -> None:
    write(tmp_path, "train/cat/1.png", "train/dog/1.png", "valid/cat/2.png", "test/dog/2.png")
    write(tmp_path, "Unlabeled/3.png", "train/Unlabelled/4.png", "5.png")
    assert found(tmp_path) == {
        "train/cat/1.png": ("cat", "train", None), "train/dog/1.png": ("dog", "train", None),
        "valid/cat/2.png": ("cat", "validation", None), "test/dog/2.png": ("dog", "test", None),
        "Unlabeled/3.png": (None, None, None), "train/Unlabelled/4.png": (None, "train", None),
        "5.png": (None, None, None),
    }  # fmt: skip


def test_other_folders_beside_splits_are_a_finding(tmp_path: Path) -> None:
    write(tmp_path, "train/cat/1.png", "test/cat/2.png", "docs/3.png", "img/x/4.png", "unlabeled/x/5.png")
    _, findings, _ = scan(tmp_path)
    assert findings.table == [
        f"{tmp_path}: docs, img beside test, train; allowed beside splits: unlabeled "
        "(classes stand below each split)"
    ]


def test_they_are_also_where_nothing_has_a_label(tmp_path: Path) -> None:
    write(tmp_path, "train/1.png", "test/2.png", "docs/3.png")
    assert [line.split(":")[1] for line in scan(tmp_path)[1].table] == [
        " docs beside test, train; allowed beside splits"
    ]


def test_a_folder_without_an_image_is_no_finding(tmp_path: Path) -> None:
    write(tmp_path, "train/cat/1.png", "test/cat/2.png")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/about.txt").touch()
    assert found(tmp_path)["test/cat/2.png"] == ("cat", "test", None)


@pytest.mark.parametrize("split", ["Test", " test "])
def test_a_stated_split_is_read_as_the_folders_are(tmp_path: Path, split: str) -> None:
    write(tmp_path, "a.png", "b.png")
    table(tmp_path, "file,label,split", f"a.png,cat,{split}", "b.png,cat,  ")
    assert found(tmp_path) == {"a.png": ("cat", "test", None), "b.png": ("cat", None, None)}


def test_a_link_back_is_named_and_not_followed(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png")
    (tmp_path / "cat" / "all").symlink_to(tmp_path)
    (tmp_path / "more").symlink_to(tmp_path / "dog")
    pictures, findings, _ = scan(tmp_path)
    assert [picture.file for picture in pictures] == ["cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png"]
    assert findings.files.keys() == {"cat/all", "more"}
    assert all("link back" in reason for reason in findings.files.values())


def test_a_link_that_leads_round_outside_is_named_and_not_followed(tmp_path: Path) -> None:
    write(tmp_path, "out/1.png", "images/dog/3.png")
    (tmp_path / "out" / "loop").symlink_to(tmp_path / "out")
    (tmp_path / "images" / "cat").symlink_to(tmp_path / "out")
    pictures, findings, _ = scan(tmp_path / "images")
    assert [picture.file for picture in pictures] == ["cat/1.png", "dog/3.png"]
    assert findings.files.keys() == {"cat/loop"}


def test_images_outside_may_be_linked_to(tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/1.png", "elsewhere/2.png", "images/dog/3.png", "images/dog/4.png")
    (tmp_path / "images" / "cat").symlink_to(tmp_path / "elsewhere")
    assert {label for label, _, _ in found(tmp_path / "images").values()} == {"cat", "dog"}


def test_a_group_is_never_in_two_splits(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png", "c.png", "d.png")
    table(tmp_path, "file,split,group", "a.png,test,anna", "b.png,,anna", "c.png,train,ben", "d.png,test,ben")
    pictures, findings, _ = scan(tmp_path)
    assert [picture.split for picture in pictures][:2] == ["test", "test"]
    assert findings.table == [
        f"{tmp_path / 'labels.csv'}: group 'ben' is in test and train; allowed: one split"
    ]


def test_a_class_may_be_called_test_where_there_is_no_train(tmp_path: Path) -> None:
    write(tmp_path, "test/1.png", "test/2.png", "flight/1.png", "flight/2.png")
    assert {label for label, _, _ in found(tmp_path).values()} == {"test", "flight"}


def test_a_table_beside_a_flat_folder(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png", "c.png", "ü.png", "d.png")
    table(
        tmp_path,
        "file,label,split,group",
        "a.png,cat,,",
        "./b.png,cat,test,k",
        "c.png,,,k",
        "ü.png,dög,train,",
        "d.png,dög,,",
    )
    assert found(tmp_path) == {
        "a.png": ("cat", None, None), "b.png": ("cat", "test", "k"), "c.png": (None, "test", "k"),
        "ü.png": ("dög", "train", None), "d.png": ("dög", None, None),
    }  # fmt: skip
    assert scan(tmp_path)[2] == "labels.csv with labels"


def test_an_accent_may_be_written_in_two_ways(tmp_path: Path) -> None:
    write(tmp_path, "e\u0301.png", "b.png")
    table(tmp_path, "file,label", "\u00e9.png,cat", "b.png,cat")
    assert found(tmp_path)["e\u0301.png"] == ("cat", None, None)


def test_where_folders_are_no_labels_the_tables_are_all(tmp_path: Path) -> None:
    write(tmp_path, "2024/a.png", "2024/b.png", "2025/c.png")
    table(tmp_path, "file,label", "2024/a.png,cat", "2025/c.png,cat")
    assert {file: said[0] for file, said in found(tmp_path).items()} == {
        "2024/a.png": "cat", "2024/b.png": None, "2025/c.png": "cat",
    }  # fmt: skip


def test_a_new_table_leaves_class_folders_their_labels(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.png", "cat/2.png", "dog/1.png", "e\u0301/1.png", "bird/1.png", "unlabeled/4.png")
    write(tmp_path, "unlabeled/5.png", "unlabeled/6.png", "dog/named.png", "dog/unsure.png")
    rows = ["unlabeled/4.png,cat", "unlabeled/5.png,dog", "dog/named.png,\u00e9", "dog/unsure.png,"]
    table(tmp_path, "file,label", *rows)
    pictures, findings, layout = scan(tmp_path)
    assert {picture.file: picture.label for picture in pictures} == {
        "cat/1.png": "cat", "cat/2.png": "cat", "dog/1.png": "dog", "e\u0301/1.png": "\u00e9",
        "bird/1.png": None, "unlabeled/4.png": "cat", "unlabeled/5.png": "dog", "unlabeled/6.png": None,
        "dog/named.png": "\u00e9", "dog/unsure.png": None,
    }  # fmt: skip
    assert findings.table == []
    assert layout == (
        "labels.csv with labels, class folders for what it does not name (folders that are no labels: bird)"
    )


@pytest.mark.parametrize("rows", [[], ["cat/1.png,,g"], ["cat/1.png,,g", "dog/2.png,  ,"]])
def test_a_column_without_a_label_takes_none_away(tmp_path: Path, rows: list[str]) -> None:
    write(tmp_path, "cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")
    table(tmp_path, "file,label,group", *rows)
    assert found(tmp_path) == {
        f"{name}/{number}.png": (name, None, "g" if rows and (name, number) == ("cat", 1) else None)
        for name in ("cat", "dog")
        for number in (1, 2)
    }
    assert scan(tmp_path)[2] == "class folders, and labels.csv"


def test_the_tables_own_name_may_have_capital_letters(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    table(tmp_path, "file,label", "a.png,cat")
    (tmp_path / "labels.csv").rename(tmp_path / "Labels.CSV")
    assert found(tmp_path) == {"a.png": ("cat", None, None)}
    (tmp_path / "Labels.CSV").rename(tmp_path / "LABELS.csv")
    table(tmp_path, "file,label", "a.png,dog")
    assert scan(tmp_path)[1].table == [f"{tmp_path}: holds LABELS.csv, labels.csv; allowed: one table"]


@pytest.mark.parametrize("kind", ["link to nothing", "folder"])
def test_a_table_that_is_no_file_is_a_finding(tmp_path: Path, kind: str) -> None:
    write(tmp_path, "a.png")
    path = tmp_path / "labels.csv"
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nothing")
    assert scan(tmp_path)[1].table == [f"{path}: is no file that can be read"]


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png", " c.png")
    table(tmp_path, "file,label", "", "a.png,cat", "", ",dog", "x.png,cat", " c.png,dog", " b.png ,dog")
    pictures, findings, _ = scan(tmp_path)
    where = f"{tmp_path / 'labels.csv'}, line"
    assert findings.table == [f"{where} 5: names no file", f"{where} 6: there is no image x.png"]
    assert {p.file: p.label for p in pictures} == {"a.png": "cat", "b.png": "dog", " c.png": "dog"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"file,label\na.png\n", "line 2 has 1 fields, its head 2"),
        (b"file,label\na.png,cat,dog\n", "line 2 has 3 fields, its head 2"),
        (b'file,label\n"a.png,cat\n', "unexpected end of data"),
        (b"file,label\n\xff.png,cat\n", "can't decode byte"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    write(tmp_path, "a.png")
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(InputError, match=f"labels.csv: is no readable table .*{words}"):
        scan(tmp_path)


def test_one_class_may_be_written_in_two_ways(tmp_path: Path) -> None:
    write(tmp_path, "train/\u00e9/1.png", "train/dog/1.png", "test/e\u0301/2.png")
    assert {label for label, _, _ in found(tmp_path).values()} == {"\u00e9", "dog"}


def test_where_it_has_none_folders_are_classes(tmp_path: Path) -> None:
    write(tmp_path, "cat/a.png", "cat/b.png", "dog/c.png", "dog/d.png")
    table(tmp_path, "file,split", "cat/a.png,test", "dog/c.png,val")
    assert found(tmp_path)["cat/a.png"] == ("cat", "test", None)
    assert found(tmp_path)["dog/c.png"] == ("dog", "validation", None)
    assert found(tmp_path)["dog/d.png"] == ("dog", None, None)


def test_nothing_but_images(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.webp")
    assert scan(tmp_path)[2] == "nothing but images"
    assert all(picture.label is None for picture in scan(tmp_path)[0])


def test_every_finding_is_there_at_once(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "notes.txt").write_text("no image by its name")
    rows = [
        "a.png,cat,",
        "a.png,dog,",
        "b.png,cat,sometimes",
        "missing.png,cat,",
        "../up.png,cat,",
        "/etc/x.png,cat,",
    ]
    table(tmp_path, "file,label,split", *rows, "c.png,bird,", "c.png,bird,")
    _, findings, _ = scan(tmp_path)
    assert findings.files == {"gone.png": "is a link to nothing"}
    where = f"{tmp_path / 'labels.csv'}, line"
    assert findings.table == [
        f"{where} 3: a.png stands there twice, as {{'label': 'cat'}} and as {{'label': 'dog'}}",
        f"{where} 4: split is 'sometimes'; allowed: train, validation, val, valid, test",
        f"{where} 5: there is no image missing.png",
        f"{where} 6: ../up.png leaves the folder; allowed: paths below {tmp_path}",
        f"{where} 7: /etc/x.png leaves the folder; allowed: paths below {tmp_path}",
    ]


def test_a_name_that_is_no_utf8_is_found(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    (tmp_path / "a.png").rename(str(tmp_path / "a") + "\udcff.png")
    _, findings, _ = scan(tmp_path)
    assert findings.files == {"'a\\udcff.png'": "has a name that is no valid UTF-8"}


@pytest.mark.parametrize("name", ["a\rb.png", "a\rb/c.png"])
def test_a_carriage_return_is_found_for_no_table_keeps_it(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, "d.png")
    pictures, findings, _ = scan(tmp_path)
    assert [picture.file for picture in pictures] == ["d.png"]
    assert findings.files == {ascii(name): "has a carriage return in its name"}


@pytest.mark.parametrize("place", ["", "cat/deep"])
def test_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "cat/1.png", "cat/2.png", "cat/deep/3.png")
    whole = os.scandir

    def refusing(path: str) -> Any:  # to root, who may be running this, every folder can be read
        if Path(path) == tmp_path / place:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return whole(path)

    monkeypatch.setattr(os, "scandir", refusing)
    pictures, findings, _ = scan(tmp_path)
    assert findings.files == {place or ".": "Permission denied"}
    assert len(pictures) == (2 if place else 0)


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.png", "cat/2.png", "cat/._1.png", ".thumbs/1.png")
    assert set(found(tmp_path)) == {"cat/1.png", "cat/2.png"}


def test_links_to_a_cache_are_followed(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", "x.png")
    (tmp_path / "images/cat").mkdir(parents=True)
    (tmp_path / "images/cat/1.png").symlink_to(tmp_path / "elsewhere/x.png")
    (tmp_path / "images/dog").symlink_to(tmp_path / "elsewhere")
    assert [picture.file for picture in scan(tmp_path / "images")[0]] == ["cat/1.png", "dog/x.png"]


def test_a_folder_that_is_none_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^params\.yaml: data\.path is '.*'; allowed: a folder of images"):
        scan(tmp_path / "none")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"holds no image; looked for .*\.png"):
        scan(tmp_path)


def test_a_table_without_files_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    pd.DataFrame({"name": ["a.png"], "label": ["cat"]}).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(InputError, match="column file is missing; it has name, label"):
        scan(tmp_path)


def test_heads_and_files_are_read_without_spaces_and_capital_letters(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png")
    table(tmp_path, "\ufeffFile, Label ,SPLIT", "a.png ,cat,test", " b.png, cat ,")
    assert found(tmp_path) == {"a.png": ("cat", "test", None), "b.png": ("cat", None, None)}


@pytest.mark.parametrize(
    ("heads", "words"),
    [
        ("file,class", ["column 'class'; allowed: file, label, split, group"]),
        ("file, Labels ", ["column ' Labels '; allowed: file, label, split, group"]),
        ("file,Label,label", ["column 'label' stands there twice"]),
        (
            ",file,x",
            [f"column {head!r}; allowed: file, label, split, group" for head in ("", "x")],
        ),
    ],
)
def test_a_column_that_says_nothing_is_a_finding(tmp_path: Path, heads: str, words: list[str]) -> None:
    write(tmp_path, "a.png")
    table(tmp_path, heads, ",".join("a.png" if head == "file" else "" for head in heads.split(",")))
    assert scan(tmp_path)[1].table == [f"{tmp_path / 'labels.csv'}: {line}" for line in words]


def test_a_picture_keeps_its_name_when_it_is_moved() -> None:
    composed, decomposed = own_name("unlabeled/é.png"), own_name("cat/é.png")
    assert composed == decomposed == "é.png"
