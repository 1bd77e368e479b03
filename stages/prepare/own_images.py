"""A folder of the user's own images: split by each image's own content, twins of test images left out.

An image's split never depends on which other images there are, if none is its copy, nor on its label: so
adding images moves none, and labelling an image of the pool changes nothing that pretraining sees. Images
of the test or validation part that have no label yet wait there; they are not pretrained on.
"""

import re
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from stages.errors import InputError
from stages.prepare import layout, split
from stages.prepare.columns import Pictures, own_name
from stages.prepare.decode import Decoded, as_keys, inspect_all
from stages.prepare.near_duplicates import near_duplicates
from stages.prepare.parts import NO_LABEL, Part, Prepared
from stages.prepare.split import Images, place, together
from stages.settings.schema import Data
from stages.training.randomness import Stream

LEAST_VALIDATION = 10  # images; fewer say nothing of the features
MANY_TWINS = 0.2  # of pool and validation; more are hardly chance


def prepared(data: Data, stream: Stream) -> Prepared:
    """Read the folder, refuse or skip what is bad, split, leave out duplicates.

    Raises:
        InputError: one finding for each bad file and each bad line of the table, in one go.
    """
    path, settings = Path(data.path), data.folder
    pictures, findings, described = layout.scan(path)
    images, decoded, bad = readable(path, pictures, data)
    bad = findings.files | bad
    images = together(place(images, settings))
    images, duplicates = without_duplicates(images)
    images, twins = without_twins(images, decoded.images(), settings.twins)
    report_bad(path, bad, findings.table + too_small(path, pictures, images), settings.on_bad_image)

    left_out = [(file, f"bad file: {reason}", "") for file, reason in bad.items()] + duplicates + twins
    classes = sorted({label for label in images.pictures.labels if label}, key=natural)
    tested, labelled = images.of("test"), images.pictures.labels.given()
    waiting = [images.pictures.files[number] for number in tested[~labelled[tested]]]
    of_split = {name: images.of(name) for name in ("pool", "validation")} | {"test": tested[labelled[tested]]}
    parts = {
        name: part(images, numbers, decoded.images(), name, path, classes)
        for name, numbers in of_split.items()
    }
    check_parts(parts, classes, waiting, path)
    counts = {
        "bad_files": len(bad),
        "conflicting_labels": sum(reason == "conflicting labels" for _, reason, _ in left_out),
        "duplicates": sum(reason == "duplicate" for _, reason, _ in left_out),
        "near_duplicates_of_test": len(twins),
        "test_waiting_for_a_label": len(waiting),
    }
    said = ", ".join(f"{name.replace('_', ' ')}: {n:,}" for name, n in counts.items())
    print(f"{path}: {described}, {len(classes)} classes, {decoded.channels} channel(s); {said}", flush=True)
    limits = {"pool": data.train_limit, "test": data.test_limit}
    for name, limit in limits.items():
        rows = split.limited(len(parts[name].rows), limit, stream.at(f"{name} limit"))
        parts[name] = parts[name].limited(rows)
    known = np.unique(parts["pool"].labels)
    if absent := [name for number, name in enumerate(classes) if number not in known]:
        print(f"{path}: no image of the pool has the label {', '.join(map(repr, absent))}", flush=True)
    return Prepared(**parts, classes=classes, counts=counts, left_out=left_out)


def readable(path: Path, pictures: Pictures, data: Data) -> tuple[Images, Decoded, dict[str, str]]:
    """The pictures that can be decoded, not yet split; their pixels; why others cannot be, by file.

    `channels: auto` is 3 where a picture with colours can be decoded: one that is skipped has no say.
    """
    files = pictures.files
    seen = inspect_all(path, files)
    wrong = {files[number]: reason for number, reason in seen.wrong.items()}
    fit = np.ones(len(files), dtype=bool)
    fit[list(seen.wrong)] = False
    coloured, grey = np.flatnonzero(fit & ~seen.grey), np.flatnonzero(fit & seen.grey)
    channels = (3 if len(coloured) else 1) if data.channels == "auto" else data.channels
    decoded = Decoded(data.image_size, channels)
    undecoded = decoded.add(path, files.take(coloured), seen.digests[coloured])
    if data.channels == "auto" and (decoded.rows(seen.digests[coloured]) < 0).all():
        decoded = Decoded(data.image_size, 1)
    undecoded |= decoded.add(path, files.take(grey), seen.digests[grey])
    rows = decoded.rows(seen.digests)
    bad = np.flatnonzero(fit & (rows < 0))
    wrong |= {files[number]: undecoded[seen.digests[number].tobytes()] for number in bad}
    good = np.flatnonzero(fit & (rows >= 0))
    unsplit = np.zeros(len(files), dtype=np.int8)
    return Images(pictures, seen.digests, rows, unsplit).take(good), decoded, wrong


def too_small(path: Path, pictures: Pictures, images: Images) -> list[str]:
    """The classes that have fewer than two images left, one to learn from and one for the test."""
    left = Counter(images.pictures.labels)
    labels = sorted({label for label in pictures.labels if label}, key=natural)
    return [
        f"{path}: class {label!r} has {'one image' if left[label] else 'no image'}, without copies, near "
        "duplicates of test images and bad files; allowed: two or more"
        for label in labels
        if left[label] < 2
    ]


def report_bad(path: Path, files: dict[str, str], table: list[str], on_bad_image: str) -> None:
    """Refuse bad files, or say that they are skipped; a table that is wrong is always refused."""
    lines = [f"{path / file}: {reason}" for file, reason in files.items()]
    if table or (files and on_bad_image == "error"):
        hint = ["data.folder.on_bad_image: skip leaves bad files out"] if files else []
        raise InputError(*lines, *table, *hint)
    for line in lines:
        print(f"skipped: {line}", flush=True)


def without_duplicates(images: Images) -> tuple[Images, list[tuple[str, str, str]]]:
    """Of files with equal content the first, with the label that any has; where they differ, with none."""
    _, first, content = np.unique(as_keys(images.digests), return_index=True, return_inverse=True)
    copies = defaultdict(list)
    for number in np.flatnonzero(first[content] != np.arange(len(images))):
        copies[int(first[content[number]])].append(images.pictures[number])
    changed, left_out = {}, []
    for one, others in sorted(copies.items()):
        kept = images.pictures[one]
        labels = {picture.label for picture in (kept, *others)} - {None}
        label = labels.pop() if len(labels) == 1 else None
        changed[one] = replace(kept, label=label)
        reason = "conflicting labels" if labels else "duplicate"
        left_out += [(picture.file, reason, kept.file) for picture in others]
    pictures = Pictures.of(changed.get(number, picture) for number, picture in enumerate(images.pictures))
    return replace(images, pictures=pictures).take(np.sort(first)), left_out


def without_twins(
    images: Images, pixels: np.ndarray, threshold: float | None
) -> tuple[Images, list[tuple[str, str, str]]]:
    """Leave out pool and validation images that are nearly a test image: their pixels correlate so much.

    Args:
        pixels: of the decoded images, uint8 (N, C, H, W).
        threshold: the smallest correlation of near duplicates, at most 1; None: look for none.
    """
    if threshold is None:
        return images, []
    tested = images.of("test")
    others = np.setdiff1d(np.arange(len(images)), tested)
    found = near_duplicates(pixels, images.rows[others], images.rows[tested], threshold)
    twins = {int(others[one]): int(tested[other]) for one, other in found.items()}
    kept = np.setdiff1d(np.arange(len(images)), list(twins))
    if len(twins) > MANY_TWINS * len(others):
        print(
            f"warning: {len(twins):,} of the {len(others):,} images of pool and validation are left out "
            "as near duplicates of test images (metrics/data_left_out.csv): where they are none, raise "
            f"data.folder.twins (it is {threshold}); where many images are of one scene, say so by `group`",
            flush=True,
        )
    reason, files = "near duplicate of a test image", images.pictures.files
    return images.take(kept), [(files[one], reason, files[other]) for one, other in twins.items()]


def part(
    images: Images, numbers: np.ndarray, pixels: np.ndarray, name: str, path: Path, classes: list[str]
) -> Part:
    """The images of one split, in their order."""

    def described(some: np.ndarray) -> pd.DataFrame:
        found = images.take(numbers[some])
        return pd.DataFrame(
            {
                "id": [digest.tobytes().hex() for digest in found.digests[:, :8]],
                "split": name,
                # NOTE: the name alone: a label may move a file into another folder and must change nothing.
                "source": [own_name(file) for file in found.pictures.files],
                "file": [str(path / file) for file in found.pictures.files],
            }
        )

    number = {label: index for index, label in enumerate(classes)}
    labels = images.pictures.labels
    of_word = np.array([number.get(word or "", NO_LABEL) for word in labels.known], dtype=np.int64)
    return Part(pixels, images.rows[numbers], of_word[labels.codes[numbers]], described)


def check_parts(parts: dict[str, Part], classes: list[str], waiting: list[str], path: Path) -> None:
    """Refuse a folder that nothing could be learnt from or measured on."""
    if len(parts["validation"].rows) < LEAST_VALIDATION:
        raise InputError(
            f"{path}: {len(parts['validation'].rows)} images are held out for validation; allowed: at least "
            f"{LEAST_VALIDATION} (more images, or a larger data.folder.validation)"
        )
    if len(classes) == 1:
        raise InputError(f"{path}: there is one class, {classes[0]!r}; allowed: none, or two and more")
    if classes and not len(parts["test"].rows):
        some = ", ".join(waiting[:3])
        remedy = (
            f"label some of those that wait there, such as {some}"
            if some
            else "add images, or groups where there are few, or raise data.folder.test"
        )
        raise InputError(f"{path}: no labelled image is held out for the test; {remedy}")


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts names as people do: 2 before 10."""
    return [(int(text), "") if text.isdecimal() else (-1, text) for text in re.split(r"(\d+)", name)]
