"""Leaves out copies of images, and images of pool and validation that nearly duplicate a test image."""

from collections import defaultdict
from dataclasses import replace

import numpy as np

from stages.prepare.columns import Records
from stages.prepare.decode import as_keys
from stages.prepare.near_duplicates import near_duplicates
from stages.prepare.split import Images

MANY = 0.2  # fraction of pool and validation; more near duplicates than this are unlikely to be real


def remove_copies(images: Images) -> tuple[Images, list[tuple[str, str, str]]]:
    """Keep the first of several files with equal content.

    It gets the label of any of its copies, or no label if they differ.

    Returns:
        The remaining images; and for each file that is left out: its path, the reason, the file that is kept.
    """
    _, first, content = np.unique(as_keys(images.digests), return_index=True, return_inverse=True)
    copies = defaultdict(list)
    for copy in np.flatnonzero(first[content] != np.arange(len(images))):
        copies[int(first[content[copy]])].append(images.records[copy])
    changed, left_out = {}, []
    for index, others in sorted(copies.items()):
        original = images.records[index]
        labels = {record.label for record in (original, *others)} - {None}
        label = labels.pop() if len(labels) == 1 else None
        changed[index] = replace(original, label=label)
        reason = "conflicting labels" if labels else "duplicate"
        left_out += [(record.file, reason, original.file) for record in others]
    records = Records.of(changed.get(index, record) for index, record in enumerate(images.records))
    return replace(images, records=records).take(np.sort(first)), left_out


def remove_near_duplicates(
    images: Images, pixels: np.ndarray, threshold: float | None
) -> tuple[Images, list[tuple[str, str, str]]]:
    """Leave out images of pool and validation whose pixels correlate with those of a test image.

    Args:
        images: all images, with their splits.
        pixels: of the pixel cache, uint8 (N, C, H, W).
        threshold: the smallest correlation of near duplicates, at most 1; None keeps all images.

    Returns:
        The remaining images; and for each file that is left out: its path, the reason, the test image.
    """
    if threshold is None:
        return images, []
    tested = images.indices_of("test")
    others = np.setdiff1d(np.arange(len(images)), tested)
    matches = near_duplicates(pixels, images.rows[others], images.rows[tested], threshold)
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
