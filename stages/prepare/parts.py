"""The three parts that every source is turned into, and how they are written."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.files.json_files import write_json
from stages.files.packs import write_pack
from stages.files.paths import IMAGES, LABELS, METRICS, TEST
from stages.files.tables import write_pieces, write_table
from stages.files.whole import whole_folder
from stages.images import thumbnails

NO_LABEL = -1
ROWS = 4096  # of a table that are made at the same time
SAMPLED_CLASSES, SAMPLES = 20, 10  # rows and columns of the sample sheet


@dataclass(frozen=True)
class Part:
    """Some images and what their table says.

    Attributes:
        images: uint8 (N, C, H, W), perhaps memory-mapped; rows: which of them, in order, (n,).
        labels: (n,) int64, the number of a class or `NO_LABEL`.
        described: the table of some by their numbers: id, split, source, and whatever else is known. It is
            made where it is written, a piece at a time: the strings of all would take more than all else.
    """

    images: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    described: Callable[[np.ndarray], pd.DataFrame]

    def table(self, start: int = 0, stop: int | None = None) -> pd.DataFrame:
        """One row for each image, or for some, with a column of labels, empty where there is none."""
        numbers = np.arange(len(self.rows))[start:stop]
        names = [str(label) if label != NO_LABEL else "" for label in self.labels[numbers]]
        return self.described(numbers).assign(label=names)

    def pieces(self, *columns: str) -> Iterator[pd.DataFrame]:
        """The table in pieces of ROWS, with those of the columns that it has; at least one piece."""
        for start in range(0, max(1, len(self.rows)), ROWS):
            table = self.table(start, start + ROWS)
            yield table[[name for name in columns if name in table]]

    def limited(self, numbers: np.ndarray) -> "Part":
        """Some of it, by their numbers."""
        return Part(
            self.images, self.rows[numbers], self.labels[numbers], lambda some: self.described(numbers[some])
        )


@dataclass(frozen=True)
class Prepared:
    """What a source was turned into.

    Attributes:
        classes: their names, in the order of their numbers.
        counts: of what was found beside them; left_out: the files behind that, with `file,reason,other`.
    """

    pool: Part
    validation: Part
    test: Part
    classes: list[str]
    counts: dict[str, int] = field(default_factory=dict)
    left_out: list[tuple[str, str, str]] = field(default_factory=list)

    def write(self, made_from: dict[str, Any]) -> None:
        """Images, labels and test split take their places together, after the last byte is written.

        made_from: what stands beside the counts, for the report.
        """
        with (
            whole_folder(IMAGES) as images_folder,
            whole_folder(LABELS) as labels_folder,
            whole_folder(TEST) as test_folder,
        ):
            shown = ["id", "split", "source"]
            write_pack(images_folder / "pool.npy", self.pool.images, self.pool.rows)
            write_pieces(images_folder / "pool.csv", self.pool.pieces(*shown))
            write_pack(images_folder / "validation.npy", self.validation.images, self.validation.rows)
            write_pieces(images_folder / "validation.csv", self.validation.pieces(*shown, "label"))
            write_pieces(labels_folder / "pool.csv", self.pool.pieces("id", "label", "file"))
            write_json(labels_folder / "classes.json", self.classes)
            write_pack(test_folder / "images.npy", self.test.images, self.test.rows)
            write_pieces(test_folder / "index.csv", self.test.pieces(*shown, "label"))
            self._write_card(METRICS, made_from)

    def _write_card(self, folder: Path, made_from: dict[str, Any]) -> None:
        """What people want to know of the data: counts, what was left out, the classes, some images."""
        counts: dict[str, Any] = {"classes": len(self.classes), **self.counts}
        for name, part in (("pool", self.pool), ("validation", self.validation), ("test", self.test)):
            counts |= {name: len(part.rows), f"{name}_labelled": int((part.labels != NO_LABEL).sum())}
        write_json(folder / "data.json", counts)
        write_json(folder / "prepare.json", {"made_from": made_from})
        columns = ["file", "reason", "other"]
        write_table(folder / "data_left_out.csv", pd.DataFrame(sorted(self.left_out), columns=columns))
        write_table(folder / "data_classes.csv", self._classes())
        thumbnails.write(folder / "data_samples.png", thumbnails.sheet(self._samples(), SAMPLES))

    def _classes(self) -> pd.DataFrame:
        """How many labelled images of each class each part has."""
        table = pd.DataFrame({"class": pd.Series(self.classes, dtype=str)})
        for name, part in (("pool", self.pool), ("validation", self.validation), ("test", self.test)):
            found = part.labels[part.labels != NO_LABEL]
            table[name] = np.bincount(found, minlength=len(self.classes)).astype(int)
        return table

    def _samples(self) -> np.ndarray:
        """Some of the pool, uint8 (n, C, H, W): a row of each class, where all fit; else evenly spaced."""
        labels, chosen = self.pool.labels, np.arange(len(self.pool.rows))
        of_classes = [np.flatnonzero(labels == c)[:SAMPLES] for c in range(len(self.classes))]
        if 0 < len(of_classes) <= SAMPLED_CLASSES and min(map(len, of_classes)) == SAMPLES:
            chosen = np.concatenate(of_classes)
        else:
            every = max(1, len(chosen) // (SAMPLES * SAMPLES))
            chosen = chosen[::every][: SAMPLES * SAMPLES]
        return np.asarray(self.pool.images[self.pool.rows[chosen]])
