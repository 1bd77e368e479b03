"""Prepares a folder of the user's own images.

The split of an image depends on its own content or group, not on its label or on other images (copies
excepted). So adding images moves none to another split, and labelling an image of the pool does not change
what pretraining sees. Images of the test split without a label are set aside until they have one; they are
not used for pretraining.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from stages.errors import InputError, one_line
from stages.prepare import appearance, layout
from stages.prepare.checks import check_parts, describe_classes, report_errors, small_classes
from stages.prepare.columns import Records, base_name, natural_key
from stages.prepare.decode import PixelCache, inspect_all
from stages.prepare.duplicates import (
    CONFLICT,
    describe_conflicts,
    describe_resemblance,
    moved_copies,
    remove_copies,
    remove_near_duplicates,
)
from stages.prepare.parts import NO_LABEL, Part, Pixels, Prepared
from stages.prepare.split import Images, assign_splits, subsample, unite_splits
from stages.settings.data import Data, Folder
from stages.training.randomness import Stream


def prepare(data: Data, stream: Stream) -> Prepared:
    """Read the folder, reject or skip bad files, split the images, leave out duplicates.

    Raises:
        InputError: a message for each bad file and each bad line of the table, or the folder has too few
            images or classes.
    """
    path, settings = Path(data.path), data.folder
    records, findings, description = layout.scan(path)
    say(path, findings.notes)
    images, cache, bad, lines = decode_images(path, records, data)
    say(path, lines)
    bad = findings.files | bad
    images, moved = split(images, settings)
    say(path, moved)
    images, copies = remove_copies(images)
    say(path, describe_conflicts(copies))
    images, near = remove_near_duplicates(images, cache.thumbnails(), settings.twins)
    wrong = findings.layout + small_classes(path, records, images.records)
    report_errors(path, bad, wrong, settings.on_bad_image)

    skipped = [(file, f"bad file: {reason}", "") for file, reason in bad.items()]
    left_out = skipped + findings.masks + copies + near
    classes = sorted({label for label in images.records.labels if label}, key=natural_key)
    tested, labelled = images.indices_of("test"), images.records.labels.is_known()
    unlabelled = [images.records.files[index] for index in tested[~labelled[tested]]]
    indices = {name: images.indices_of(name) for name in ("pool", "validation")}
    indices["test"] = tested[labelled[tested]]
    parts = {
        name: make_part(images, chosen, cache.images(), name, path, classes)
        for name, chosen in indices.items()
    }
    check_parts(parts, classes, unlabelled, path, records.files, moved)
    del records  # the names of all files, which `images` has as well
    resembling, lines = describe_resemblance(images, cache.thumbnails())
    reasons = Counter(reason for _, reason, _ in left_out)
    counts = {
        "bad_files": len(bad),
        "conflicting_labels": reasons[CONFLICT],
        "masks": len(findings.masks),
        "duplicates": reasons["duplicate"],
        "near_duplicates_of_test": len(near),
        "test_resembles_pool": resembling,
        "test_waiting_for_a_label": len(unlabelled),
    }
    summary = ", ".join(f"{name.replace('_', ' ')}: {n:,}" for name, n in counts.items())
    say(path, [f"{description}, {len(classes)} classes, {cache.channels} channel(s); {summary}"])
    say(path, describe_classes(classes, images.records) + lines)
    limits = {"pool": data.train_limit, "test": data.test_limit}
    for name, limit in limits.items():
        chosen = subsample(len(parts[name].rows), limit, stream.at(f"{name} limit"))
        parts[name], indices[name] = parts[name].take(chosen), indices[name][chosen]
    present = np.unique(parts["pool"].labels)
    if absent := [name for number, name in enumerate(classes) if number not in present]:
        say(path, [f"no image of the pool has the label {', '.join(map(repr, absent))}"])
    large = (
        larger(images.take(indices["pool"]), cache, path, settings.detail) if settings.detail > 1 else None
    )
    return Prepared(
        **parts, classes=classes, counts=counts, left_out=left_out, decoding=cache.decoding, large=large
    )


def larger(images: Images, cache: PixelCache, path: Path, factor: int) -> Pixels:
    """The same images, decoded again with more pixels a side by some factor.

    Raises:
        InputError: a file cannot be decoded any more.
    """
    large = PixelCache(cache.size * factor, cache.channels, cache.decoding)
    failed = large.add(path, images.records.files, images.digests)
    if failed:
        raise InputError(
            *(f"{path}: a file changed while it was read: {reason}" for reason in failed.values())
        )
    return Pixels(large.images(), large.rows(images.digests))


def split(images: Images, settings: Folder) -> tuple[Images, list[str]]:
    """Give each image its split; what to tell the user about copies in several splits."""
    assigned = assign_splits(images, settings)
    united = unite_splits(assigned)
    return united, moved_copies(assigned, united)


def say(path: Path, lines: list[str]) -> None:
    """Tell the user something about the folder; a line may begin with `warning: ` or `note: `."""
    for line in lines:
        kind, colon, rest = line.partition(": ")
        marked = kind in ("warning", "note") and colon
        print(one_line(f"{kind}: {path}: {rest}" if marked else f"{path}: {line}"), flush=True)


def decode_images(
    path: Path, records: Records, data: Data
) -> tuple[Images, PixelCache, dict[str, str], list[str]]:
    """Decode all images of a folder into the pixel cache.

    `channels: auto` means 3 if any image with colours can be decoded; a file that is skipped does not count.

    Returns:
        The images that can be decoded, all in the first split; the cache; why a file cannot be decoded, by
        its path; what to tell the user about the rule by which they are decoded.
    """
    files = records.files
    infos = inspect_all(path, files)
    errors = {files[index]: reason for index, reason in infos.errors.items()}
    decoding, undecodable, lines = appearance.choose(path, files, infos)
    decoding = decoding.model_copy(update={"fit": data.fit})
    errors |= undecodable
    readable = np.array([file not in errors for file in files], dtype=bool)
    coloured, grey = np.flatnonzero(readable & ~infos.grey), np.flatnonzero(readable & infos.grey)
    channels = (3 if len(coloured) else 1) if data.channels == "auto" else data.channels
    cache = PixelCache(data.image_size, channels, decoding)
    failed = cache.add(path, files.take(coloured), infos.digests[coloured])
    if data.channels == "auto" and (cache.rows(infos.digests[coloured]) < 0).all():
        cache = PixelCache(data.image_size, 1, decoding)
    failed |= cache.add(path, files.take(grey), infos.digests[grey])
    rows = cache.rows(infos.digests)
    bad = np.flatnonzero(readable & (rows < 0))
    errors |= {files[index]: failed[infos.digests[index].tobytes()] for index in bad}
    good = np.flatnonzero(readable & (rows >= 0))
    splits = np.zeros(len(good), dtype=np.int8)
    images = Images(records.take(good), infos.digests[good], cache.contents()[rows[good]], rows[good], splits)
    return images, cache, errors, lines


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
