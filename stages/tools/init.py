"""Look at a folder of your own images and write the parameters that fit it into params.yaml.

    python -m stages.tools.init FOLDER [--dry-run]

It reads the folder as the stage `prepare` does, chooses image size, views, length of the pretraining,
budgets and so on, times some training steps, and says how long `make repro` will take, what the test can
show, and what is doubtful. It changes nothing but params.yaml, where each choice has its reason in brackets;
with `--dry-run` it prints the changes instead. Presets, comments and the values that it does not choose stay.
"""

import argparse
import difflib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from stages.errors import InputError, reported
from stages.settings import load
from stages.settings.schema import Params
from stages.settings.yaml_text import parsed
from stages.tasks.finetuning import steps_for
from stages.tools import doubtful, fitting, fitting_images, rehearsal, views
from stages.tools.fitting_images import Choices, Hardware
from stages.tools.look import Look, look, parts, settings_of
from stages.tools.params_file import with_values, write_values
from stages.tools.rehearsal import Times
from stages.tools.survey import Survey
from stages.training.resources import cores

BUSY = 1.0  # programs for each core; fewer may be the installation just before
BUSY_MACHINE = (
    "other programs were busy in the last minute (load average {:.1f}), so the times are too long, and image "
    "size, trainings and runs may be too small; run this again when they have ended"
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Look at the folder, choose, time, and write params.yaml."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.tools.init", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("folder", type=Path, help="your images: class folders, labels.csv, or images only")
    parser.add_argument("--dry-run", action="store_true", help="print the changes; write nothing")
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        raise InputError(f"{options.folder}: is not a folder; allowed: a folder of images")
    text = load.PARAMS.read_text(encoding="utf-8")
    load.validated(load.read(load.PARAMS))  # mistakes are named before any work
    path, hardware = inside(options.folder), Hardware(cores(), torch.cuda.is_available())
    busy = load_average()

    seen = look(options.folder, path, text, hardware)
    contents = seen.contents
    choices, times = chosen(seen, path, text, hardware)
    settings = settings_of(text, choices)
    seconds = times.whole(settings, contents.labels, contents.test, hardware.side_by_side)
    of_views = views.seconds(settings, contents.channels, times.pretrain) if contents.classes else None
    print(*report(contents, choices, text, seconds, of_views), sep="\n", flush=True)
    doubts = doubtful.doubts(contents, settings.finetune.budgets, passes(settings, contents.labels))
    print(*(f"doubtful: {doubt}\n" for doubt in doubts), sep="", end="", flush=True)
    if busy > BUSY * hardware.cores:
        print(f"doubtful: {BUSY_MACHINE.format(busy)}", flush=True)
    if options.dry_run:
        new = with_values(text, *parts(choices)).splitlines()
        print(*difflib.unified_diff(text.splitlines(), new, str(load.PARAMS), "fitted", n=0), sep="\n")
        return
    write_values(*parts(choices))
    following = "make views, make repro" if contents.classes else "make repro"
    print(f"{load.PARAMS} is written; next: {following}")


def chosen(seen: Look, path: str, text: str, hardware: Hardware) -> tuple[Choices, Times]:
    """All choices, and the times that they follow from.

    Args:
        path: of the folder, for params.yaml.
        text: the content of params.yaml.
    """
    classes = len(seen.contents.classes)
    choices = fitting.choices(seen.contents, path, seen.size, hardware) | seen.choices
    times = rehearsal.measure(settings_of(text, choices), seen.pool, classes)

    def finetuning(epochs: int) -> float:
        with_epochs = settings_of(text, choices | {"finetune.schedule.epochs": (epochs, "")})
        return times.finetuning(with_epochs, seen.contents.labels, hardware.side_by_side)

    def pretraining(images: int) -> float:
        return times.pretraining(settings_of(text, choices | {"pretrain.simclr.images": (images, "")}))

    long = pretraining(max(fitting.SEEN[0], seen.contents.pool))
    smaller = fitting_images.affordable(seen.size, long, finetuning(fitting.ENOUGH_EPOCHS))
    if smaller != seen.size:
        choices = fitting.choices(seen.contents, path, smaller, hardware) | seen.choices
        times = rehearsal.measure(settings_of(text, choices), resized(seen.pool, smaller[0]), classes)
    choices["finetune.schedule.epochs"] = fitting.epochs(finetuning)
    choices |= fitting.pretraining(seen.contents.pool, pretraining)
    return choices, times


def load_average() -> float:
    """How many programs were busy in the last minute, before this one; 0 where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def inside(folder: Path) -> str:
    """The path of the folder for params.yaml: relative, if it is inside the project."""
    project, images = Path.cwd().resolve(), folder.resolve()
    return images.relative_to(project).as_posix() if images.is_relative_to(project) else images.as_posix()


def resized(pool: np.ndarray, side: int) -> np.ndarray:
    """The images with a smaller side; good enough for timing."""
    smaller = functional.interpolate(torch.from_numpy(pool).float(), size=(side, side), mode="area")
    return np.asarray(smaller.byte().numpy())


def passes(settings: Params, labels: int) -> float:
    """How often finetuning sees each image with all labels."""
    schedule = settings.finetune.schedule
    return steps_for(labels, schedule) * schedule.batch_size / labels if labels else math.inf


def report(contents: Survey, choices: Choices, old: str, seconds: float, of_views: float | None) -> list[str]:
    """What the user is told: the folder, the choices with their reasons, times, power.

    Args:
        old: the content of params.yaml.
        seconds: that `make repro` will take.
        of_views: that `make views` will take; None: there is no label to try views on.
    """
    parts = f"{contents.pool:,} images to pretrain on, {contents.test:,} labelled ones for the test"
    lines = [f"{parts}, {contents.labels:,} labels of {len(contents.classes)} classes for training"]
    if contents.headers.alpha:
        lines.append(f"{contents.headers.alpha:.0%} of the images have transparent parts")
    values = parsed(old)
    for key, (value, reason) in choices.items():
        was = load.value(values, key)
        lines.append(f"  {key}: {shown(value)} ({reason})" + ("" if was == value else f"; was {shown(was)}"))
    before = "" if of_views is None else f", make views before it {duration(of_views)}"
    lines.append(f"make repro will take about {duration(seconds)} on this machine{before}")
    budgets = choices["finetune.budgets"][0]
    if shows := doubtful.what_the_test_shows(contents, budgets):
        lines.append(shows)
    return lines


def shown(value: Any) -> str:
    """A value as in params.yaml."""
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return "null" if value is None else str(value)


def duration(seconds: float) -> str:
    """Seconds in words, rounded: an estimate has no more digits."""
    minutes = seconds / 60
    return f"{max(1, round(minutes)):,} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"


if __name__ == "__main__":
    with reported():
        main()
