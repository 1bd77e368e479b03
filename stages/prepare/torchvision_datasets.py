"""Reads the datasets of torchvision, `source: torchvision/NAME`, by torchvision's own classes.

They are searched in `data.path`, in torchvision's layout, and downloaded to `data/cache` if they are not
there. Images are cropped and resampled like those of a folder.
"""

import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stages.errors import InputError, one_line
from stages.images import pictures
from stages.networks.pixel_rule import Decoding
from stages.prepare.mnist import DOWNLOADS, Source
from stages.prepare.parts import NO_LABEL
from stages.training.progress import progress

if TYPE_CHECKING:
    from torchvision.datasets import VisionDataset

Options = dict[str, Any]
# The split is chosen by the option `train` for these classes, by `split` for all others.
WITH_TRAIN_OPTION = ("CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST", "MNIST", "USPS")
# Names of splits that are not `train` and `test`.
TRAIN = {"FGVCAircraft": "trainval", "OxfordIIITPet": "trainval"}
TEST = {"Imagenette": "val"}  # Imagenette has no test split
UNLABELLED = {"STL10": "unlabeled"}


def read(
    name: str, path: Path, size: int, channels: Literal["auto", 1, 3], decoding: Decoding = pictures.PLAIN
) -> tuple[Source, Source]:
    """Read the training split, followed by the unlabelled images if there are any, and the test split.

    Args:
        name: one of `values.TORCHVISION`.
        path: a folder that may have the dataset.
        size: height and width of the images in pixels.
        channels: 1, 3, or auto: 1 if the images are stored as grey values.
        decoding: the rule by which pictures become pixels.

    Raises:
        InputError: the dataset is missing and cannot be downloaded, or an image cannot be decoded.
    """
    train, test = ([load(name, option, path)] for option in options(name))
    if name in UNLABELLED:
        train.append(load(name, {"split": UNLABELLED[name]}, path))
    if channels == "auto":
        channels = 1 if pictures.is_grey(train[0][0][0]) else 3
    classes = class_names(train[0])
    sources = []
    for split, datasets in (("train", train), ("test", test)):
        images, labels = decode(f"prepare: {name}, {split}", datasets, size, channels, decoding)
        classes = classes or [str(number) for number in range(labels.max() + 1)]
        sources.append(Source(f"torchvision/{name}", split, images, labels, classes))
    return sources[0], sources[1]


def options(name: str) -> tuple[Options, Options]:
    """The options of torchvision's class for the training split and for the test split."""
    if name in WITH_TRAIN_OPTION:
        return {"train": True}, {"train": False}
    return {"split": TRAIN.get(name, "train")}, {"split": TEST.get(name, "test")}


def load(name: str, option: Options, path: Path) -> "VisionDataset":
    """Load one split from `path` or from earlier downloads; download it if it is in neither.

    Raises:
        InputError: the dataset is missing and cannot be downloaded.
    """
    from torchvision import datasets  # imported late: it takes seconds and needs a writable temporary folder

    dataset_class, failure = getattr(datasets, name), ""
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    for root, download in ((path, {}), (DOWNLOADS, {}), (DOWNLOADS, {"download": True})):
        if download:
            print(one_line(f"{name} is not in {path}; downloading it to {root}"), flush=True)
        try:
            dataset: VisionDataset = dataset_class(root, **option, **download)
        except (OSError, RuntimeError, ImportError, ValueError) as error:
            failure = " ".join(str(error).split())
        else:
            return dataset
    raise InputError(
        f"{path}: torchvision's {name} is missing, and downloading it failed ({failure}); copy it into this "
        "folder, in torchvision's layout"
    )


def class_names(dataset: "VisionDataset") -> list[str]:
    """The class names, in the order of the class numbers; empty if torchvision has none."""
    names = [name if isinstance(name, str) else name[0] for name in getattr(dataset, "classes", ())]
    return names if len(set(names)) == len(names) else []


def decode(
    title: str, datasets: Sequence[Any], size: int, channels: int, decoding: Decoding = pictures.PLAIN
) -> tuple[np.ndarray, np.ndarray]:
    """Decode the images of several datasets, one after another.

    Args:
        title: of the progress bar and of errors.
        datasets: each has pairs of a Pillow image and a label.
        size: height and width in pixels.
        channels: 1 or 3.
        decoding: the rule by which pictures become pixels.

    Returns:
        Images uint8 (N, C, H, W) and labels int64 (N,). The images are memory-mapped from an unnamed file,
        because they may not fit into memory; it is deleted with the array.

    Raises:
        InputError: an image cannot be decoded.
        OSError: the disk is full.
    """
    total = sum(len(dataset) for dataset in datasets)
    shape = (total, channels, size, size)
    with tempfile.TemporaryFile(dir=DOWNLOADS) as file:
        try:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                # NOTE: reserve the space now: if the disk is full when a mapped page is written, the
                # operating system kills the process.
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
                    images[row], labels[row] = pictures.pixels(image, size, channels, decoding), label
                except Exception as error:  # a decoder may raise any exception for a damaged file
                    reason = " ".join(str(error).split()) or type(error).__name__
                    raise InputError(f"{title}: image {index} cannot be decoded ({reason})") from None
                row += 1
                bar.advance(1)
    return images, labels
