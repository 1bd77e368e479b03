"""Prepares a dataset with an official test split, and holds out validation images from its training split.

Training images without a label, which STL-10 has, go to the pool.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.errors import InputError
from stages.networks.pixel_rule import Decoding
from stages.prepare import mnist, torchvision_datasets
from stages.prepare.mnist import Source
from stages.prepare.parts import NO_LABEL, Part, Prepared
from stages.prepare.split import hold_out, subsample
from stages.settings.data import Data
from stages.training.randomness import Stream


def prepare(data: Data, stream: Stream) -> Prepared:
    """Split the training split into pool and validation; keep the test split.

    Raises:
        InputError: the dataset cannot be read, or has too few labels for `data.validation`.
    """
    train, test = read(data)
    used = subsample(len(train.images), data.train_limit, stream.at("train limit"))
    labelled = train.labels[used] != NO_LABEL
    if data.validation >= labelled.sum():
        raise InputError(
            f"params.yaml: data.validation is {data.validation}; allowed: less than {labelled.sum()}, the "
            "number of labelled training images"
        )
    pool, validation = hold_out(used[labelled], data.validation, stream.at("validation"))
    pool = np.sort(np.concatenate([pool, used[~labelled]]))
    tested = subsample(len(test.images), data.test_limit, stream.at("test limit"))
    return Prepared(
        make_part(train, pool, "pool"),
        make_part(train, validation, "validation"),
        make_part(test, tested, "test"),
        train.classes,
        decoding=Decoding(fit=data.fit) if "/" in data.source else None,  # mnist does not come as image files
    )


def read(data: Data) -> tuple[Source, Source]:
    """The official training and test split of the dataset that params.yaml names."""
    path, (family, _, name) = Path(data.path), data.source.partition("/")
    if name:
        return torchvision_datasets.read(name, path, data.image_size, data.channels, Decoding(fit=data.fit))
    return mnist.read(family, path)


def make_part(source: Source, rows: np.ndarray, name: str) -> Part:
    """A part made of some rows of an official split, in their order."""

    def describe(some: np.ndarray) -> pd.DataFrame:
        ids = [f"{source.name}-{row:05d}" for row in rows[some]]
        return pd.DataFrame({"id": ids, "split": name, "source": f"{source.dataset}/{source.name}"})

    return Part(source.images, rows, source.labels[rows], describe)
