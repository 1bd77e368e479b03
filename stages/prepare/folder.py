"""What a folder of images says about itself: files, labels, splits and groups, read from its layout.

- **class folders**: each subfolder is a class, `unlabeled` beside them has none; or the same once more below
  `train`, `validation` (`val`, `valid`) and `test`, or `train` and one of them, which then are the splits;
  capital letters count for nothing in these names;
- **a table** `labels.csv` with the columns `file` and, as far as wanted, `label`, `split` (train, validation,
  test) and `group`. Where it has labels, a folder labels only what the table does not name, and only where
  the folder's name is one of the table's labels; all others, and an empty field, have none;
- **nothing but images**: none has a label.

Nothing is decoded here. Every finding is collected, so that all can be said in one go.
"""

import unicodedata
from collections.abc import Container
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from stages.artifacts import read_table
from stages.errors import InputError
from stages.pictures import SUFFIXES, listed
from stages.prepare.columns import Picture, Pictures

TABLE = "labels.csv"
COLUMNS = ("file", "label", "split", "group")
UNLABELLED = ("unlabeled", "unlabelled")
SPLITS = {
    "train": "train", "validation": "validation", "val": "validation", "valid": "validation", "test": "test"
}  # fmt: skip


@dataclass(frozen=True)
class Findings:
    """What is wrong, one line each: with files (which can be left out), and with the table (which cannot)."""

    files: dict[str, str]
    table: list[str]


def scan(folder: Path) -> tuple[Pictures, Findings, str]:
    """The images of a folder, what is wrong with them, and the layout in words.

    Raises:
        InputError: there is no such folder, it holds no image, or its table lacks the column `file`.
    """
    if not folder.is_dir():
        raise InputError(f"params.yaml: data.path is {str(folder)!r}; allowed: a folder of images")
    files, broken = listed(folder)
    if not files and not broken:
        raise InputError(f"{folder}: holds no image; looked for {', '.join(sorted(SUFFIXES))}")
    pictures, wrong, layout = _from_folders(folder, files)
    if (folder / TABLE).is_file():
        pictures, of_table, labelled = _from_table(folder, pictures)
        pictures, torn = _by_groups(folder, pictures)
        wrong += of_table + torn
        layout = labelled or f"{layout}, and {TABLE}"
    return pictures, Findings(broken, wrong), layout


def _from_folders(folder: Path, files: list[str]) -> tuple[Pictures, list[str], str]:
    """Labels and splits as the folders say; what is wrong with the folders; the layout."""
    tops = {file.partition("/")[0] for file in files if "/" in file}
    splits = {top: SPLITS[top.casefold()] for top in sorted(tops) if top.casefold() in SPLITS}
    by_split = "train" in splits.values() and len(set(splits.values())) > 1
    others = sorted(top for top in tops - splits.keys() if not _is_unlabelled(top)) if by_split else []

    def picture(file: str) -> Picture:
        *parents, _ = file.split("/")
        split = splits.get(parents.pop(0)) if by_split and parents else None
        classed = bool(parents) and not _is_unlabelled(parents[0]) and (split is not None or not by_split)
        return Picture(file, parents[0] if classed else None, split)

    pictures = Pictures.of(map(picture, files))
    wrong = []
    if others:
        wrong.append(
            f"{folder}: {', '.join(others)} beside {', '.join(splits)}; allowed beside splits: "
            f"{UNLABELLED[0]} (classes stand below each split)"
        )
    if not pictures.labels.given().any():
        return pictures, wrong, "nothing but images"
    return pictures, wrong, "class folders" + (f" below {', '.join(splits)}" if by_split else "")


def _is_unlabelled(name: str) -> bool:
    return name.casefold() in UNLABELLED


def _written_as(file: str, known: Container[str], same: dict[str, str]) -> str:
    """The name of a file as the folder has it, where an accent is written in another way; else as given."""
    file = PurePosixPath(file).as_posix()
    if file in known:
        return file
    composed = unicodedata.normalize("NFC", file)
    return same.get(composed, composed if composed in known else file)


def _read(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, its heads in small letters and without spaces; which of them say nothing here."""
    table = read_table(path, text=True)
    given = list(map(str, table.columns))
    table.columns = pd.Index([head.strip().casefold() for head in given])
    if "file" not in table.columns:
        raise InputError(f"{path}: column file is missing; it has {', '.join(given)}")
    again = table.columns.duplicated()
    wrong = [f"{path}: column {head!r} stands there twice" for head in sorted(set(table.columns[again]))]
    return table.loc[:, ~again], wrong + [
        f"{path}: column {head!r}; allowed: {', '.join(COLUMNS)}"
        for head in given
        if head.strip().casefold() not in COLUMNS
    ]


def _from_table(folder: Path, pictures: Pictures) -> tuple[Pictures, list[str], str | None]:
    """What the table says of the images; what is wrong in it; the layout, where it has labels."""
    path = folder / TABLE
    table, wrong = _read(path)
    known = set(pictures.files)
    # An é may be written in two ways; a name in ASCII cannot.
    same = {unicodedata.normalize("NFC", file): file for file in pictures.files if not file.isascii()}
    said: dict[str, dict[str, str]] = {}
    kinds: dict[tuple[str, ...], dict[str, str]] = {}  # of which many images have the same
    columns = (table[key] if key in table.columns else repeat("") for key in COLUMNS)
    for number, row in enumerate(zip(*columns, strict=False), start=2):
        file, *fields = (str(field).strip() for field in row)
        where = f"{path}, line {number}"
        given = {key: value for key, value in zip(COLUMNS[1:], fields, strict=True) if value}
        if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
            wrong.append(f"{where}: {file} leaves the folder; allowed: paths below {folder}")
        elif (file := _written_as(file, known, same)) not in known:
            wrong.append(f"{where}: there is no image {file}")
        elif file in said and said[file] != given:
            wrong.append(f"{where}: {file} stands there twice, as {said[file]} and as {given}")
        elif given.get("split", "train").casefold() not in SPLITS:
            wrong.append(f"{where}: split is {given['split']!r}; allowed: {', '.join(SPLITS)}")
        else:
            said[file] = kinds.setdefault(tuple(fields), given)
    layout = None
    if "label" in table.columns:
        pictures, layout = _by_its_labels(pictures, said)

    def picture(old: Picture) -> Picture:
        if (given := said.get(old.file)) is None:
            return old
        split = SPLITS[given["split"].casefold()] if "split" in given else old.split
        return Picture(old.file, given.get("label", old.label), split, given.get("group"))

    return Pictures.of(map(picture, pictures)), wrong, layout


def _by_its_labels(pictures: Pictures, said: dict[str, dict[str, str]]) -> tuple[Pictures, str]:
    """The pictures with their folders' labels, where these are labels of the table too; the layout.

    A new table beside class folders must not take their labels away, and `2024/` must not become a class.
    """
    spelt = {unicodedata.normalize("NFC", g["label"]): g["label"] for g in said.values() if "label" in g}
    # The number of a label does for the label itself: there are few, and many pictures.
    folders = [unicodedata.normalize("NFC", word or "") for word in pictures.labels.known]
    unsaid = np.array([file not in said for file in pictures.files], dtype=bool)
    names = {folders[code] for code in np.unique(pictures.labels.codes[unsaid])} - {""}
    layout = f"{TABLE} with labels"
    if names & spelt.keys():
        layout += ", class folders for what it does not name"
    if others := sorted(names - spelt.keys()):
        some = ", ".join(others[:5]) + (", …" if len(others) > 5 else "")
        layout += f" (folders that are no labels: {some})"
    known = [spelt.get(folder) for folder in folders]
    return Pictures.of(
        replace(picture, label=known[code] if alone else None)
        for picture, code, alone in zip(pictures, pictures.labels.codes, unsaid, strict=True)
    ), layout


def _by_groups(folder: Path, pictures: Pictures) -> tuple[Pictures, list[str]]:
    """Where one image of a group has a split, all have it; and the groups of which two have two."""
    said: dict[str, set[str]] = {}
    for picture in pictures:
        if picture.group and picture.split:
            said.setdefault(picture.group, set()).add(picture.split)
    torn = {group: splits for group, splits in said.items() if len(splits) > 1}
    wrong = [
        f"{folder / TABLE}: group {group!r} is in {' and '.join(sorted(splits))}; allowed: one split"
        for group, splits in sorted(torn.items())
    ]
    return Pictures.of(
        replace(picture, split=next(iter(said[picture.group]))) if picture.group in said else picture
        for picture in pictures
    ), wrong
