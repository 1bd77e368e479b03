"""Chooses the parameters of the images that fit a folder and a machine, each with its reason."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stages.tools.survey import Headers, Survey

Choices = dict[str, tuple[Any, str]]  # by dotted key: the value and the reason

CPU_SIDE, GPU_SIDE, SMALL_SIDE = 64, 128, 32  # pixels
FINER = 16  # sides between them are multiples of it
PAD, STRETCH = 2.0, 4.0  # the longer side over the shorter one: from there on the centre shows too little
FEWEST, MOST = 10, 30  # per cent of the images for validation
CHOOSING = 120  # labels of validation: 100 are enough to choose by, and how many there are varies
FEWEST_IMAGES = 16  # of validation: prepare asks for 10, and how many there are varies
MINUTES = 30  # that the pretrainings of a method may take, and finetuning with all that belongs to it


@dataclass(frozen=True)
class Hardware:
    """What trains: CPU cores, or a GPU."""

    cores: int
    gpu: bool

    @property
    def side_by_side(self) -> int:
        """Finetunings that run at the same time: one on each core."""
        return 1 if self.gpu else self.cores


def fit(headers: Headers) -> tuple[str, str]:
    """How a picture that is not square becomes square, and why."""
    ratio = headers.ratio
    if ratio < 1.05:
        return "crop", "the images are square, or almost"
    times = f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"
    seen = f"the longer side is {times} times the shorter one at the median"
    if ratio >= STRETCH:
        return "stretch", f"{seen}: the centre would show {1 / ratio:.0%} of it, with bars it would be small"
    if ratio >= PAD:
        return "pad", f"{seen}: the centre would show {1 / ratio:.0%} of it"
    return "crop", f"{seen}: the centre shows {1 / ratio:.0%} of it; pad shows all, with bars"


def image_size(headers: Headers, how: str, hardware: Hardware) -> tuple[int, str]:
    """The side of the images as the encoder sees them, and why.

    Args:
        how: they become square, as in `data.fit`.
    """
    width, height = headers.median
    of_square = {"crop": min(width, height), "pad": max(width, height), "stretch": math.isqrt(width * height)}
    side, where = of_square[how], "a GPU" if hardware.gpu else "a CPU"
    pixels = f"{width} × {height} pixels" + (" at the median" if headers.shapes > 1 else "")
    largest = GPU_SIDE if hardware.gpu else CPU_SIDE
    if headers.shapes == 1 and width == height and 8 <= side <= CPU_SIDE:
        return side, f"all images of a sample have {pixels}: every pixel is kept"
    if side > largest:
        return largest, f"{pixels}; more than {largest} take long on {where}"
    if side >= SMALL_SIDE:
        return side // FINER * FINER, pixels
    return SMALL_SIDE, f"{pixels}: enlarged"


def affordable(size: tuple[int, str], pretraining: float, finetuning: float) -> tuple[int, str]:
    """A smaller side, and why, where the pixels leave no time for training enough; else the same.

    On emoji 32, 48 and 64 pixels were worth the same in the same time (docs/benchmarks.md), and finetuning
    that is cut short makes a gain over the control that is none.

    Args:
        size: the side, and why.
        pretraining: seconds of one long pretraining; they are in proportion to the pixels.
        finetuning: seconds of finetuning with ENOUGH_EPOCHS passes; the same.
    """
    side, times = size[0], max(pretraining, finetuning) / (60 * MINUTES)
    if side <= SMALL_SIDE or times <= 1:
        return size
    sides = range((side - 1) // FINER * FINER, SMALL_SIDE, -FINER)
    smaller = next((one for one in sides if times * (one / side) ** 2 <= 1), SMALL_SIDE)
    what, seconds = max(("pretraining", pretraining), ("finetuning", finetuning), key=lambda one: one[1])
    return smaller, f"with {side} pixels enough {what} would take {seconds / 60:.0f} minutes"


def validation(labelled: int, held: Callable[[float], tuple[float, float]]) -> tuple[float, str]:
    """The fraction of the images that is held out for validation, and why.

    Args:
        labelled: images with a label that are not in a test split which the folder names.
        held: how many images, and how many with a label, are held out with a fraction.
    """
    fractions = [percent / 100 for percent in range(FEWEST, MOST + 1)]
    enough = next((one for one in fractions if held(one)[1] >= CHOOSING), None)
    if enough is not None:
        return enough, f"about {held(enough)[1]:.0f} of {labelled:,} labels: enough to choose recipes by"
    few = next((one for one in fractions if held(one)[0] >= FEWEST_IMAGES), fractions[-1])
    most = f"even {MOST} % would have only about {math.floor(held(fractions[-1])[1])} labels"
    return few, f"{most}, too few to choose recipes by"


def channels(contents: Survey) -> tuple[int | str, str]:
    """The channels of the images, and why."""
    if contents.channels < contents.stored_channels:
        return contents.channels, "stored in colour, but all of a sample are grey"
    return "auto", "all images are grey" if contents.channels == 1 else "there are colour images"
