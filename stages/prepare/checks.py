"""Checks that a folder has what a training needs, and tells the user what is wrong with it."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.errors import InputError, one_line
from stages.prepare.causes import summarised
from stages.prepare.columns import Records, natural_key
from stages.prepare.parts import Part

MOST_CLASSES = 1_000  # the confusion of each pair of them is measured and written
MIN_VALIDATION = 10  # images; with fewer, a kNN accuracy on them means nothing
SHOWN_CLASSES = 30


def small_classes(path: Path, records: Records, remaining: Records) -> list[str]:
    """A message for each class that has fewer than two images left: one to train on and one to test on."""
    counts = Counter(remaining.labels)
    labels = sorted({label for label in records.labels if label}, key=natural_key)
    return [
        f"{path}: class {label!r} has {'one image' if counts[label] else 'no image'} (not counting copies, "
        "near duplicates of test images and bad files); allowed: two or more"
        for label in labels
        if counts[label] < 2
    ]


def report_errors(path: Path, files: dict[str, str], layout: list[str], on_bad_image: str) -> None:
    """Print the bad files that are skipped.

    Raises:
        InputError: there are errors in the layout, or bad files that may not be skipped.
    """
    # A truncated JPEG's reason counts its bytes; the cause is the same.
    causes = {file: re.sub(r"\d[\d,.]*", "…", reason) for file, reason in files.items()}
    messages = summarised((causes[file], f"{path / file}: {reason}") for file, reason in files.items())
    if layout or (files and on_bad_image == "error"):
        hint = ["set data.folder.on_bad_image to skip to leave out bad files"] if files else []
        raise InputError(*messages, *layout, *hint)
    for message in messages:
        print(one_line(f"skipped: {message}"), flush=True)


def check_parts(
    parts: dict[str, Part],
    classes: list[str],
    unlabelled: list[str],
    path: Path,
    files: Sequence[str],
    moved: list[str],
) -> None:
    """Check that there are enough images and classes to train and to test.

    Args:
        parts: pool, validation and test.
        classes: the class names.
        unlabelled: files of the test split that have no label.
        path: the folder.
        files: all images.
        moved: what is known about copies in several splits.

    Raises:
        InputError: there are too few.
    """
    if len(classes) > MOST_CLASSES:
        raise InputError(
            f"{path}: there are {len(classes):,} classes, such as {', '.join(map(repr, classes[:3]))}; "
            f"allowed: up to {MOST_CLASSES:,}"
        )
    if len(classes) == 1:
        deep = next((file for file in files if file.count("/") > 1), None)
        hint = f"; if the classes are deeper, as {deep} is, set data.path to their folder" if deep else ""
        raise InputError(
            f"{path}: there is only one class, {classes[0]!r}; allowed: none, or two or more{hint}"
        )
    if not len(parts["pool"].rows):
        raise InputError(
            f"{path}: no image is left for the pool, on which models are trained: all are in validation or "
            "test; add images, or give fewer to these splits" + "".join(f"; {line}" for line in moved)
        )
    if (count := len(parts["validation"].rows)) < MIN_VALIDATION:
        raise InputError(
            f"{path}: {count} images are held out for validation; allowed: at least {MIN_VALIDATION} "
            "(add images, or raise data.folder.validation)" + "".join(f"; {line}" for line in moved)
        )
    if classes and not len(parts["test"].rows):
        if unlabelled:
            remedy = (
                f"label some images of the test split, such as {', '.join(unlabelled[:3])}, or move its "
                "images to a folder unlabeled: then the test is cut from the labelled images"
            )
        else:
            remedy = "add images (or groups, if there are few), or raise data.folder.test"
        raise InputError(f"{path}: no labelled image is held out for the test; {remedy}")


def describe_classes(classes: list[str], records: Records) -> list[str]:
    """The names of the classes with their numbers of images, and names that are easily confused."""
    if not classes:
        return ["no image has a label; there will be pretraining and no classifier"]
    counts = np.bincount(records.labels.codes, minlength=len(records.labels.categories))
    number = dict(zip(records.labels.categories, counts.tolist(), strict=True))
    shown = ", ".join(f"{name!r} {number[name]:,}" for name in classes[:SHOWN_CLASSES])
    more = f", and {len(classes) - SHOWN_CLASSES:,} more" if len(classes) > SHOWN_CLASSES else ""
    lines = [f"classes: {shown}{more}"]
    spellings: dict[str, list[str]] = {}
    for name in classes:
        spellings.setdefault(repr(natural_key(" ".join(name.casefold().split()))[0]), []).append(name)
    for names in spellings.values():
        if len(names) > 1:
            lines.append(f"note: {', '.join(map(repr, names))} are different classes")
    return lines
