"""Look at a folder of your own images and write the parameters that fit it into params.yaml.

    python -m stages.tools.init FOLDER [--dry-run]

It reads the folder as the stage `prepare` does, chooses image size, views, length of the pretraining,
budgets and so on, times some training steps, and says how long `make repro` will take, what the test can
show, and what is doubtful. It changes nothing but params.yaml, where each choice has its reason in brackets;
with `--dry-run` it prints the changes instead. Presets, comments and the values that it does not choose stay.
"""

import argparse
import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from stages.errors import InputError, reported
from stages.prepare import layout, own_images
from stages.prepare.columns import Record
from stages.prepare.parts import Prepared
from stages.settings import load
from stages.settings.schema import Params
from stages.settings.yaml_text import parsed
from stages.tools import doubtful, fitting, rehearsal
from stages.tools.fitting import Choices, Hardware
from stages.tools.params_file import with_values, write_values
from stages.tools.survey import Survey, read_headers, survey
from stages.training.randomness import Stream
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

    records, _, _ = layout.scan(options.folder)
    headers = read_headers(options.folder, [record.file for record in records])
    size = fitting.image_size(headers, len(records), hardware)
    basis = {"data.source": ("folder", ""), "data.path": (path, ""), "data.image_size": size}
    held_out = held_out_for_validation(records)
    basis |= held_out | {
        "data.channels": ("auto", ""),
        "data.train_limit": (None, ""),
        "data.test_limit": (None, ""),
    }
    settings = settings_of(text, basis)
    prepared = own_images.prepare(settings.data, Stream.of(settings.seeds.split, "prepare"))

    contents, pool = survey(headers, prepared), prepared_pool(prepared)
    choices = fitting.choices(contents, path, size, hardware) | held_out
    settings = settings_of(text, choices)
    times = rehearsal.measure(settings, pool, len(contents.classes))
    parallel = 1 if hardware.gpu else hardware.cores
    smaller = fitting.affordable(size, times.whole(settings, contents.labels, contents.test, parallel))
    if smaller != size:
        choices = fitting.choices(contents, path, smaller, hardware) | held_out
        settings = settings_of(text, choices)
        times = rehearsal.measure(settings, resized(pool, smaller[0]), len(contents.classes))

    def finetuning(epochs: int) -> float:
        with_epochs = settings_of(text, choices | {"finetune.schedule.epochs": (epochs, "")})
        return times.finetuning(with_epochs, contents.labels, parallel)

    def pretraining(images: int) -> float:
        return times.pretraining(settings_of(text, choices | {"pretrain.simclr.images": (images, "")}))

    choices["finetune.schedule.epochs"] = fitting.epochs(finetuning)
    choices |= fitting.pretraining(contents.pool, pretraining)
    settings = settings_of(text, choices)

    seconds = times.whole(settings, contents.labels, contents.test, parallel)
    print(*report(contents, choices, text, seconds), sep="\n", flush=True)
    if busy > BUSY * hardware.cores:
        print(f"doubtful: {BUSY_MACHINE.format(busy)}", flush=True)
    if options.dry_run:
        new = with_values(text, *parts(choices)).splitlines()
        print(*difflib.unified_diff(text.splitlines(), new, str(load.PARAMS), "fitted", n=0), sep="\n")
        return
    write_values(*parts(choices))
    print(f"{load.PARAMS} is written; next: make views, make repro")


def held_out_for_validation(records: Sequence[Record]) -> Choices:
    """The fraction for validation; nothing where the folder names its images."""
    splits = [record.split for record in records if record.label is not None]
    if "validation" in splits:
        return {}
    return {"data.folder.validation": fitting.validation(len(splits) - splits.count("test"))}


def load_average() -> float:
    """How many programs were busy in the last minute, before this one; 0 where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def inside(folder: Path) -> str:
    """The path of the folder for params.yaml: relative, if it is inside the project."""
    project, images = Path.cwd().resolve(), folder.resolve()
    return images.relative_to(project).as_posix() if images.is_relative_to(project) else images.as_posix()


def settings_of(text: str, choices: Choices) -> Params:
    """The settings that the file would have with some choices.

    Raises:
        InputError: they do not fit together; the file itself has no mistake.
    """
    return load.validated(parsed(with_values(text, *parts(choices))))


def parts(choices: Choices) -> tuple[dict[str, Any], dict[str, str]]:
    """The values and the reasons, by key."""
    values = {key: value for key, (value, _) in choices.items()}
    return values, {key: reason for key, (_, reason) in choices.items()}


def prepared_pool(prepared: Prepared) -> np.ndarray:
    """Images of the pool, uint8 (n, C, H, W): evenly spaced ones, as many as the timing takes."""
    rows = prepared.pool.rows
    return np.asarray(prepared.pool.images[rows[:: max(1, len(rows) // rehearsal.IMAGES)]])


def resized(pool: np.ndarray, side: int) -> np.ndarray:
    """The images with a smaller side; good enough for timing."""
    smaller = functional.interpolate(torch.from_numpy(pool).float(), size=(side, side), mode="area")
    return np.asarray(smaller.byte().numpy())


def report(contents: Survey, choices: Choices, old: str, seconds: float) -> list[str]:
    """What the user is told: the folder, the choices with their reasons, time, power, doubts."""
    parts = f"{contents.pool:,} images to pretrain on, {contents.test:,} labelled ones for the test"
    lines = [f"{parts}, {contents.labels:,} labels of {len(contents.classes)} classes for training"]
    if contents.headers.alpha:
        lines.append(f"{contents.headers.alpha:.0%} of the images have transparent parts")
    before = parsed(old)
    for key, (value, reason) in choices.items():
        was = load.value(before, key)
        lines.append(f"  {key}: {shown(value)} ({reason})" + ("" if was == value else f"; was {shown(was)}"))
    lines.append(f"make repro will take about {duration(seconds)} on this machine")
    budgets = choices["finetune.budgets"][0]
    if shows := doubtful.what_the_test_shows(contents, budgets):
        lines.append(shows)
    return lines + [f"doubtful: {doubt}" for doubt in doubtful.doubts(contents, budgets)]


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
