"""A dataset with an official test split, which is kept; validation is held out of train by the seed.

Training images without a label, as STL-10 has many, go to the pool.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.errors import InputError
from stages.prepare import mnist, split, torchvision_datasets
from stages.prepare.mnist import Source
from stages.prepare.parts import NO_LABEL, Part, Prepared
from stages.settings.schema import Data
from stages.training.randomness import Stream


def prepared(data: Data, stream: Stream) -> Prepared:
    """Pool and validation from the training split, the test split as it is."""
    train, test = read(data)
    used = split.limited(len(train.images), data.train_limit, stream.at("train limit"))
    known = train.labels[used] != NO_LABEL
    if data.validation >= known.sum():
        raise InputError(
            f"params.yaml: data.validation is {data.validation}; allowed: fewer than the {known.sum()} "
            "labelled images"
        )
    pool, validation = split.held_out(used[known], data.validation, stream.at("validation"))
    pool = np.sort(np.concatenate([pool, used[~known]]))
    tested = split.limited(len(test.images), data.test_limit, stream.at("test limit"))
    return Prepared(
        part(train, pool, "pool"),
        part(train, validation, "validation"),
        part(test, tested, "test"),
        train.classes,
    )


def read(data: Data) -> tuple[Source, Source]:
    """The official training and test split of the dataset that params.yaml names."""
    path, (family, _, name) = Path(data.path), data.source.partition("/")
    if name:
        return torchvision_datasets.read(name, path, data.image_size, data.channels)
    return mnist.read(family, path)


def part(source: Source, rows: np.ndarray, name: str) -> Part:
    """One row per image, in its order: id, split, and where the image came from."""

    def described(some: np.ndarray) -> pd.DataFrame:
        ids = [f"{source.name}-{row:05d}" for row in rows[some]]
        return pd.DataFrame({"id": ids, "split": name, "source": f"{source.dataset}/{source.name}"})

    return Part(source.images, rows, source.labels[rows], described)
