"""Reads labels, splits and groups from the layout of a folder of images. It decodes no image.

- **Class folders**: each subfolder is a class; images in `unlabeled` have no label. Class folders may also
  be inside folders that are splits by their names (`split_names.py`): `train` alone, or with `val`, `test` or
  both. Folders inside class folders are no classes.
- **A table** `labels.csv` with the column `file` and any of `label`, `split` (train, validation, test) and
  `group`. If the table has labels, an image that it does not list takes the name of its folder as label,
  provided that this name is one of the table's labels. All other images, and those with an empty field,
  have no label.
- **Images only**: no image has a label.

Masks beside pictures are left out. All errors are collected, so that they can be reported at once.
"""

import unicodedata
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from stages.errors import InputError
from stages.images.listing import SUFFIXES, list_images
from stages.prepare import labels_table
from stages.prepare.causes import summarised
from stages.prepare.columns import Record, Records
from stages.prepare.label_cells import UNLABELLED, is_unlabelled
from stages.prepare.labels_table import TABLE, Row, Table
from stages.prepare.masks import find_masks
from stages.prepare.remarks import remarks, unknown_layout
from stages.prepare.split_names import LAYOUTS, SPLITS, doubtful, folder_split


@dataclass(frozen=True)
class Findings:
    """What is wrong with a folder, or should be known about it.

    Attributes:
        files: why a file cannot be read, by its path; such files can be skipped.
        layout: messages about the folders and the table; these must be corrected.
        notes: what else to tell the user.
        masks: the path of each mask, why it is left out, its picture.
    """

    files: dict[str, str]
    layout: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    masks: list[tuple[str, str, str]] = field(default_factory=list)


def scan(folder: Path) -> tuple[Records, Findings, str]:
    """The images of a folder, what was found about it, and a description of its layout.

    Raises:
        InputError: the folder does not exist, it has no image, or its table has no column `file`.
    """
    if not folder.is_dir():
        raise InputError(f"params.yaml: data.path is {str(folder)!r}; allowed: a folder of images")
    path, table_errors = labels_table.find(folder)
    listing = list_images(folder, (path.name,) if path else ())
    if not listing.files and not listing.broken:
        passed = f"; {listing.passed_over()}" if listing.passed else ""
        raise InputError(
            f"{folder}: contains no image files (names that end in {', '.join(sorted(SUFFIXES))}){passed}"
        )
    masks = find_masks(listing.files)
    files = [file for file in listing.files if file not in masks] if masks else listing.files
    records, errors, description = _from_folders(folder, files)
    errors += table_errors
    if path is not None:
        table = labels_table.read(path, records.files)
        records, table_description = _apply_table(records, table)
        errors += table.errors
        description = table_description or f"{description}, and {TABLE}"
    records, notes = _test_split(records)
    if path is not None:
        records, group_errors = _apply_groups(path, records)
        errors += group_errors
    findings = Findings(
        listing.broken,
        errors + unknown_layout(folder, records),
        notes + remarks(records, listing, masks),
        [(mask, "mask of a picture", picture) for mask, picture in masks.items()],
    )
    return records, findings, description


def _from_folders(folder: Path, files: list[str]) -> tuple[Records, list[str], str]:
    """Labels and splits from the names of the folders; errors; a description of the layout."""
    tops = {file.partition("/")[0] for file in files if "/" in file}
    splits = {top: split for top in sorted(tops) if (split := folder_split(top))}
    others = sorted(top for top in tops - splits.keys() if not is_unlabelled(top))
    by_split = "train" in splits.values() and (len(set(splits.values())) > 1 or not others)
    errors = []
    if doubt := doubtful(top for top in tops if not is_unlabelled(top)):
        errors.append(f"{folder}: {doubt}; {LAYOUTS}")
    elif by_split and others:
        errors.append(
            f"{folder}: has the folders {', '.join(others)} beside {', '.join(splits)}; put class folders "
            f"into these splits, and images without a label into {UNLABELLED[0]}"
        )

    def record(file: str) -> Record:
        *parents, _ = unicodedata.normalize("NFC", file).split("/")
        split = splits.get(parents.pop(0)) if by_split and parents else None
        labelled = bool(parents) and not is_unlabelled(parents[0]) and (split is not None or not by_split)
        return Record(file, parents[0] if labelled else None, split)

    records = Records.of(map(record, files))
    if not by_split and (inner := _splits_in_classes(files)):
        errors.append(
            f"{folder}: {inner} has splits inside class folders; put the splits above them; {LAYOUTS}"
        )
    if not records.labels.is_known().any():
        return records, errors, "images only" + (f" in {', '.join(splits)}" if by_split else "")
    return records, errors, "class folders" + (f" in {', '.join(splits)}" if by_split else "")


def _splits_in_classes(files: list[str]) -> str | None:
    """A class folder with folders inside that are train and another split; None if there is none."""
    inside: dict[str, set[str | None]] = {}
    for file in files:
        if file.count("/") > 1:
            top, second, _ = file.split("/", 2)
            inside.setdefault(top, set()).add(folder_split(second))
    return next(
        (top for top, splits in inside.items() if "train" in splits and len(splits - {None}) > 1), None
    )


def _apply_table(records: Records, table: Table) -> tuple[Records, str | None]:
    """The records updated from the table; a description of the layout if the table has labels."""
    description = None
    if table.labels:
        records, description = _match_folder_labels(records, table)

    def update(record: Record, row: Row | None) -> Record:
        if row is None:
            return record
        split = SPLITS.get(row.split.casefold(), record.split)
        label = None if is_unlabelled(row.label) else row.label or record.label
        return Record(record.file, label, split, row.group or None)

    return Records.of(map(update, records, table.rows)), description


def _match_folder_labels(records: Records, table: Table) -> tuple[Records, str]:
    """Keep a label from a folder only if it is a label of the table too; describe the layout.

    So a new table beside class folders does not remove their labels, and `2024/` does not become a class.
    """
    # Work on the codes: there are few labels and many records.
    folders = [unicodedata.normalize("NFC", label or "") for label in records.labels.categories]
    unlisted = np.array([row is None for row in table.rows], dtype=bool)
    names = {folders[code] for code in np.unique(records.labels.codes[unlisted])} - {""}
    known = table.labels
    description = f"{TABLE} with labels"
    if names & known:
        description += ", class folders for images that it does not list"
    if others := sorted(names - known):
        some = ", ".join(others[:5]) + (", …" if len(others) > 5 else "")
        description += f" (not labels: the folders {some})"
    labels = [folder if folder in known else None for folder in folders]
    return Records.of(
        replace(record, label=labels[code] if from_folder else None)
        for record, code, from_folder in zip(records, records.labels.codes, unlisted, strict=True)
    ), description


def _test_split(records: Records) -> tuple[Records, list[str]]:
    """Make validation the test where images are in train and validation only, as ImageNet's are.

    Without it no labelled image would be left for the test. Validation is then held out of train.
    """
    stated, labelled = set(records.splits), records.labels.is_known()
    if "test" in stated or "train" not in stated or "validation" not in stated:
        return records, []
    validation = records.splits.codes == records.splits.categories.index("validation")
    complete = not (labelled & ~records.splits.is_known()).any()
    if not complete or not (labelled & validation).any():
        return records, []
    note = (
        "there is no test split: the images of validation are the test, and validation is held out of train"
    )
    return Records.of(
        replace(record, split="test") if record.split == "validation" else record for record in records
    ), [note]


def _apply_groups(path: Path, records: Records) -> tuple[Records, list[str]]:
    """Give all images of a group the split of those that have one; report groups with two splits."""
    splits: dict[str, set[str]] = {}
    for record in records:
        if record.group and record.split:
            splits.setdefault(record.group, set()).add(record.split)
    errors = summarised(
        (
            "a group is in several splits",
            f"{path}: group {group!r} is in {' and '.join(sorted(names))}; give all its images one split",
        )
        for group, names in sorted(splits.items())
        if len(names) > 1
    )
    return Records.of(
        replace(record, split=next(iter(splits[record.group]))) if record.group in splits else record
        for record in records
    ), errors
