"""Chooses the parameters of training that fit a folder of images and a machine, each with its reason."""

from collections.abc import Callable

from stages.settings.values import BASELINES
from stages.tools.fitting_images import MINUTES, Choices, Hardware, channels, fit
from stages.tools.survey import Survey

SEEN = (660_000, 440_000, 220_000)  # images seen in a pretraining
STEPS = 1500  # of a pretraining at least
LONG_ENOUGH = 2 / 3  # of the longest: shorter ones are not worth several
RUNS, DRAWS = 3, 5
EPOCHS = (50, 32, 16, 8, 4, 2)  # passes of finetuning through the labels, where these are many
ENOUGH_EPOCHS = 16  # so many passes come before more pixels
LABELS_PER_CLASS = 10  # in the smallest budget
SMALLEST_BUDGET, MIDDLE_BUDGET, LARGE_MIDDLE_BUDGET = 50, 300, 1000
THREADS = 8  # more hardly make the training of a small network faster


def choices(contents: Survey, path: str, size: tuple[int, str], hardware: Hardware) -> Choices:
    """All parameters that depend on the folder or the machine; the pretraining is the shortest one."""
    cores = min(hardware.cores, THREADS)
    grey = contents.channels == 1
    # Strong views for pretraining: on emoji they brought the linear probe 2 to 5 points more than mild ones.
    strong, mild, of = ("clothes", "clothes_mild", "grey") if grey else ("photos", "photos_mild", "colour")
    chosen: Choices = {
        "methods": (["scratch", "simclr"], "the control, and SimCLR"),
        "runtime.threads.pretrain": (cores, f"cores of this machine: {hardware.cores}"),
        "data.source": ("folder", "your own images"),
        "data.path": (path, f"{contents.pool:,} images to pretrain on"),
        "data.train_limit": (None, "all images"),
        "data.test_limit": (None, "all images"),
        "data.image_size": size,
        "data.fit": fit(contents.headers),
        "data.channels": channels(contents),
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
    number = next((one for one in EPOCHS if seconds(one) <= 60 * MINUTES), EPOCHS[-1])
    if number == EPOCHS[0]:
        minutes = f"{max(1, round(seconds(number) / 60))} min with choosing and measuring"
        return number, f"so that no method is cut short; {minutes}"
    longest = f"{EPOCHS[0]} passes would take {seconds(EPOCHS[0]) / 60:.0f} minutes"
    return number, f"{longest}, {number} take {seconds(number) / 60:.0f}"


def pretraining(pool: int, seconds: Callable[[int], float]) -> Choices:
    """How long a pretraining is and how many a method gets, and why.

    First each is to be long: three times the images seen made the linear probe 0.5 to 6 points better, with
    one exception (docs/benchmarks.md). Then there are to be several, because they show how much pretrainings
    differ; so one long one rather than three short ones.

    Args:
        pool: images to pretrain on.
        seconds: that one pretraining takes which sees so many images.
    """
    lengths = sorted({max(one, pool) for one in SEEN}, reverse=True)
    long = [images for images in lengths if images >= LONG_ENOUGH * lengths[0]]
    # Two runs say hardly more than one.
    ladder = [(images, RUNS) for images in long] + [(images, 1) for images in lengths]
    in_time = (one for one in ladder if one[1] * seconds(one[0]) <= 60 * MINUTES)
    images, runs = next(in_time, ladder[-1])
    number = images / pool
    passes = f"{number:,.0f}" if number >= 10 else f"{number:.1f}"
    passes += f" passes through {pool:,} images"
    longest = runs * seconds(lengths[0]) / 60
    if images < lengths[0]:
        each = f" in each of {runs} runs" if runs > 1 else ""
        passes += f"; {lengths[0]:,}{each} would take {longest:.0f} minutes"
    one = seconds(images)
    takes = f"one takes {one / 60:.0f} minutes" if one >= 90 else f"one takes {one:.0f} s"
    several = "several show how much pretrainings differ"
    alone = "the interval then does not cover what another pretraining would give"
    return {
        "pretrain.simclr.images": (images, passes),
        "pretrain.runs": (runs, f"{takes}; {several if runs > 1 else alone}"),
    }
