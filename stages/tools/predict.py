"""Classify new images with a finetuned classifier.

    python -m stages.predict PATH… [--model simclr/n100] [--output predictions.csv]

Each PATH is an image or a folder, which is searched as `prepare` searches, with all that is in it. A model
is METHOD/nBUDGET (its first draw), METHOD/nBUDGET-drawD or a file; without one it is the method and budget
with the best accuracy in `metrics/summary.json`. The model's file holds all that is needed: weights, class
names, image size and normalisation. Images that cannot be read are said and left out; the exit status is
then 1.
"""

import argparse
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

from stages.errors import InputError, reported
from stages.files.json_files import read_json
from stages.files.locks import require_writable
from stages.files.paths import CLASSIFIERS, METRICS
from stages.files.tables import write_table
from stages.images import pictures
from stages.images.tensors import pixels
from stages.settings import load
from stages.tasks.classifier import Classifier, read_classifier
from stages.training.machine import Machine, set_up
from stages.training.progress import progress

BATCH = 256  # images that are in memory at the same time
TOP = 3  # classes that are named for each image


def main(arguments: Sequence[str]) -> int:
    """Classify the images and write the table; how many images could not be read."""
    parser = argparse.ArgumentParser(prog="python -m stages.predict", description="Classify new images.")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="an image, or a folder of them")
    parser.add_argument("--model", help="METHOD/nBUDGET, METHOD/nBUDGET-drawD or a file (default: the best)")
    parser.add_argument("--output", type=Path, default=Path("predictions.csv"), help="(default: %(default)s)")
    chosen = parser.parse_args(arguments)
    here = set_up(load.validated(load.read(load.PARAMS)).runtime)
    model = model_file(chosen.model)
    classifier, classes = read_classifier(model)
    classifier.to(here.device).eval()
    files, refused = images_in(chosen.paths)
    require_writable(chosen.output)
    started = time.perf_counter()
    read, found, damaged = classified(files, classifier, here)
    if read:
        write_table(chosen.output, table(read, found, classes))
        rate = len(read) / (time.perf_counter() - started)
        print(f"{chosen.output}: {len(read):,} images classified by {model}, {rate:,.0f} images/s")
    elif chosen.output.exists():
        print(f"{chosen.output}: left as it was, for no image could be read", file=sys.stderr)
    for line in refused + damaged:
        print(f"error: {line}", file=sys.stderr)
    return len(refused + damaged)


def classified(
    files: list[Path], classifier: Classifier, here: Machine
) -> tuple[list[Path], Tensor, list[str]]:
    """The files that could be read, their probabilities (N, classes), and what is wrong with the others."""
    declaration = classifier.encoder.declaration
    decode = partial(decoded, size=declaration.image_size, channels=declaration.channels)
    read, damaged, rows = [], [], [torch.zeros(0, classifier.head.out_features)]
    with progress("predict", len(files)) as bar, ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for start in range(0, len(files), BATCH):
            part, images = files[start : start + BATCH], []
            for file, image in zip(part, pool.map(decode, part), strict=True):
                if isinstance(image, str):
                    damaged.append(image)
                else:
                    read.append(file)
                    images.append(image)
            if images:
                rows.append(probabilities(classifier, torch.from_numpy(np.stack(images)), here))
            bar.advance(len(part))
    return read, torch.cat(rows), damaged


def model_file(name: str | None) -> Path:
    """The classifier's file by its name; without a name the best one's, by the summary."""
    if name is None:
        summary = read_json(METRICS / "summary.json")
        figures = {
            f"{method}/{budget}": budgets[budget]["accuracy"]
            for method, budgets in summary.items()
            for budget in budgets
        }
        if not figures:
            raise InputError(
                f"{METRICS / 'summary.json'}: there is no classifier yet, for no budget has "
                "labels enough; label more images and run `dvc repro`"
            )
        name = max(figures, key=lambda key: figures[key])
    if Path(name).suffix == ".safetensors":
        return Path(name)
    folder, _, budget = name.partition("/")
    file = CLASSIFIERS / folder / (budget if "-draw" in budget else f"{budget}-draw0")
    file = file.with_name(f"{file.name}.safetensors")
    if not file.is_file():
        made = CLASSIFIERS.glob("*/*-draw0.safetensors")
        there = sorted(f"{path.parent.name}/{path.stem.removesuffix('-draw0')}" for path in made)
        raise InputError(
            f"--model {name}: there is no {file}; there are: {', '.join(there) or 'none; run `dvc repro`'}"
        )
    return file


def images_in(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The image files, those of folders in the order of their names; and what is wrong with some paths."""
    files, wrong = [], []
    for path in paths:
        if not pictures.is_utf8(path):
            wrong.append(f"{str(path)!a}: {pictures.NO_UTF8}")
        elif path.is_dir():
            found, broken = pictures.listed(path)
            files += sorted(path / file for file in found)
            wrong += [f"{path / file}: {reason}" for file, reason in broken.items()]
            if not found and not broken:
                wrong.append(f"{path}: holds no image; looked for {', '.join(sorted(pictures.SUFFIXES))}")
        else:
            files.append(path)
    return files, wrong


def decoded(file: Path, size: int, channels: int) -> np.ndarray | str:
    """An image uint8 (C, H, W), or why it cannot be read."""
    try:
        return pictures.read(file, size, channels)
    except InputError as error:
        return str(error)


@torch.no_grad()
def probabilities(classifier: Classifier, images: Tensor, here: Machine) -> Tensor:
    """Of uint8 images (N, C, H, W), for each class (N, classes)."""
    with here.autocast():
        logits: Tensor = classifier(pixels(images, here.device))
    return logits.float().softmax(1).cpu()


def table(files: list[Path], found: Tensor, classes: list[str]) -> pd.DataFrame:
    """One row for each file: the label with its probability, and the next ones behind it."""
    values, index = found.topk(min(TOP, len(classes)), dim=1)
    columns: dict[str, list[object]] = {"file": [str(file) for file in files]}
    for rank in range(values.shape[1]):
        end = f"_{rank + 1}" if rank else ""
        columns[f"label{end}"] = [classes[number] for number in index[:, rank].tolist()]
        columns[f"probability{end}"] = [round(value, 4) for value in values[:, rank].tolist()]
    return pd.DataFrame(columns)


if __name__ == "__main__":
    with reported():
        sys.exit(1 if main(sys.argv[1:]) else 0)
