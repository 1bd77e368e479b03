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
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stages.errors import InputError
from stages.images.pictures import SUFFIXES, listed
from stages.prepare import labels_table
from stages.prepare.columns import Picture, Pictures
from stages.prepare.labels_table import SPLITS, TABLE, Row, Table

UNLABELLED = ("unlabeled", "unlabelled")


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
    path, of_table = labels_table.found(folder)
    wrong += of_table
    if path is not None:
        said = labels_table.read(path, pictures.files)
        pictures, labelled = _from_table(pictures, said)
        pictures, torn = _by_groups(path, pictures)
        wrong += said.wrong + torn
        layout = labelled or f"{layout}, and {TABLE}"
    return pictures, Findings(broken, wrong), layout


def _from_folders(folder: Path, files: list[str]) -> tuple[Pictures, list[str], str]:
    """Labels and splits as the folders say; what is wrong with the folders; the layout."""
    tops = {file.partition("/")[0] for file in files if "/" in file}
    splits = {top: SPLITS[top.casefold()] for top in sorted(tops) if top.casefold() in SPLITS}
    by_split = "train" in splits.values() and len(set(splits.values())) > 1
    others = sorted(top for top in tops - splits.keys() if not _is_unlabelled(top)) if by_split else []

    def picture(file: str) -> Picture:
        *parents, _ = unicodedata.normalize("NFC", file).split("/")
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


def _from_table(pictures: Pictures, said: Table) -> tuple[Pictures, str | None]:
    """The pictures with what the table says of them; the layout, where it has labels."""
    layout = None
    if said.labels:
        pictures, layout = _by_its_labels(pictures, said)

    def picture(old: Picture, row: Row | None) -> Picture:
        if row is None:
            return old
        split = SPLITS[row.split.casefold()] if row.split else old.split
        return Picture(old.file, row.label or old.label, split, row.group or None)

    return Pictures.of(map(picture, pictures, said.rows)), layout


def _by_its_labels(pictures: Pictures, said: Table) -> tuple[Pictures, str]:
    """The pictures with their folders' labels, where these are labels of the table too; the layout.

    A new table beside class folders must not take their labels away, and `2024/` must not become a class.
    """
    spelt = {unicodedata.normalize("NFC", label): label for label in said.labels}
    # The number of a label does for the label itself: there are few, and many pictures.
    folders = [unicodedata.normalize("NFC", word or "") for word in pictures.labels.known]
    unsaid = np.array([row is None for row in said.rows], dtype=bool)
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


def _by_groups(path: Path, pictures: Pictures) -> tuple[Pictures, list[str]]:
    """Where one image of a group has a split, all have it; and the groups of which two have two."""
    said: dict[str, set[str]] = {}
    for picture in pictures:
        if picture.group and picture.split:
            said.setdefault(picture.group, set()).add(picture.split)
    torn = {group: splits for group, splits in said.items() if len(splits) > 1}
    wrong = [
        f"{path}: group {group!r} is in {' and '.join(sorted(splits))}; allowed: one split"
        for group, splits in sorted(torn.items())
    ]
    return Pictures.of(
        replace(picture, split=next(iter(said[picture.group]))) if picture.group in said else picture
        for picture in pictures
    ), wrong
