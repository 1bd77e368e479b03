"""Prepares a folder of the user's own images.

The split of an image depends on its own content or group, not on its label or on other images (copies
excepted). So adding images moves none to another split, and labelling an image of the pool does not change
what pretraining sees. Images of the test split without a label are set aside until they have one; they are
not used for pretraining.
"""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from stages.errors import InputError
from stages.prepare import layout
from stages.prepare.columns import Records, base_name
from stages.prepare.decode import PixelCache, inspect_all
from stages.prepare.duplicates import remove_copies, remove_near_duplicates
from stages.prepare.parts import NO_LABEL, Part, Prepared
from stages.prepare.split import Images, assign_splits, subsample, unite_splits
from stages.settings.schema import Data
from stages.training.randomness import Stream

MIN_VALIDATION = 10  # images; with fewer, a kNN accuracy on them means nothing


def prepare(data: Data, stream: Stream) -> Prepared:
    """Read the folder, reject or skip bad files, split the images, leave out duplicates.

    Raises:
        InputError: a message for each bad file and each bad line of the table, or the folder has too few
            images or classes.
    """
    path, settings = Path(data.path), data.folder
    records, errors, description = layout.scan(path)
    images, cache, bad = decode_images(path, records, data)
    bad = errors.files | bad
    images = unite_splits(assign_splits(images, settings))
    images, copies = remove_copies(images)
    images, near = remove_near_duplicates(images, cache.images(), settings.twins)
    report_errors(path, bad, errors.layout + small_classes(path, records, images), settings.on_bad_image)

    left_out = [(file, f"bad file: {reason}", "") for file, reason in bad.items()] + copies + near
    classes = sorted({label for label in images.records.labels if label}, key=natural_key)
    tested, labelled = images.indices_of("test"), images.records.labels.is_known()
    unlabelled = [images.records.files[index] for index in tested[~labelled[tested]]]
    indices = {name: images.indices_of(name) for name in ("pool", "validation")}
    indices["test"] = tested[labelled[tested]]
    parts = {
        name: make_part(images, chosen, cache.images(), name, path, classes)
        for name, chosen in indices.items()
    }
    check_parts(parts, classes, unlabelled, path)
    counts = {
        "bad_files": len(bad),
        "conflicting_labels": sum(reason == "conflicting labels" for _, reason, _ in left_out),
        "duplicates": sum(reason == "duplicate" for _, reason, _ in left_out),
        "near_duplicates_of_test": len(near),
        "test_waiting_for_a_label": len(unlabelled),
    }
    summary = ", ".join(f"{name.replace('_', ' ')}: {n:,}" for name, n in counts.items())
    print(
        f"{path}: {description}, {len(classes)} classes, {cache.channels} channel(s); {summary}", flush=True
    )
    limits = {"pool": data.train_limit, "test": data.test_limit}
    for name, limit in limits.items():
        chosen = subsample(len(parts[name].rows), limit, stream.at(f"{name} limit"))
        parts[name] = parts[name].take(chosen)
    present = np.unique(parts["pool"].labels)
    if absent := [name for number, name in enumerate(classes) if number not in present]:
        print(f"{path}: no image of the pool has the label {', '.join(map(repr, absent))}", flush=True)
    return Prepared(**parts, classes=classes, counts=counts, left_out=left_out)


def decode_images(path: Path, records: Records, data: Data) -> tuple[Images, PixelCache, dict[str, str]]:
    """Decode all images of a folder into the pixel cache.

    `channels: auto` means 3 if any image with colours can be decoded; a file that is skipped does not count.

    Returns:
        The images that can be decoded, all in the first split; the cache; why a file cannot be decoded, by
        its path.
    """
    files = records.files
    infos = inspect_all(path, files)
    errors = {files[index]: reason for index, reason in infos.errors.items()}
    readable = np.ones(len(files), dtype=bool)
    readable[list(infos.errors)] = False
    coloured, grey = np.flatnonzero(readable & ~infos.grey), np.flatnonzero(readable & infos.grey)
    channels = (3 if len(coloured) else 1) if data.channels == "auto" else data.channels
    cache = PixelCache(data.image_size, channels)
    failed = cache.add(path, files.take(coloured), infos.digests[coloured])
    if data.channels == "auto" and (cache.rows(infos.digests[coloured]) < 0).all():
        cache = PixelCache(data.image_size, 1)
    failed |= cache.add(path, files.take(grey), infos.digests[grey])
    rows = cache.rows(infos.digests)
    bad = np.flatnonzero(readable & (rows < 0))
    errors |= {files[index]: failed[infos.digests[index].tobytes()] for index in bad}
    good = np.flatnonzero(readable & (rows >= 0))
    splits = np.zeros(len(files), dtype=np.int8)
    return Images(records, infos.digests, rows, splits).take(good), cache, errors


def small_classes(path: Path, records: Records, images: Images) -> list[str]:
    """A message for each class that has fewer than two images left: one to train on and one to test on."""
    counts = Counter(images.records.labels)
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
    messages = [f"{path / file}: {reason}" for file, reason in files.items()]
    if layout or (files and on_bad_image == "error"):
        hint = ["set data.folder.on_bad_image to skip to leave out bad files"] if files else []
        raise InputError(*messages, *layout, *hint)
    for message in messages:
        print(f"skipped: {message}", flush=True)


def make_part(
    images: Images, indices: np.ndarray, pixels: np.ndarray, name: str, path: Path, classes: list[str]
) -> Part:
    """The part of one split, from the indices of its images."""

    def describe(some: np.ndarray) -> pd.DataFrame:
        chosen = images.take(indices[some])
        grouped = {"group": [group or "" for group in chosen.records.groups]} if any_group else {}
        return pd.DataFrame(
            grouped
            | {
                "id": [digest.tobytes().hex() for digest in chosen.digests[:, :8]],
                "split": name,
                # NOTE: without the folder, because labelling an image may move it to another one.
                "source": [base_name(file) for file in chosen.records.files],
                "file": [str(path / file) for file in chosen.records.files],
            }
        )

    any_group = bool(images.records.groups.is_known().any())
    number = {label: index for index, label in enumerate(classes)}
    labels = images.records.labels
    numbers = np.array([number.get(label or "", NO_LABEL) for label in labels.categories], dtype=np.int64)
    return Part(pixels, images.rows[indices], numbers[labels.codes[indices]], describe)


def check_parts(parts: dict[str, Part], classes: list[str], unlabelled: list[str], path: Path) -> None:
    """Check that there are enough images and classes to train and to test.

    Args:
        parts: pool, validation and test.
        classes: the class names.
        unlabelled: files of the test split that have no label.
        path: the folder.

    Raises:
        InputError: there are too few.
    """
    if (count := len(parts["validation"].rows)) < MIN_VALIDATION:
        raise InputError(
            f"{path}: {count} images are held out for validation; allowed: at least {MIN_VALIDATION} "
            "(add images, or raise data.folder.validation)"
        )
    if len(classes) == 1:
        raise InputError(f"{path}: there is only one class, {classes[0]!r}; allowed: none, or two or more")
    if classes and not len(parts["test"].rows):
        if unlabelled:
            remedy = f"label some images of the test split, such as {', '.join(unlabelled[:3])}"
        else:
            remedy = "add images (or groups, if there are few), or raise data.folder.test"
        raise InputError(f"{path}: no labelled image is held out for the test; {remedy}")


def natural_key(name: str) -> list[tuple[int, str]]:
    """A sort key for natural order: 2 before 10."""
    return [(int(text), "") if text.isdecimal() else (-1, text) for text in re.split(r"(\d+)", name)]
