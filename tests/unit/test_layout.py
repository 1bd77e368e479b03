import errno
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from stages.errors import InputError
from stages.prepare.columns import base_name
from stages.prepare.layout import scan
from stages.prepare.split_names import SPLITS


def write(folder: Path, *files: str) -> None:
    for number, file in enumerate(files):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 9), number).save(folder / file)


def table(folder: Path, *rows: str) -> None:
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def metadata(folder: Path) -> dict[str, tuple[str | None, str | None, str | None]]:
    """Label, split and group of each image of a folder that has no errors."""
    records, errors, _ = scan(folder)
    assert errors.files == {}
    assert errors.layout == []
    return {record.file: (record.label, record.split, record.group) for record in records}


def test_class_folders_with_an_unlabelled_one_beside_them(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.png", "cat/deep/er/2.PNG", "dog/1.png", "dog/3.jpg", "unlabeled/4.png", "5.bmp")
    assert metadata(tmp_path) == {
        "cat/1.png": ("cat", None, None), "cat/deep/er/2.PNG": ("cat", None, None),
        "dog/1.png": ("dog", None, None), "dog/3.jpg": ("dog", None, None),
        "unlabeled/4.png": (None, None, None), "5.bmp": (None, None, None),
    }  # fmt: skip
    assert scan(tmp_path)[2] == "class folders"


def test_class_folders_below_train_and_test(tmp_path: Path) -> None:
    write(
        tmp_path, "train/cat/1.png", "train/cat/2.png", "val/dog/1.png", "test/dog/2.png", "unlabelled/3.png"
    )
    assert metadata(tmp_path) == {
        "train/cat/1.png": ("cat", "train", None), "train/cat/2.png": ("cat", "train", None),
        "val/dog/1.png": ("dog", "validation", None), "test/dog/2.png": ("dog", "test", None),
        "unlabelled/3.png": (None, None, None),
    }  # fmt: skip


@pytest.mark.parametrize("train", ["train", "Train"])
@pytest.mark.parametrize("other", ["val", "valid", "validation", "test", "Test", "VALID"])
def test_two_of_the_splits_are_enough(tmp_path: Path, train: str, other: str) -> None:
    write(tmp_path, f"{train}/cat/1.png", f"{train}/cat/2.png", f"{other}/cat/3.png", f"{other}/cat/4.png")
    assert {label for label, _, _ in metadata(tmp_path).values()} == {"cat"}
    # Validation is the test if there is no other: else no labelled image would be left for it.
    assert {split for _, split, _ in metadata(tmp_path).values()} == {"train", "test"}
    assert scan(tmp_path)[2] == f"class folders in {', '.join(sorted([train, other]))}"


def test_train_valid_and_test_are_splits(tmp_path: Path) -> None:
    write(tmp_path, "train/cat/1.png", "train/dog/1.png", "valid/cat/2.png", "test/dog/2.png")
    write(tmp_path, "Unlabeled/3.png", "train/Unlabelled/4.png", "5.png")
    assert metadata(tmp_path) == {
        "train/cat/1.png": ("cat", "train", None), "train/dog/1.png": ("dog", "train", None),
        "valid/cat/2.png": ("cat", "validation", None), "test/dog/2.png": ("dog", "test", None),
        "Unlabeled/3.png": (None, None, None), "train/Unlabelled/4.png": (None, "train", None),
        "5.png": (None, None, None),
    }  # fmt: skip


def test_other_folders_beside_splits_are_an_error(tmp_path: Path) -> None:
    write(tmp_path, "train/cat/1.png", "test/cat/2.png", "docs/3.png", "img/x/4.png", "unlabeled/x/5.png")
    _, errors, _ = scan(tmp_path)
    assert errors.layout == [
        f"{tmp_path}: has the folders docs, img beside test, train; put class folders into these splits, "
        "and images without a label into unlabeled"
    ]


def test_other_folders_beside_splits_without_labels_are_an_error(tmp_path: Path) -> None:
    write(tmp_path, "train/1.png", "test/2.png", "docs/3.png")
    (error,) = scan(tmp_path)[1].layout
    assert error.startswith(f"{tmp_path}: has the folders docs beside test, train; ")


def test_a_folder_without_images_is_not_an_error(tmp_path: Path) -> None:
    write(tmp_path, "train/cat/1.png", "test/cat/2.png")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/about.txt").touch()
    assert metadata(tmp_path)["test/cat/2.png"] == ("cat", "test", None)


@pytest.mark.parametrize("split", ["Test", " test "])
def test_case_and_spaces_of_a_split_do_not_matter(tmp_path: Path, split: str) -> None:
    write(tmp_path, "a.png", "b.png")
    table(tmp_path, "file,label,split", f"a.png,cat,{split}", "b.png,cat,  ")
    assert metadata(tmp_path) == {"a.png": ("cat", "test", None), "b.png": ("cat", None, None)}


def test_a_link_into_the_folder_is_reported_and_not_followed(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png")
    (tmp_path / "cat" / "all").symlink_to(tmp_path)
    (tmp_path / "more").symlink_to(tmp_path / "dog")
    records, errors, _ = scan(tmp_path)
    assert [record.file for record in records] == ["cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png"]
    assert errors.files.keys() == {"cat/all", "more"}
    assert all("link back" in reason for reason in errors.files.values())


def test_a_cycle_of_links_outside_is_reported_and_not_followed(tmp_path: Path) -> None:
    write(tmp_path, "out/1.png", "images/dog/3.png")
    (tmp_path / "out" / "loop").symlink_to(tmp_path / "out")
    (tmp_path / "images" / "cat").symlink_to(tmp_path / "out")
    records, errors, _ = scan(tmp_path / "images")
    assert [record.file for record in records] == ["cat/1.png", "dog/3.png"]
    assert errors.files.keys() == {"cat/loop"}


def test_links_to_folders_outside_are_followed(tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/1.png", "elsewhere/2.png", "images/dog/3.png", "images/dog/4.png")
    (tmp_path / "images" / "cat").symlink_to(tmp_path / "elsewhere")
    assert {label for label, _, _ in metadata(tmp_path / "images").values()} == {"cat", "dog"}


def test_a_group_is_never_in_two_splits(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png", "c.png", "d.png")
    table(tmp_path, "file,split,group", "a.png,test,anna", "b.png,,anna", "c.png,train,ben", "d.png,test,ben")
    records, errors, _ = scan(tmp_path)
    assert [record.split for record in records][:2] == ["test", "test"]
    assert errors.layout == [
        f"{tmp_path / 'labels.csv'}: group 'ben' is in test and train; give all its images one split"
    ]


def test_a_class_may_be_called_test_if_there_is_no_train(tmp_path: Path) -> None:
    write(tmp_path, "test/1.png", "test/2.png", "flight/1.png", "flight/2.png")
    assert {label for label, _, _ in metadata(tmp_path).values()} == {"test", "flight"}


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
    assert metadata(tmp_path) == {
        "a.png": ("cat", None, None), "b.png": ("cat", "test", "k"), "c.png": (None, "test", "k"),
        "ü.png": ("dög", "train", None), "d.png": ("dög", None, None),
    }  # fmt: skip
    assert scan(tmp_path)[2] == "labels.csv with labels"


def test_a_file_name_may_have_two_unicode_forms(tmp_path: Path) -> None:
    write(tmp_path, "e\u0301.png", "b.png")
    table(tmp_path, "file,label", "\u00e9.png,cat", "b.png,cat")
    assert metadata(tmp_path)["e\u0301.png"] == ("cat", None, None)


def test_folder_names_that_are_not_in_the_table_are_not_labels(tmp_path: Path) -> None:
    write(tmp_path, "2024/a.png", "2024/b.png", "2025/c.png")
    table(tmp_path, "file,label", "2024/a.png,cat", "2025/c.png,cat")
    assert {file: label for file, (label, _, _) in metadata(tmp_path).items()} == {
        "2024/a.png": "cat", "2024/b.png": None, "2025/c.png": "cat",
    }  # fmt: skip


def test_a_new_table_does_not_remove_labels_of_class_folders(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.png", "cat/2.png", "dog/1.png", "e\u0301/1.png", "bird/1.png", "unlabeled/4.png")
    write(tmp_path, "unlabeled/5.png", "unlabeled/6.png", "dog/named.png", "dog/unsure.png")
    rows = ["unlabeled/4.png,cat", "unlabeled/5.png,dog", "dog/named.png,\u00e9", "dog/unsure.png,"]
    table(tmp_path, "file,label", *rows)
    records, errors, description = scan(tmp_path)
    assert {record.file: record.label for record in records} == {
        "cat/1.png": "cat", "cat/2.png": "cat", "dog/1.png": "dog", "e\u0301/1.png": "\u00e9",
        "bird/1.png": None, "unlabeled/4.png": "cat", "unlabeled/5.png": "dog", "unlabeled/6.png": None,
        "dog/named.png": "\u00e9", "dog/unsure.png": None,
    }  # fmt: skip
    assert errors.layout == []
    assert description == (
        "labels.csv with labels, class folders for images that it does not list "
        "(not labels: the folders bird)"
    )


@pytest.mark.parametrize("rows", [[], ["cat/1.png,,g"], ["cat/1.png,,g", "dog/2.png,  ,"]])
def test_an_empty_label_column_does_not_remove_labels(tmp_path: Path, rows: list[str]) -> None:
    write(tmp_path, "cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")
    table(tmp_path, "file,label,group", *rows)
    assert metadata(tmp_path) == {
        f"{name}/{number}.png": (name, None, "g" if rows and (name, number) == ("cat", 1) else None)
        for name in ("cat", "dog")
        for number in (1, 2)
    }
    assert scan(tmp_path)[2] == "class folders, and labels.csv"


def test_the_case_of_the_tables_name_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    table(tmp_path, "file,label", "a.png,cat")
    (tmp_path / "labels.csv").rename(tmp_path / "Labels.CSV")
    assert metadata(tmp_path) == {"a.png": ("cat", None, None)}
    (tmp_path / "Labels.CSV").rename(tmp_path / "LABELS.csv")
    table(tmp_path, "file,label", "a.png,dog")
    assert scan(tmp_path)[1].layout == [
        f"{tmp_path}: has more than one table (LABELS.csv, labels.csv); keep one"
    ]


@pytest.mark.parametrize("kind", ["broken link", "folder"])
def test_a_table_that_is_not_a_file_is_an_error(tmp_path: Path, kind: str) -> None:
    write(tmp_path, "a.png")
    path = tmp_path / "labels.csv"
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nothing")
    assert scan(tmp_path)[1].layout == [f"{path}: is not a readable file"]


def test_line_numbers_are_those_of_an_editor(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png", " c.png")
    table(tmp_path, "file,label", "", "a.png,cat", "", ",dog", "x.png,cat", " c.png,dog", " b.png ,dog")
    records, errors, _ = scan(tmp_path)
    where = f"{tmp_path / 'labels.csv'}, line"
    assert errors.layout == [f"{where} 5: the file name is empty", f"{where} 6: there is no image x.png"]
    assert {record.file: record.label for record in records} == {
        "a.png": "cat",
        "b.png": "dog",
        " c.png": "dog",
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"file,label\na.png\n", "line 2 has 1 fields, the header has 2"),
        (b"file,label\na.png,cat,dog\n", "line 2 has 3 fields, the header has 2"),
        (b'file,label\n"a.png,cat\n', "unexpected end of data"),
        (b"file,label\n\xff.png,cat\n", "can't decode byte"),
    ],
)
def test_an_unreadable_table_is_an_error(tmp_path: Path, content: bytes, words: str) -> None:
    write(tmp_path, "a.png")
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(InputError, match=f"labels.csv: is not a readable table .*{words}"):
        scan(tmp_path)


def test_a_class_may_have_two_unicode_forms(tmp_path: Path) -> None:
    write(tmp_path, "train/\u00e9/1.png", "train/dog/1.png", "test/e\u0301/2.png")
    assert {label for label, _, _ in metadata(tmp_path).values()} == {"\u00e9", "dog"}


def test_folders_are_classes_if_the_table_has_no_labels(tmp_path: Path) -> None:
    write(tmp_path, "cat/a.png", "cat/b.png", "dog/c.png", "dog/d.png")
    table(tmp_path, "file,split", "cat/a.png,test", "dog/c.png,val")
    assert metadata(tmp_path)["cat/a.png"] == ("cat", "test", None)
    assert metadata(tmp_path)["dog/c.png"] == ("dog", "validation", None)
    assert metadata(tmp_path)["dog/d.png"] == ("dog", None, None)


def test_images_only(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.webp")
    assert scan(tmp_path)[2] == "images only"
    assert all(record.label is None for record in scan(tmp_path)[0])


def test_all_errors_are_collected(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "notes.txt").write_text("not an image by its name")
    rows = [
        "a.png,cat,",
        "a.png,dog,",
        "b.png,cat,sometimes",
        "missing.png,cat,",
        "../up.png,cat,",
        "/etc/x.png,cat,",
    ]
    table(tmp_path, "file,label,split", *rows, "c.png,bird,", "c.png,bird,")
    _, errors, _ = scan(tmp_path)
    assert errors.files == {"gone.png": "is a broken link"}
    where = f"{tmp_path / 'labels.csv'}, line"
    assert errors.layout == [
        f"{where} 3: a.png is listed twice, with {{'label': 'cat'}} and with {{'label': 'dog'}}; "
        "keep one line",
        f"{where} 4: split is 'sometimes'; allowed: {', '.join(SPLITS)}",
        f"{where} 5: there is no image missing.png",
        f"{where} 6: ../up.png is outside the folder; allowed: paths relative to {tmp_path}",
        f"{where} 7: /etc/x.png is outside the folder; allowed: paths relative to {tmp_path}",
    ]


def test_a_name_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    (tmp_path / "a.png").rename(str(tmp_path / "a") + "\udcff.png")
    _, errors, _ = scan(tmp_path)
    assert errors.files == {"'a\\udcff.png'": "has a name that is not valid UTF-8"}


@pytest.mark.parametrize("name", ["a\rb.png", "a\rb/c.png", "a\x1b[2Jb/c.png", "a\nb.png"])
def test_a_control_character_in_a_name_is_an_error(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, "d.png")
    records, errors, _ = scan(tmp_path)
    assert [record.file for record in records] == ["d.png"]
    assert errors.files == {ascii(name): "has a control character in its name"}


def test_devices_and_pipes_are_reported_and_not_read(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.png", "cat/2.png")
    (tmp_path / "cat/3.png").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "cat/4.png")
    (tmp_path / "cat/5.png").symlink_to(tmp_path / "cat/4.png")
    records, errors, _ = scan(tmp_path)
    assert [record.file for record in records] == ["cat/1.png", "cat/2.png"]
    assert errors.files == dict.fromkeys(["cat/3.png", "cat/4.png", "cat/5.png"], "is not a file")


@pytest.mark.parametrize("place", ["", "cat/deep"])
def test_an_unreadable_folder_is_reported(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "cat/1.png", "cat/2.png", "cat/deep/3.png")
    scandir = os.scandir

    def failing(path: str) -> Any:  # file permissions do not do: root can read every folder
        if Path(path) == tmp_path / place:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    records, errors, _ = scan(tmp_path)
    assert errors.files == {place or ".": "Permission denied"}
    assert len(records) == (2 if place else 0)


def test_hidden_files_and_folders_are_ignored(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.png", "cat/2.png", "cat/._1.png", ".thumbs/1.png")
    assert set(metadata(tmp_path)) == {"cat/1.png", "cat/2.png"}


def test_links_to_a_cache_are_followed(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", "x.png")
    (tmp_path / "images/cat").mkdir(parents=True)
    (tmp_path / "images/cat/1.png").symlink_to(tmp_path / "elsewhere/x.png")
    (tmp_path / "images/dog").symlink_to(tmp_path / "elsewhere")
    assert [record.file for record in scan(tmp_path / "images")[0]] == ["cat/1.png", "dog/x.png"]


def test_a_missing_or_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^params\.yaml: data\.path is '.*'; allowed: a folder of images"):
        scan(tmp_path / "none")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"contains no image files \(names that end in .*\.png"):
        scan(tmp_path)


def test_a_table_without_a_file_column_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    pd.DataFrame({"name": ["a.png"], "label": ["cat"]}).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(InputError, match=r"column file is missing; it has name, label$"):
        scan(tmp_path)


def test_case_and_spaces_of_column_names_do_not_matter(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png")
    table(tmp_path, "\ufeffFile, Label ,SPLIT", "a.png ,cat,test", " b.png, cat ,")
    assert metadata(tmp_path) == {"a.png": ("cat", "test", None), "b.png": ("cat", None, None)}


@pytest.mark.parametrize(
    ("header", "messages"),
    [
        ("file,class", ["column 'class' is unknown; allowed: file, label, split, group"]),
        ("file, Labels ", ["column ' Labels ' is unknown; allowed: file, label, split, group"]),
        ("file,Label,label", ["there are two columns 'label'; remove one"]),
        (
            ",file,x",
            [f"column {title!r} is unknown; allowed: file, label, split, group" for title in ("", "x")],
        ),
    ],
)
def test_an_unknown_or_repeated_column_is_an_error(tmp_path: Path, header: str, messages: list[str]) -> None:
    write(tmp_path, "a.png")
    table(tmp_path, header, ",".join("a.png" if title == "file" else "" for title in header.split(",")))
    assert scan(tmp_path)[1].layout == [f"{tmp_path / 'labels.csv'}: {message}" for message in messages]


def test_titles_are_shortened_and_very_many_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    table(tmp_path, ",".join(["file", "x" * 100_000, *map(str, range(20_000))]))
    lines = scan(tmp_path)[1].layout
    assert len(lines) == 21
    assert max(map(len, lines)) < 400
    assert lines[-1].endswith(": 19,981 more columns that are repeated or unknown")


def test_a_base_name_does_not_change_when_the_file_is_moved() -> None:
    composed, decomposed = base_name("unlabeled/\u00e9.png"), base_name("cat/e\u0301.png")
    assert composed == decomposed == "\u00e9.png"


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_table_may_have_semicolons_or_tabs(tmp_path: Path, delimiter: str) -> None:
    write(tmp_path, "a.png", "b, c.png")
    table(
        tmp_path,
        *(line.replace("|", delimiter) for line in ("file|label|split", "a.png|cat|test", "b, c.png|dog|")),
    )
    assert metadata(tmp_path) == {"a.png": ("cat", "test", None), "b, c.png": ("dog", None, None)}


def test_paths_that_begin_with_the_folder_or_have_backslashes_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "images/x/a.png", "images/x/b.png", "images/x/c.png")
    monkeypatch.chdir(tmp_path)
    rows = [f"{tmp_path}/images/x/a.png,cat", "images/x/b.png,dog", "x\\c.png,bird"]
    table(tmp_path / "images", "file,label", *rows)
    labels = {file: label for file, (label, _, _) in metadata(Path("images")).items()}
    assert labels == {"x/a.png": "cat", "x/b.png": "dog", "x/c.png": "bird"}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["cat|dog", "cat"], "line 2: label 'cat|dog' seems to hold several labels, as do 1 distinct labels"),
        (["cat", '"cat, dog"', "dog"], "line 3: label 'cat, dog' seems to hold several labels"),
        (['"a,b"', '"b,c"', '"c,a"'], "line 2: label 'a,b' seems to hold several labels, as do 3 distinct"),
        ([f"{n / 7:.3f}" for n in range(40)], ": the labels are 40 different numbers from 0 to 5.571"),
        (
            [str(n * n) for n in range(40)],
            ": the labels are 40 different numbers from 0 to 1521 on 40 images",
        ),
        (["c" * 100_000, "dog"], "line 2: label has 100,000 characters ('cccccccccccccccccccc'…); allowed: "),
        (["cat\x1b[31m", "dog"], "line 2: label 'cat\\x1b[31m' has control characters; remove them"),
        (["ca\0t", "dog"], "line 2: label 'ca\\x00t' has control characters; remove them"),
        (['"ca\rt"', "dog"], "label 'ca\\rt' has control characters; remove them"),
    ],
)
def test_labels_that_are_no_single_class_are_refused(tmp_path: Path, labels: list[str], message: str) -> None:
    write(tmp_path, *(f"{number}.png" for number in range(len(labels))))
    rows = [f"{number}.png,{label}" for number, label in enumerate(labels)]
    (tmp_path / "labels.csv").write_bytes("\n".join(["file,label", *rows]).encode())
    (error,) = scan(tmp_path)[1].layout
    assert message in error


@pytest.mark.parametrize(
    "labels",
    [
        ['"Smith, early"', '"Smith, late"', '"Jones, early"'],
        [str(n) for n in range(30)],
        [f"{n}.0" for n in range(30)],
        ["3.10", "3.11", "3.12"],
    ],
)
def test_unusual_names_of_classes_are_taken(tmp_path: Path, labels: list[str]) -> None:
    write(tmp_path, *(f"{number}.png" for number in range(len(labels))))
    table(tmp_path, "file,label", *(f"{number}.png,{label}" for number, label in enumerate(labels)))
    assert {label for label, _, _ in metadata(tmp_path).values()} == {label.strip('"') for label in labels}


def test_a_label_unlabeled_means_what_the_folder_means(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png", "dog/5.png")
    table(tmp_path, "file,label", "cat/1.png,Unlabeled", "dog/4.png,dog", "cat/2.png,cat")
    assert {file: label for file, (label, _, _) in metadata(tmp_path).items()} == {
        "cat/1.png": None, "cat/2.png": "cat", "dog/3.png": "dog", "dog/4.png": "dog", "dog/5.png": "dog",
    }  # fmt: skip
    table(tmp_path, "file,label", "cat/1.png,unlabelled")
    assert metadata(tmp_path)["cat/1.png"][0] is None
    assert metadata(tmp_path)["cat/2.png"][0] == "cat"


def test_lines_of_one_file_are_joined_unless_they_contradict(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png")
    table(tmp_path, "file,label,split", "a.png,,test", "b.png,dog,", "file,label,split", "a.png,cat,")
    assert metadata(tmp_path) == {"a.png": ("cat", "test", None), "b.png": ("dog", None, None)}


def test_many_errors_with_one_cause_are_summarised(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    table(tmp_path, "file,label", "a.png,cat", *(f"gone{number}.png,cat" for number in range(2000)))
    layout = scan(tmp_path)[1].layout
    assert len(layout) == 6
    assert layout[0].endswith("line 3: there is no image gone0.png")
    assert layout[-1] == "and 1,995 more of this kind: there is no such image"


def test_train_alone_is_a_split(tmp_path: Path) -> None:
    write(tmp_path, "train/cat/1.png", "train/dog/2.png", "unlabeled/3.png")
    assert metadata(tmp_path) == {
        "train/cat/1.png": ("cat", "train", None), "train/dog/2.png": ("dog", "train", None),
        "unlabeled/3.png": (None, None, None),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            ["trainA/1.png", "testA/2.png"],
            "the folders testA, trainA look like splits, but not all names are",
        ),
        (
            ["valid/cat/1.png", "test/cat/2.png"],
            "the folders test, valid are splits, but none of them is train",
        ),
        (["cat/train/1.png", "cat/test/2.png", "dog/train/3.png"], "cat has splits inside class folders"),
    ],
)
def test_doubtful_layouts_are_refused_with_the_known_ones(
    tmp_path: Path, files: list[str], words: str
) -> None:
    write(tmp_path, *files)
    (error,) = scan(tmp_path)[1].layout
    assert words in error
    assert "known layouts: CLASS/…; train/CLASS/… with test/CLASS/…" in error


def test_val_is_not_the_test_where_a_table_names_one(tmp_path: Path) -> None:
    write(tmp_path, "train/cat/1.png", "train/dog/2.png", "val/cat/3.png", "val/dog/4.png")
    table(tmp_path, "file,split", "train/cat/1.png,test")
    assert [split for _, split, _ in metadata(tmp_path).values()] == [
        "test",
        "train",
        "validation",
        "validation",
    ]


@pytest.mark.parametrize(
    ("files", "masks"),
    [
        (
            ["cat/1.png", "cat/1_mask.png", "cat/1 mask_2.png", "dog/1.jpg"],
            {"cat/1_mask.png", "cat/1 mask_2.png"},
        ),
        (["cat/1.png", "dog/1_mask.png", "dog/2_mask.png"], set()),  # no picture beside them
        (
            ["images/1.jpg", "images/2.jpg", "masks/1.png", "masks/2_mask.png"],
            {"masks/1.png", "masks/2_mask.png"},
        ),
        (["cat/images/1.jpg", "cat/masks/1.png"], {"cat/masks/1.png"}),
        (["masks/1.png", "masks/2.png", "no masks/1.png", "no masks/2.png"], set()),  # two classes
        (["with_mask/1.png", "without_mask/1.png"], set()),
    ],
)
def test_masks_are_recognised_by_their_pictures(tmp_path: Path, files: list[str], masks: set[str]) -> None:
    write(tmp_path, *files)
    records, findings, _ = scan(tmp_path)
    assert {mask for mask, _, _ in findings.masks} == masks
    assert {record.file for record in records} == set(files) - masks
    assert any("masks are left out" in note for note in findings.notes) == bool(masks)


def test_folders_inside_classes_and_names_that_may_be_classes_are_said(tmp_path: Path) -> None:
    write(tmp_path / "a", "cat/red/1.png", "cat/2.png", "dog/3.png")
    notes = scan(tmp_path / "a")[1].notes
    assert notes == ["folders inside class folders are no classes of their own: cat/red"]
    write(tmp_path / "b", "cat.1.png", "cat.2.png", "dog.1.png", "dog.2.png")
    (note,) = scan(tmp_path / "b")[1].notes
    assert note.startswith("note: no image has a label, but the file names begin with cat, dog; ")
    write(tmp_path / "c", "IMG_1.png", "IMG_2.png", "holiday 1.png", "holiday 2.png")
    assert scan(tmp_path / "c")[1].notes == []
