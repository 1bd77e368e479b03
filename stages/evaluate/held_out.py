"""The test split, which no other stage reads."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.errors import InputError
from stages.files.packs import read_pack
from stages.files.paths import TEST
from stages.files.tables import read_table
from stages.tasks.labels import read_labels, units_of


@dataclass(frozen=True)
class HeldOut:
    """The test split.

    Attributes:
        images: uint8 (N, C, H, W), memory-mapped.
        labels: (N,) int64.
        ids: of the images.
        files: of the images; "" where they do not come from a folder.
        units: (N,), from 0 on: the group of each image; an image without a group is a unit of its own.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: list[str]
    files: list[str]
    units: np.ndarray

    @staticmethod
    def read(classes: int) -> "HeldOut":
        """Read it from disk.

        Args:
            classes: how many there are.

        Raises:
            InputError: images and table do not fit, an image has no label, or a file is damaged.
        """
        labels = read_labels(TEST / "index.csv", classes).numpy()
        if len(unlabelled := np.flatnonzero(labels < 0)):
            raise InputError(
                f"{TEST / 'index.csv'}: column label, row {unlabelled[0] + 1}, is empty; "
                "allowed: the number of a class; run `dvc repro`"
            )
        images = read_pack(TEST / "images.npy", rows=len(labels))
        table = read_table(TEST / "index.csv", "id", text=True)
        files = table["file"].fillna("").tolist() if "file" in table else [""] * len(table)
        return HeldOut(images, labels, table["id"].tolist(), files, units_of(table))

    def names(self) -> pd.DataFrame:
        """What a person finds an image by: the columns id and file."""
        return pd.DataFrame({"id": self.ids, "file": self.files})

    def table(self) -> pd.DataFrame:
        """What statistics need beside predictions: the columns id, label and unit."""
        return pd.DataFrame({"id": self.ids, "label": self.labels, "unit": self.units})
