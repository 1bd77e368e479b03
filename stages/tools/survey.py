"""What a folder of images is like, as far as the choice of parameters depends on it.

The stage `prepare` reads the folder, splits it and leaves out copies; this module counts what it returns.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from stages.prepare.columns import Record
from stages.prepare.parts import NO_LABEL, Part, Prepared
from stages.prepare.split import split_by_hash

SAMPLE = 500  # files whose header is read, evenly spaced
COLOURLESS = 4  # by so much the channels of a grey pixel differ at most, of 255; JPEG rounds


@dataclass(frozen=True)
class Headers:
    """Sizes and transparency of a sample of files, by their headers.

    Attributes:
        sides: the shorter side of each image in pixels, ascending; empty: no header can be read.
        shapes: how many widths and heights there are.
        median: width and height of the median image by its shorter side.
        ratio: the longer side over the shorter one, at the median.
        alpha: fraction of the images with transparency.
    """

    sides: tuple[int, ...]
    shapes: int
    median: tuple[int, int]
    ratio: float
    alpha: float


def read_headers(folder: Path, files: list[str]) -> Headers:
    """Read the headers of a sample; a file that is no image is passed over, because `prepare` names it."""
    sizes, transparent = [], 0
    for index in range(0, len(files), max(1, len(files) // SAMPLE)):
        try:
            with Image.open(folder / files[index]) as image:
                sizes.append(image.size)
                transparent += image.has_transparency_data
        except Exception:  # noqa: S112 (a decoder may raise anything; see the docstring)
            continue
    if not sizes:
        return Headers((), 0, (0, 0), 1.0, 0.0)
    sizes.sort(key=min)
    sides = tuple(min(size) for size in sizes)
    ratio = float(np.median([max(size) / min(size) for size in sizes]))
    return Headers(sides, len(set(sizes)), sizes[len(sizes) // 2], ratio, transparent / len(sizes))


def held_out(records: Sequence[Record], test: float) -> Callable[[float], tuple[float, float]]:
    """How many images, and how many labelled ones, a fraction for validation holds out: a function of it.

    Exact for images of a group, which are held out by its name; for others, held out by their content, it is
    the expected number. Copies and bad files are counted too.

    Args:
        records: of all images; none has the split `validation`.
        test: fraction of the images for the test, where the folder does not name its images.
    """
    test = 0.0 if any(record.split == "test" for record in records) else test
    counts: dict[tuple[str, float], np.ndarray] = {}
    for record in records:
        if record.split != "test":
            key = record.group or "", 0.0 if record.split == "train" else test
            counts.setdefault(key, np.zeros(2))[:] += 1, record.label is not None
    expected = sum((of for (group, _), of in counts.items() if not group), np.zeros(2))
    from_percent = np.zeros((101, 2))
    for (group, of_test), of in counts.items():
        if group:
            from_percent[_first_percent(group, of_test)] += of
    exact = from_percent[:100].cumsum(0)  # the last row is of groups that are never held out

    def held(fraction: float) -> tuple[float, float]:
        images, labelled = fraction * expected + exact[round(100 * fraction)]
        return float(images), float(labelled)

    return held


def _first_percent(group: str, test: float) -> int:
    """The smallest percentage for validation that holds out a group; 100: none below does."""
    key = f"group {group}".encode()
    held = partial(split_by_hash, key, test)
    return bisect_left(range(100), True, key=lambda percent: held(percent / 100) == "validation")


def is_grey(images: np.ndarray) -> bool:
    """Whether colour images (N, 3, H, W) have no colour."""
    channels = images.astype(np.int16)
    return bool(np.ptp(channels, axis=1).max(initial=0) <= COLOURLESS)


@dataclass(frozen=True)
class Survey:
    """What is in a folder.

    Attributes:
        headers: of a sample of its files.
        channels: 1 if all images are grey, else 3.
        stored_channels: 1 if all images are stored as grey, else 3.
        pool: number of images to pretrain on.
        classes: number of labels of the pool by class.
        validation_labels: number of labelled images of validation.
        test, test_units: labelled images of the test, and how many independent ones say as much.
        test_classes: number of labels of the test by class.
        counts: images that `prepare` left out or remarked upon, by reason.
    """

    headers: Headers
    channels: int
    stored_channels: int
    pool: int
    classes: dict[str, int]
    validation_labels: int
    test: int
    test_units: int
    test_classes: dict[str, int]
    counts: dict[str, int]

    @property
    def labels(self) -> int:
        """Labelled images of the pool: those that the draws choose from."""
        return sum(self.classes.values())


def survey(headers: Headers, prepared: Prepared, grey: bool) -> Survey:
    """Count what `prepare` returned.

    Args:
        grey: whether the images have no colour, however they are stored.
    """
    stored = prepared.pool.images.shape[1]
    return Survey(
        headers=headers,
        channels=1 if grey else stored,
        stored_channels=stored,
        pool=len(prepared.pool.rows),
        classes=_by_class(prepared.pool, prepared.classes),
        validation_labels=int((prepared.validation.labels != NO_LABEL).sum()),
        test=len(prepared.test.rows),
        test_units=prepared.test.units(),
        test_classes=_by_class(prepared.test, prepared.classes),
        counts=prepared.counts,
    )


def _by_class(part: Part, classes: list[str]) -> dict[str, int]:
    numbers = np.bincount(part.labels[part.labels != NO_LABEL], minlength=len(classes))
    return dict(zip(classes, numbers.tolist(), strict=True))
