"""The validation images that models are compared on, where one of them has to be chosen."""

import numpy as np

from stages.files.packs import read_pack
from stages.files.paths import IMAGES
from stages.tasks.labels import read_labels
from stages.tasks.power import ENOUGH_VALIDATION

CHOOSING = 2000  # images at most
Validation = tuple[np.ndarray, np.ndarray, np.ndarray]  # as `validation_labelled` returns it


def validation_labelled(classes: int, most: int = CHOOSING) -> Validation | None:
    """The images of validation that have a label, evenly spaced.

    Args:
        classes: how many there are.
        most: images at most.

    Returns:
        All images, uint8 (N, C, H, W), memory-mapped; the rows of those, and their labels, (n,) each. None
        where validation has too few labels to choose by, or none.

    Raises:
        InputError: images and table do not fit, or a file is damaged.
    """
    labels = read_labels(IMAGES / "validation.csv", classes).numpy()
    rows = np.flatnonzero(labels >= 0)
    if len(rows) < ENOUGH_VALIDATION:
        return None
    rows = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)]
    return read_pack(IMAGES / "validation.npy", rows=len(labels)), rows, labels[rows]
