"""Leaves out copies of images, and images of pool and validation that nearly duplicate a test image.

Copies have the same decoded pixels, or are of one colour: the bytes of their files may differ.
"""

from collections import defaultdict
from dataclasses import replace

import numpy as np

from stages.prepare.columns import Records
from stages.prepare.near_duplicates import near_duplicates, resembling
from stages.prepare.row_cache import as_keys
from stages.prepare.split import STRICTNESS, Images

CONFLICT = "conflicting labels"
LOOSE = 0.9  # correlation from which two different pictures resemble each other so much that it is said
MANY = 0.2  # fraction of pool and validation; more near duplicates than this are unlikely to be real


def remove_copies(images: Images) -> tuple[Images, list[tuple[str, str, str]]]:
    """Keep the first of several images with equal pixels.

    It gets the label of any of its copies, or no label if they differ.

    Returns:
        The remaining images; and for each file that is left out: its path, the reason, the file that is kept.
    """
    _, first, content = np.unique(as_keys(images.contents), return_index=True, return_inverse=True)
    copies = defaultdict(list)
    for copy in np.flatnonzero(first[content] != np.arange(len(images))):
        copies[int(first[content[copy]])].append(images.records[copy])
    changed, left_out = {}, []
    for index, others in sorted(copies.items()):
        original = images.records[index]
        labels = {record.label for record in (original, *others)} - {None}
        label = labels.pop() if len(labels) == 1 else None
        changed[index] = replace(original, label=label)
        reason = CONFLICT if labels else "duplicate"
        left_out += [(record.file, reason, original.file) for record in others]
    records = Records.of(changed.get(index, record) for index, record in enumerate(images.records))
    return replace(images, records=records).take(np.sort(first)), left_out


def moved_copies(before: Images, after: Images) -> list[str]:
    """A line for each stated split of which images were moved to another one, because they have copies there.

    Args:
        before: all images, with the splits that are stated or given to them.
        after: the same, with copies and groups united.
    """
    stated = before.records.splits
    lines = []
    for split in ("train", "validation"):
        is_stated = stated.codes == stated.categories.index(split) if split in stated.categories else False
        moved = np.flatnonzero(is_stated & (before.splits != after.splits))
        if not len(moved):
            continue
        index, files = int(moved[0]), before.records.files
        place = int(after.splits[index])
        equal = (before.contents == before.contents[index]).all(1) & (before.splits == place)
        example = f" (such as {files[index]} and {files[np.flatnonzero(equal)[0]]})" if equal.any() else ""
        lines.append(
            f"{len(moved):,} images of {split} have copies in {STRICTNESS[place]}{example}; they, and their "
            "groups, count there"
        )
    return lines


def describe_conflicts(left_out: list[tuple[str, str, str]]) -> list[str]:
    """A line about the copies with different labels, if there are any."""
    files = [(file, other) for file, reason, other in left_out if reason == CONFLICT]
    if not files:
        return []
    pictures = len({other for _, other in files})
    return [
        f"warning: {pictures:,} picture(s) have copies with different labels and so count as unlabelled "
        f"(such as {files[0][0]} and {files[0][1]}); metrics/data_left_out.csv names all"
    ]


def remove_near_duplicates(
    images: Images, thumbnails: np.ndarray, threshold: float | None
) -> tuple[Images, list[tuple[str, str, str]]]:
    """Leave out images of pool and validation whose pixels correlate with those of a test image.

    Args:
        images: all images, with their splits.
        thumbnails: of the pixel cache, uint8 (N, C, H, W).
        threshold: the smallest correlation of near duplicates, at most 1; None keeps all images.

    Returns:
        The remaining images; and for each file that is left out: its path, the reason, the test image.
    """
    if threshold is None:
        return images, []
    tested = images.indices_of("test")
    others = np.setdiff1d(np.arange(len(images)), tested)
    matches = near_duplicates(thumbnails, images.rows[others], images.rows[tested], threshold)
    duplicates = {int(others[one]): int(tested[other]) for one, other in matches.items()}
    remaining = np.setdiff1d(np.arange(len(images)), list(duplicates))
    if len(duplicates) > MANY * len(others):
        print(
            f"warning: {len(duplicates):,} of the {len(others):,} images of pool and validation are left out "
            "as near duplicates of test images (see metrics/data_left_out.csv); if they are different "
            f"pictures, raise data.folder.twins (now {threshold}); if many images show the same scene, name "
            "it in the column `group` of labels.csv",
            flush=True,
        )
    reason, files = "near duplicate of a test image", images.records.files
    return images.take(remaining), [(files[one], reason, files[other]) for one, other in duplicates.items()]


def describe_resemblance(images: Images, thumbnails: np.ndarray) -> tuple[int, list[str]]:
    """How many test images resemble an image of pool or validation, and a line about them if there are any.

    They stay where they are: whether they show the same thing only a person can say.

    Args:
        images: all images that remain, with their splits.
        thumbnails: of the pixel cache, uint8 (N, C, H, W).
    """
    tested = images.indices_of("test")
    others = np.setdiff1d(np.arange(len(images)), tested)
    pairs, examined = resembling(thumbnails, images.rows[tested], images.rows[others], LOOSE)
    if not pairs:
        return 0, []
    files = images.records.files
    closest = sorted(pairs.items(), key=lambda item: -item[1][1])[:3]
    examples = ", ".join(
        f"{files[tested[test]]} and {files[others[other]]}: {value:.2f}" for test, (other, value) in closest
    )
    of_all = f"{examined:,} test images" + (" (a sample)" if examined < len(tested) else "")
    return len(pairs), [
        f"note: {len(pairs):,} of {of_all} ({len(pairs) / examined:.0%}) resemble an image of pool or "
        f"validation (correlation {LOOSE} or more; {examples}); if such pictures show the same thing, the "
        "test is too easy: name their group in labels.csv, or lower data.folder.twins"
    ]
