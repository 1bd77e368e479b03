"""Classify new images with a finetuned classifier.

    python -m stages.tools.predict PATH… [--model simclr/n100] [--output predictions.csv]

Each PATH is an image file or a folder. A folder is searched recursively, in the same way as `prepare` does.
A model is METHOD/nBUDGET (its first draw), METHOD/nBUDGET-drawD, either with `/distilled` after it, or a
file. The default is the one with the best accuracy on validation, never on the test split. The model's file
contains everything that predicting needs: weights, class names, image size and normalisation. Images that
cannot be read are reported on stderr and left out of the table; the exit status is then 1.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stages.compare.written import ModelChoice, ValidationCount
from stages.compare.written_figures import Classifiers
from stages.errors import InputError, has_control, one_line, reported
from stages.files.digests import require_files_as_written
from stages.files.locks import require_output
from stages.files.paths import CLASSIFIERS, COMPARED, DATA, DISTILLED, METRICS, PREPARED, SUMMARY
from stages.files.records import read_record, read_recorded
from stages.files.tables import write_table
from stages.images import pictures
from stages.images.listing import CONTROL, NO_UTF8, SUFFIXES, is_utf8, list_images
from stages.networks.pixel_rule import Decoding
from stages.settings import load
from stages.settings.values import first_pretrained
from stages.tasks.classifier import Classifier, probabilities, read_classifier
from stages.tasks.draws import parse_budget
from stages.tasks.power import ENOUGH_VALIDATION
from stages.training.machine import Machine, set_up
from stages.training.progress import progress
from stages.training.resources import cores

BATCH = 256  # images that are decoded and in memory at the same time
FOLDERS = {"distilled": DISTILLED}  # protocol → where its models are; finetuned ones have no suffix
TOP = 3  # most probable classes in the table


def main(arguments: Sequence[str]) -> int:
    """Classify the images and write the table; returns the number of paths that could not be used."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.tools.predict", description="Classify new images with a finetuned classifier."
    )
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="an image file, or a folder of image files"
    )
    parser.add_argument(
        "--model",
        help="METHOD/nBUDGET[-drawD][/distilled] or a file (default: the best on validation)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("predictions.csv"),
        help="the table to write (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    runtime = load.validated(load.read(load.PARAMS)).runtime
    # The threads of evaluate, because another number of threads can change the last bits of a probability.
    machine = set_up(runtime, runtime.threads.evaluate)
    model = model_file(options.model)
    classifier, classes = read_classifier(model)
    classifier.to(machine.device).eval()
    files, invalid = image_files(options.paths)
    require_output("--output", options.output)
    started = time.perf_counter()
    readable, predicted, unreadable = classify(files, classifier, machine)
    if readable:
        write_table(options.output, prediction_table(readable, predicted, classes))
        rate = len(readable) / (time.perf_counter() - started)
        done = f"{len(readable):,} images classified by {model}, {rate:,.0f} images/s"
        print(one_line(f"{options.output}: {done}"))
    elif options.output.exists():
        print(one_line(f"{options.output}: not changed, because no image could be read"), file=sys.stderr)
    for line in invalid + unreadable:
        print(one_line(f"error: {line}"), file=sys.stderr)
    return len(invalid + unreadable)


def classify(
    files: list[Path], classifier: Classifier, machine: Machine
) -> tuple[list[Path], Tensor, list[str]]:
    """Decode and classify image files.

    Returns:
        The files that could be read, their class probabilities (N, classes) float32 on the CPU, and one
        message for each other file.
    """
    declaration = classifier.encoder.declaration
    decode = partial(
        decode_image,
        size=declaration.image_size,
        channels=declaration.channels,
        decoding=declaration.decoding,
    )
    readable: list[Path] = []
    unreadable: list[str] = []
    parts = [torch.zeros(0, classifier.head.out_features)]
    with progress("predict", len(files)) as bar, ThreadPoolExecutor(cores()) as threads:
        for start in range(0, len(files), BATCH):
            batch, images = files[start : start + BATCH], []
            for file, image in zip(batch, threads.map(decode, batch), strict=True):
                if isinstance(image, str):
                    unreadable.append(image)
                else:
                    readable.append(file)
                    images.append(image)
            if images:
                stacked = torch.from_numpy(np.stack(images))
                parts.append(probabilities(classifier, stacked, machine).cpu())
            bar.advance(len(batch))
    return readable, torch.cat(parts), unreadable


def model_file(name: str | None) -> Path:
    """The file of a classifier.

    Args:
        name: METHOD/nBUDGET, METHOD/nBUDGET-drawD, either with `/distilled`, or a file; None: the best on
            validation.

    Raises:
        InputError: there is no such classifier, or none at all.
    """
    if name is None:
        name = best_on_validation()
    if Path(name).suffix == ".safetensors":
        return Path(name)
    method, _, rest = name.partition("/")
    budget, _, protocol = rest.partition("/")
    folder = FOLDERS.get(protocol, CLASSIFIERS) / method
    file = folder / (budget if "-draw" in budget else f"{budget}-draw0")
    file = file.with_name(f"{file.name}.safetensors")
    if not file.is_file():
        first_draws = CLASSIFIERS.glob("*/*-draw0.safetensors")
        names = sorted(f"{path.parent.name}/{path.stem.removesuffix('-draw0')}" for path in first_draws)
        none = "there are no classifiers yet; run `dvc repro`"
        choice = f"available: {', '.join(names)}" if names else none
        raise InputError(f"--model {name}: there is no file {file}; {choice}")
    require_files_as_written(file.parent, file.name)  # another model under this name is refused
    return file


def best_on_validation() -> str:
    """The method, budget and protocol whose models have the best accuracy on validation.

    Where validation has too few labels to choose by: the first pretrained method, with the most labels.

    Raises:
        InputError: there is no classifier, or a file is not what its stage writes.
    """
    summary = read_recorded(SUMMARY, COMPARED, Classifiers)
    if not any(summary.values()):
        raise InputError(
            f"{SUMMARY}: there is no classifier yet, because no budget has enough labels; label more images "
            "and run `dvc repro`"
        )
    labels = read_recorded(DATA, PREPARED, ValidationCount)["validation_labelled"]
    if labels < ENOUGH_VALIDATION:
        method = first_pretrained(method for method, budgets in summary.items() if budgets)
        sizes = {b: math.inf if parse_budget(b) == "all" else int(parse_budget(b)) for b in summary[method]}
        chosen = f"{method}/{max(sizes, key=lambda budget: sizes[budget])}"
        print(
            f"note: validation has {labels} labels, too few to choose a model by; taking {chosen} "
            "(--model names another)",
            file=sys.stderr,
        )
        return chosen
    accuracies: dict[str, float] = {}
    for method, budgets in summary.items():
        file = METRICS / "evaluate" / f"{method}_model.json"
        of_method = read_record(file, ModelChoice).get("validation", {})
        if missing := ", ".join(budget for budget in budgets if budget not in of_method):
            raise InputError(f"{file}: has no accuracy on validation of {missing}; run `dvc repro`")
        for budget in budgets:
            for protocol, accuracy in of_method[budget].items():
                suffix = f"/{protocol}" if protocol in FOLDERS else ""
                accuracies[f"{method}/{budget}{suffix}"] = accuracy
    return max(accuracies, key=lambda name: accuracies[name])


def image_files(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The image files among paths and in folders, and one message for each path that cannot be used.

    The files of a folder are sorted by name.
    """
    files: list[Path] = []
    invalid: list[str] = []
    for path in paths:
        if not is_utf8(path):
            invalid.append(f"{str(path)!a}: {NO_UTF8}")
        elif has_control(str(path)):
            invalid.append(f"{str(path)!a}: {CONTROL}")
        elif os.path.isdir(path):  # Path.is_dir raises an error where the path is too long
            listing = list_images(path)
            files += sorted(path / name for name in listing.files)
            invalid += [f"{path / name}: {reason}" for name, reason in listing.broken.items()]
            if passed := listing.passed_over():
                print(one_line(f"note: {path}: {passed}"), file=sys.stderr)
            if not listing.files and not listing.broken:
                suffixes = ", ".join(sorted(SUFFIXES))
                invalid.append(f"{path}: contains no image files (names that end in {suffixes})")
        else:
            files.append(path)
    return files, invalid


def decode_image(file: Path, size: int, channels: int, decoding: Decoding) -> np.ndarray | str:
    """The pixels of an image file, uint8 (C, H, W), or the message why it cannot be read."""
    try:
        return pictures.read(file, size, channels, decoding)
    except InputError as error:
        return str(error)


def prediction_table(files: list[Path], predicted: Tensor, classes: list[str]) -> pd.DataFrame:
    """One row per file with its most probable classes, in order, and their probabilities.

    Args:
        predicted: class probabilities, (N, classes).
    """
    values, indices = predicted.topk(min(TOP, len(classes)), dim=1)
    columns: dict[str, list[object]] = {"file": [str(file) for file in files]}
    for rank in range(values.shape[1]):
        suffix = f"_{rank + 1}" if rank else ""
        columns[f"label{suffix}"] = [classes[number] for number in indices[:, rank].tolist()]
        columns[f"probability{suffix}"] = [round(value, 4) for value in values[:, rank].tolist()]
    return pd.DataFrame(columns)


if __name__ == "__main__":
    with reported():
        sys.exit(1 if main(sys.argv[1:]) else 0)
