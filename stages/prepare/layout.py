"""Reads labels, splits and groups from the layout of a folder of images. It decodes no image.

- **Class folders**: each subfolder is a class; images in `unlabeled` have no label. Class folders may also
  be inside `train` and at least one of `validation` (`val`, `valid`) and `test`, which then are the splits.
  The case of these names does not matter.
- **A table** `labels.csv` with the column `file` and any of `label`, `split` (train, validation, test) and
  `group`. If the table has labels, an image that it does not list takes the name of its folder as label,
  provided that this name is one of the table's labels. All other images, and those with an empty field,
  have no label.
- **Images only**: no image has a label.

All errors are collected, so that they can be reported at once.
"""

import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stages.errors import InputError
from stages.images.pictures import SUFFIXES, list_images
from stages.prepare import labels_table
from stages.prepare.columns import Record, Records
from stages.prepare.labels_table import SPLITS, TABLE, Row, Table

UNLABELLED = ("unlabeled", "unlabelled")


@dataclass(frozen=True)
class LayoutErrors:
    """What is wrong with a folder.

    Attributes:
        files: why a file cannot be read, by its path; such files can be skipped.
        layout: messages about the folders and the table; these must be corrected.
    """

    files: dict[str, str]
    layout: list[str]


def scan(folder: Path) -> tuple[Records, LayoutErrors, str]:
    """The images of a folder, what is wrong with it, and a description of its layout.

    Raises:
        InputError: the folder does not exist, it has no image, or its table has no column `file`.
    """
    if not folder.is_dir():
        raise InputError(f"params.yaml: data.path is {str(folder)!r}; allowed: a folder of images")
    files, broken = list_images(folder)
    if not files and not broken:
        raise InputError(
            f"{folder}: contains no image files (names that end in {', '.join(sorted(SUFFIXES))})"
        )
    records, errors, description = _from_folders(folder, files)
    path, table_errors = labels_table.find(folder)
    errors += table_errors
    if path is not None:
        table = labels_table.read(path, records.files)
        records, table_description = _apply_table(records, table)
        records, group_errors = _apply_groups(path, records)
        errors += table.errors + group_errors
        description = table_description or f"{description}, and {TABLE}"
    return records, LayoutErrors(broken, errors), description


def _from_folders(folder: Path, files: list[str]) -> tuple[Records, list[str], str]:
    """Labels and splits from the names of the folders; errors; a description of the layout."""
    tops = {file.partition("/")[0] for file in files if "/" in file}
    splits = {top: SPLITS[top.casefold()] for top in sorted(tops) if top.casefold() in SPLITS}
    by_split = "train" in splits.values() and len(set(splits.values())) > 1
    others = sorted(top for top in tops - splits.keys() if not _is_unlabelled(top)) if by_split else []

    def record(file: str) -> Record:
        *parents, _ = unicodedata.normalize("NFC", file).split("/")
        split = splits.get(parents.pop(0)) if by_split and parents else None
        labelled = bool(parents) and not _is_unlabelled(parents[0]) and (split is not None or not by_split)
        return Record(file, parents[0] if labelled else None, split)

    records = Records.of(map(record, files))
    errors = []
    if others:
        errors.append(
            f"{folder}: has the folders {', '.join(others)} beside {', '.join(splits)}; put class folders "
            f"into these splits, and images without a label into {UNLABELLED[0]}"
        )
    if not records.labels.is_known().any():
        return records, errors, "images only"
    return records, errors, "class folders" + (f" in {', '.join(splits)}" if by_split else "")


def _is_unlabelled(name: str) -> bool:
    return name.casefold() in UNLABELLED


def _apply_table(records: Records, table: Table) -> tuple[Records, str | None]:
    """The records updated from the table; a description of the layout if the table has labels."""
    description = None
    if table.labels:
        records, description = _match_folder_labels(records, table)

    def update(record: Record, row: Row | None) -> Record:
        if row is None:
            return record
        split = SPLITS[row.split.casefold()] if row.split else record.split
        return Record(record.file, row.label or record.label, split, row.group or None)

    return Records.of(map(update, records, table.rows)), description


def _match_folder_labels(records: Records, table: Table) -> tuple[Records, str]:
    """Keep a label from a folder only if it is a label of the table too; describe the layout.

    So a new table beside class folders does not remove their labels, and `2024/` does not become a class.
    """
    spelling = {unicodedata.normalize("NFC", label): label for label in table.labels}
    # Work on the codes: there are few labels and many records.
    folders = [unicodedata.normalize("NFC", label or "") for label in records.labels.categories]
    unlisted = np.array([row is None for row in table.rows], dtype=bool)
    names = {folders[code] for code in np.unique(records.labels.codes[unlisted])} - {""}
    description = f"{TABLE} with labels"
    if names & spelling.keys():
        description += ", class folders for images that it does not list"
    if others := sorted(names - spelling.keys()):
        some = ", ".join(others[:5]) + (", …" if len(others) > 5 else "")
        description += f" (not labels: the folders {some})"
    labels = [spelling.get(folder) for folder in folders]
    return Records.of(
        replace(record, label=labels[code] if from_folder else None)
        for record, code, from_folder in zip(records, records.labels.codes, unlisted, strict=True)
    ), description


def _apply_groups(path: Path, records: Records) -> tuple[Records, list[str]]:
    """Give all images of a group the split of those that have one; report groups with two splits."""
    splits: dict[str, set[str]] = {}
    for record in records:
        if record.group and record.split:
            splits.setdefault(record.group, set()).add(record.split)
    errors = [
        f"{path}: group {group!r} is in {' and '.join(sorted(names))}; give all its images one split"
        for group, names in sorted(splits.items())
        if len(names) > 1
    ]
    return Records.of(
        replace(record, split=next(iter(splits[record.group]))) if record.group in splits else record
        for record in records
    ), errors
