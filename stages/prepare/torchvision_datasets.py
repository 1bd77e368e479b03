"""Datasets by torchvision's names, `source: torchvision/NAME`: its classes find, check and fetch them.

They are looked for in `data.path`, in torchvision's own layout, and fetched into `data/cache` if they are
not there. Their images are cut and resampled like a folder's. What is special to each is which of its
splits are for training and for the test.
"""

import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stages.errors import InputError
from stages.images import pictures
from stages.prepare.mnist import DOWNLOADS, Source
from stages.prepare.parts import NO_LABEL
from stages.training.progress import progress

if TYPE_CHECKING:
    from torchvision.datasets import VisionDataset

Options = dict[str, Any]
FLAGGED = (
    "CIFAR10",
    "CIFAR100",
    "FashionMNIST",
    "KMNIST",
    "MNIST",
    "USPS",
)  # have `train`, all others `split`
TRAIN = {"FGVCAircraft": "trainval", "OxfordIIITPet": "trainval"}
TEST = {"Imagenette": "val"}  # it has no other
UNLABELLED = {"STL10": "unlabeled"}


def read(name: str, path: Path, size: int, channels: Literal["auto", 1, 3]) -> tuple[Source, Source]:
    """The training split, with what is unlabelled behind it, and the test split.

    Args:
        name: one of `sections.TORCHVISION`.
        path: a folder that may hold the dataset.
        size, channels: of the images; auto: 1 where they are stored as grey.

    Raises:
        InputError: the dataset is not there and cannot be fetched.
    """
    train, test = ([opened(name, option, path)] for option in options(name))
    if name in UNLABELLED:
        train.append(opened(name, {"split": UNLABELLED[name]}, path))
    if channels == "auto":
        channels = 1 if pictures.has_no_colours(train[0][0][0]) else 3
    classes = names_of_classes(train[0])
    found = []
    for split, datasets in (("train", train), ("test", test)):
        images, labels = decoded(f"prepare: {name}, {split}", datasets, size, channels)
        classes = classes or [str(number) for number in range(labels.max() + 1)]
        found.append(Source(f"torchvision/{name}", split, images, labels, classes))
    return found[0], found[1]


def options(name: str) -> tuple[Options, Options]:
    """What torchvision's class takes for the training split, and for the test split."""
    if name in FLAGGED:
        return {"train": True}, {"train": False}
    return {"split": TRAIN.get(name, "train")}, {"split": TEST.get(name, "test")}


def opened(name: str, option: Options, path: Path) -> "VisionDataset":
    """One split, from `path` or from what was fetched before; else it is fetched now (errors as `read`)."""
    from torchvision import datasets  # late: it takes seconds, and a folder for temporary files

    kind, failure = getattr(datasets, name), ""
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    for root, more in ((path, {}), (DOWNLOADS, {}), (DOWNLOADS, {"download": True})):
        if more:
            print(f"{name} is not in {path}; downloading it to {root}", flush=True)
        try:
            dataset: VisionDataset = kind(root, **option, **more)
        except (OSError, RuntimeError, ImportError, ValueError) as error:
            failure = " ".join(str(error).split())
        else:
            return dataset
    raise InputError(
        f"{path}: torchvision's {name} is not here, and downloading it failed ({failure}); put it into this "
        "folder, as torchvision lays it out"
    )


def names_of_classes(dataset: "VisionDataset") -> list[str]:
    """What the classes are called, in the order of their numbers; empty where torchvision does not say."""
    names = [name if isinstance(name, str) else name[0] for name in getattr(dataset, "classes", ())]
    return names if len(set(names)) == len(names) else []


def decoded(title: str, datasets: Sequence[Any], size: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (N, C, H, W), and labels, (N,) int64, of datasets one after another.

    The images lie in a file without a name, which goes with them: they may be more than the memory holds.

    Raises:
        InputError: an image cannot be decoded.
    """
    total = sum(len(dataset) for dataset in datasets)
    shape = (total, channels, size, size)
    with tempfile.TemporaryFile(dir=DOWNLOADS) as file:
        try:
            if hasattr(os, "posix_fallocate"):  # macOS has none
                # NOTE: the room is taken now, for mapped memory that finds none later ends the process.
                os.posix_fallocate(file.fileno(), 0, math.prod(shape))
            images = np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(DOWNLOADS)) from error
    labels, row = np.full(total, NO_LABEL, dtype=np.int64), 0
    with progress(title, total) as bar:
        for dataset in datasets:
            for index in range(len(dataset)):
                try:
                    image, label = dataset[index]
                    images[row], labels[row] = pictures.pixels(image, size, channels), label
                except Exception as error:  # a decoder may raise anything for a damaged file
                    reason = " ".join(str(error).split()) or type(error).__name__
                    raise InputError(f"{title}: image {index} cannot be decoded ({reason})") from None
                row += 1
                bar.advance(1)
    return images, labels
