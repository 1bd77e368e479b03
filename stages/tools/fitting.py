"""Chooses the parameters that fit a folder of images, each with its reason."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stages.settings.values import BASELINES
from stages.tools.survey import Headers, Survey

Choices = dict[str, tuple[Any, str]]  # by dotted key: the value and the reason

CPU_SIDE, GPU_SIDE, SMALL_SIDE = 64, 128, 32  # pixels
MANY = 20_000  # images; with more, a CPU gets the small side
LONGEST = 60  # minutes that all may take with more pixels than the small side has
SEEN = (660_000, 440_000, 220_000)  # images seen in a pretraining
STEPS = 1500  # of a pretraining at least
TENTH, MOST_HELD_OUT = 0.1, 0.2  # fractions of the images for validation
CHOOSING = (
    120  # labels of validation: 100 are enough to choose by, and how many there are varies with the groups
)
MINUTES = 30  # that the pretrainings of a method may take if they are to be several, or long
RUNS, DRAWS = 3, 5
EPOCHS = (50, 32, 16, 8, 4, 2)  # passes of finetuning through the labels, where these are many
FINETUNING_MINUTES = 25  # that finetuning, and what belongs to it, may take if there are to be more passes
LABELS_PER_CLASS = 10  # in the smallest budget
SMALLEST_BUDGET, MIDDLE_BUDGET, LARGE_MIDDLE_BUDGET = 50, 300, 1000
THREADS = 8  # more hardly make the training of a small network faster


@dataclass(frozen=True)
class Hardware:
    """What trains: CPU cores, or a GPU."""

    cores: int
    gpu: bool


def image_size(headers: Headers, images: int, hardware: Hardware) -> tuple[int, str]:
    """The side of the images as the encoder sees them, and why."""
    width, height = headers.median
    side, where = min(width, height), "a GPU" if hardware.gpu else "a CPU"
    pixels = f"{width} × {height} pixels" + (" at the median" if headers.shapes > 1 else "")
    largest = GPU_SIDE if hardware.gpu else CPU_SIDE
    if headers.shapes == 1 and width == height and 8 <= side <= 40:
        return side, f"all images have {pixels}: every pixel is kept"
    if images > MANY and not hardware.gpu and side > SMALL_SIDE:
        return SMALL_SIDE, f"{pixels}, but {images:,} images are many for a CPU"
    if side >= largest:
        return largest, f"{pixels}; more than {largest} take long on {where}"
    if side >= 2 * SMALL_SIDE:
        return side // 32 * 32, pixels
    return SMALL_SIDE, f"{pixels}: small"


def affordable(size: tuple[int, str], seconds: float) -> tuple[int, str]:
    """A smaller side, and why, where `make repro` would take too long; else the same.

    Args:
        size: the side, and why.
        seconds: that `make repro` would take with it; they are in proportion to the pixels.
    """
    side, minutes = size[0], seconds / 60
    if side <= SMALL_SIDE or minutes <= LONGEST:
        return size
    sides = range(side - 16, SMALL_SIDE, -16)
    smaller = next((one for one in sides if minutes * (one / side) ** 2 <= LONGEST), SMALL_SIDE)
    return smaller, f"make repro would take {minutes:.0f} minutes with {side} pixels"


def validation(labelled: int) -> tuple[float, str]:
    """The fraction of the images that is held out for validation, and why.

    Args:
        labelled: images with a label that are not in a test split which the folder names.
    """
    needed = math.ceil(100 * CHOOSING / labelled) / 100 if labelled else 1.0
    if needed <= TENTH:
        return TENTH, "a tenth has labels enough to choose by"
    if needed > MOST_HELD_OUT:
        return TENTH, f"too few of {labelled:,} labels to choose by, however many are held out"
    return needed, f"about {CHOOSING} of {labelled:,} labels, so that recipes are chosen on validation"


def choices(contents: Survey, path: str, size: tuple[int, str], hardware: Hardware) -> Choices:
    """All parameters that depend on the folder or the machine; the pretraining is the shortest one."""
    cores = min(hardware.cores, THREADS)
    grey = contents.channels == 1
    # Strong views for pretraining: on emoji they brought the linear probe 2 to 5 points more than mild ones.
    strong, mild, of = ("clothes", "clothes_mild", "grey") if grey else ("photos", "photos_mild", "colour")
    chosen: Choices = {
        "methods": (["scratch", "simclr"], "the control, and SimCLR"),
        "runtime.threads.pretrain": (cores, f"this machine has {hardware.cores} cores"),
        "data.source": ("folder", "your own images"),
        "data.path": (path, f"{contents.pool:,} images to pretrain on"),
        "data.train_limit": (None, "all images"),
        "data.test_limit": (None, "all images"),
        "data.image_size": size,
        "data.channels": ("auto", "all images are grey" if grey else "there are colour images"),
        "encoder.name": (
            "residual",
            f"small enough for {'a GPU and' if hardware.gpu else ''} {size[0]} pixels",
        ),
        "encoder.width": (64, "a GPU") if hardware.gpu else (32, "a CPU"),
        "views.pretrain": (strong, f"strong ones for {of} images; make views compares presets"),
        "views.finetune": (mild, f"mild ones for {of} images"),
        "pretrain.simclr.images": (max(SEEN[-1], contents.pool), "until a step is timed"),
        "pretrain.runs": (1, "until a step is timed"),
        "pretrain.simclr.steps": (STEPS, "at least, also for a small pool"),
        "pretrain.simclr.temperature": (0.5, "SimCLR's own for small photographs; 1 is MNIST's"),
        "finetune.budgets": budgets(contents),
        "finetune.schedule.epochs": (EPOCHS[-1], "until a pass is timed"),
        "baselines": (list(BASELINES), "simple ones, and public weights"),
        "finetune.draws": (DRAWS, "enough draws of labels for an interval"),
    }
    return {key: (value, " ".join(reason.split())) for key, (value, reason) in chosen.items()}


def budgets(contents: Survey) -> tuple[list[int | str], str]:
    """The numbers of labels to train on, never more than there are, and why."""
    labels, classes = contents.labels, len(contents.classes)
    smallest = max(SMALLEST_BUDGET, LABELS_PER_CLASS * classes)
    middle = LARGE_MIDDLE_BUDGET if labels > 10_000 else MIDDLE_BUDGET
    ladder: list[int | str] = [smallest] if smallest <= labels / 1.5 else []
    if ladder and 2 * smallest <= middle <= labels / 1.5:
        ladder.append(middle)
    reason = f"{labels:,} labels of {classes} classes remain for training"
    return [*ladder, "all"], reason


def epochs(seconds: Callable[[int], float]) -> tuple[int, str]:
    """How many passes through the labels a finetuning makes at least, and why.

    Where labels are many and classes hard to tell apart, the steps that are enough for few labels leave all
    methods below their best (docs/benchmarks.md), and a gain over a control that was cut short says little.

    Args:
        seconds: that the finetunings of all methods take with so many passes.
    """
    number = next((one for one in EPOCHS if seconds(one) <= 60 * FINETUNING_MINUTES), EPOCHS[-1])
    minutes = max(1, round(seconds(number) / 60))
    if number == EPOCHS[0]:
        return number, f"so that no method is cut short; {minutes} minutes with choosing and measuring"
    return number, f"with {EPOCHS[0]} finetuning would take {seconds(EPOCHS[0]) / 60:.0f} minutes"


def pretraining(pool: int, seconds: Callable[[int], float]) -> Choices:
    """How long a pretraining is and how many a method gets, and why.

    First there are to be several, because they show how much pretrainings differ. Then each is to be long:
    three times the images seen made the linear probe 0.5 to 6 points better (docs/benchmarks.md).

    Args:
        pool: images to pretrain on.
        seconds: that one pretraining takes which sees so many images.
    """
    lengths = sorted({max(one, pool) for one in SEEN}, reverse=True)
    ladder = [(images, runs) for runs in (RUNS, 1) for images in lengths]  # two say hardly more than one
    fit = (one for one in ladder if one[1] * seconds(one[0]) <= 60 * MINUTES)
    images, runs = next(fit, ladder[-1])
    passes = f"{images / pool:,.0f} passes through {pool:,} images"
    longest = runs * seconds(lengths[0]) / 60
    if images < lengths[0]:
        passes += f"; with {lengths[0]:,}, {runs} would take {longest:.0f} minutes"
    one = seconds(images)
    takes = f"one takes {one / 60:.0f} minutes" if one >= 90 else f"one takes {one:.0f} s"
    several = "several show how much pretrainings differ"
    alone = "the interval then does not cover what another pretraining would give"
    return {
        "pretrain.simclr.images": (images, passes),
        "pretrain.runs": (runs, f"{takes}; {several if runs > 1 else alone}"),
    }
