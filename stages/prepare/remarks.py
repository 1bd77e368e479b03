"""What a user should know about a folder, besides what is wrong with it."""

from collections.abc import Mapping
from pathlib import Path

from stages.images.listing import Listing
from stages.prepare.columns import Records
from stages.prepare.named_classes import classes_in_names
from stages.prepare.split_names import LAYOUTS

SHOWN = 5  # names in a list


def remarks(records: Records, listing: Listing, masks: Mapping[str, str]) -> list[str]:
    """Files that are not used, folders that do not count, and names that may be labels."""
    lines = []
    if passed := listing.passed_over():
        lines.append(passed)
        if without := sorted(listing.passed_folders - _folders(listing.files)):
            lines.append(f"warning: no image can be read in {_some(without)}")
    if masks:
        mask, picture = next(iter(masks.items()))
        lines.append(f"{len(masks):,} masks are left out (such as {mask}, of {picture})")
    if nested := _nested(records):
        lines.append(f"folders inside class folders are no classes of their own: {_some(nested)}")
    if not records.labels.is_known().any() and (names := classes_in_names(records.files)):
        lines.append(
            f"note: no image has a label, but the file names begin with {_some(names)}; if these are "
            "classes, make them folders, or write labels.csv"
        )
    return lines


def unknown_layout(folder: Path, records: Records) -> list[str]:
    """An error where images are in splits without classes, and their names look like classes."""
    if records.labels.is_known().any():
        return []
    train = [record.file for record in records if record.split == "train"]
    if not (names := classes_in_names(train)):
        return []
    return [
        f"{folder}: the images in train are in no class folder; their names begin with {_some(names)}, as "
        f"{train[0]} does: make these folders, or write labels.csv; {LAYOUTS}"
    ]


def _folders(files: list[str]) -> set[str]:
    """All folders that have some files, directly or in subfolders."""
    folders: set[str] = set()
    for file in files:
        while (file := file.rpartition("/")[0]) and file not in folders:
            folders.add(file)
    return folders


def _nested(records: Records) -> list[str]:
    """Folders inside class folders."""
    known = records.labels.is_known()
    nested: set[str] = set()
    for index, file in enumerate(records.files):
        if known[index] and file.count("/") > 1:
            parents = file.split("/")[:-1]
            if (label := records.labels[index]) in parents[:-1]:
                depth = parents.index(label) + 2
                nested.add("/".join(parents[:depth]))
    return sorted(nested)


def _some(names: list[str]) -> str:
    """The first names of a list, and whether there are more."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")
