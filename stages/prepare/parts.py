"""The three parts of the prepared data (pool, validation, test), and how they are written."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from stages.files.digests import write_digests
from stages.files.json_files import write_json
from stages.files.packs import write_pack
from stages.files.paths import (
    DATA,
    DATA_CLASSES,
    DECODING,
    IMAGES,
    LABELS,
    LARGE_POOL,
    METRICS,
    PREPARED,
    TEST,
)
from stages.files.records import write_record
from stages.files.tables import write_pieces, write_table
from stages.files.whole import whole_folder
from stages.images import thumbnails
from stages.networks.pixel_rule import Decoding
from stages.tasks import power
from stages.tasks.labels import units_of
from stages.tasks.scores import effective

NO_LABEL = -1
ROWS = 4096  # of a table in memory at the same time
SAMPLED_CLASSES, SAMPLES = 20, 10  # at most so many rows of the sample sheet, and its columns


@dataclass(frozen=True)
class Pixels:
    """Some rows of a pack.

    Attributes:
        images: uint8 (N, C, H, W), may be memory-mapped.
        rows: which of these images, in order, (n,).
    """

    images: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class Part:
    """The images and the table of one split.

    Attributes:
        images: uint8 (N, C, H, W), may be memory-mapped.
        rows: which of these images belong to the part, in order, (n,).
        labels: class numbers or `NO_LABEL`, int64 (n,).
        describe: returns the table for some indices into `rows`, with the columns id, split, source and
            optionally file and group. It is called for a piece at a time when the table is written, because
            all its strings would take more memory than the rest.
    """

    images: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    describe: Callable[[np.ndarray], pd.DataFrame]

    def table(self, start: int = 0, stop: int | None = None) -> pd.DataFrame:
        """One row for each image from `start` to `stop`; the column `label` is empty for `NO_LABEL`."""
        indices = np.arange(len(self.rows))[start:stop]
        labels = [str(label) if label != NO_LABEL else "" for label in self.labels[indices]]
        return self.describe(indices).assign(label=labels)

    def pieces(self, *columns: str) -> Iterator[pd.DataFrame]:
        """The table in pieces of ROWS, at least one. Columns that it does not have are left out."""
        for start in range(0, max(1, len(self.rows)), ROWS):
            table = self.table(start, start + ROWS)
            yield table[[name for name in columns if name in table]]

    def units(self) -> int:
        """How many independent images say as much as these: fewer than there are where some have groups."""
        return effective(units_of(pd.concat(list(self.pieces("id", "group")), ignore_index=True)))

    def take(self, indices: np.ndarray) -> "Part":
        """A subset, by indices into `rows`."""
        return Part(
            self.images, self.rows[indices], self.labels[indices], lambda some: self.describe(indices[some])
        )


@dataclass(frozen=True)
class Prepared:
    """The prepared data of a source.

    Attributes:
        pool, validation, test: its parts.
        classes: the class names, in the order of the class numbers.
        counts: the numbers of bad files, duplicates and so on.
        left_out: the path of each image that was left out, the reason, and the image that it duplicates.
        large: the pool's images with more pixels, for views; None: views are made of the pool itself.
        decoding: the rule by which image files became pixels; None: they were no image files of the user's.
    """

    pool: Part
    validation: Part
    test: Part
    classes: list[str]
    counts: dict[str, int] = field(default_factory=dict)
    left_out: list[tuple[str, str, str]] = field(default_factory=list)
    large: Pixels | None = None
    decoding: Decoding | None = None

    def write(self, made_from: dict[str, Any]) -> None:
        """Write images, labels and test split; replace the old ones only after all are complete.

        Args:
            made_from: the provenance, for the report.
        """
        with (
            whole_folder(IMAGES) as images_folder,
            whole_folder(LABELS) as labels_folder,
            whole_folder(TEST) as test_folder,
        ):
            columns = ["id", "split", "source"]
            write_pack(images_folder / "pool.npy", self.pool.images, self.pool.rows)
            write_pieces(images_folder / "pool.csv", self.pool.pieces(*columns, "group"))
            write_pack(images_folder / "validation.npy", self.validation.images, self.validation.rows)
            write_pieces(images_folder / "validation.csv", self.validation.pieces(*columns, "label", "group"))
            write_pieces(labels_folder / "pool.csv", self.pool.pieces("id", "label", "file"))
            if self.large is not None:
                write_pack(images_folder / LARGE_POOL.name, self.large.images, self.large.rows)
            if self.decoding is not None:
                write_json(images_folder / DECODING, self.decoding.model_dump())
            write_json(labels_folder / "classes.json", self.classes)
            write_pack(test_folder / "images.npy", self.test.images, self.test.rows)
            write_pieces(test_folder / "index.csv", self.test.pieces(*columns, "label", "group", "file"))
            for folder, final in ((images_folder, IMAGES), (labels_folder, LABELS), (test_folder, TEST)):
                write_digests(folder, final)
            self._write_summary(made_from)

    def _write_summary(self, made_from: dict[str, Any]) -> None:
        """Write what the report shows about the data: counts, images left out, classes, sample images."""
        counts: dict[str, Any] = {"classes": len(self.classes), **self.counts}
        for name, part in (("pool", self.pool), ("validation", self.validation), ("test", self.test)):
            counts |= {name: len(part.rows), f"{name}_labelled": int((part.labels != NO_LABEL).sum())}
        counts["test_units"] = self.test.units()
        counts["smallest_gain"] = {
            f"labels_per_class_{labels}": round(power.smallest_gain(counts["test_units"], labels), 4)
            for labels in power.DISAGREEMENT
        }
        left_out, samples = METRICS / "data_left_out.csv", METRICS / "data_samples.png"
        write_json(DATA, counts)
        columns = ["file", "reason", "other"]
        write_table(left_out, pd.DataFrame(sorted(self.left_out), columns=columns))
        write_table(DATA_CLASSES, self._class_counts())
        thumbnails.write(samples, thumbnails.sheet(self._samples(), SAMPLES))
        write_record(PREPARED, {"made_from": made_from}, DATA, DATA_CLASSES, left_out, samples)

    def _class_counts(self) -> pd.DataFrame:
        """The number of labelled images of each class in each part."""
        table = pd.DataFrame({"class": pd.Series(self.classes, dtype=str)})
        for name, part in (("pool", self.pool), ("validation", self.validation), ("test", self.test)):
            labels = part.labels[part.labels != NO_LABEL]
            table[name] = np.bincount(labels, minlength=len(self.classes)).astype(int)
        return table

    def _samples(self) -> np.ndarray:
        """Sample images of the pool, uint8 (n, C, H, W).

        One row for each class if there are few classes and each fills its row, else evenly spaced images.
        """
        labels, chosen = self.pool.labels, np.arange(len(self.pool.rows))
        by_class = [np.flatnonzero(labels == c)[:SAMPLES] for c in range(len(self.classes))]
        if 0 < len(by_class) <= SAMPLED_CLASSES and min(map(len, by_class)) == SAMPLES:
            chosen = np.concatenate(by_class)
        else:
            spacing = max(1, len(chosen) // (SAMPLES * SAMPLES))
            chosen = chosen[::spacing][: SAMPLES * SAMPLES]
        return np.asarray(self.pool.images[self.pool.rows[chosen]])
