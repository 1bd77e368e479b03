"""A dataset with an official test split, which is kept; validation is held out of train by the seed."""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.errors import InputError
from stages.prepare import sources, split
from stages.prepare.parts import Part, Prepared
from stages.prepare.sources import Source
from stages.randomness import Stream
from stages.sections import Data


def prepared(data: Data, stream: Stream) -> Prepared:
    """Pool and validation from the training split, the test split as it is."""
    train, test = sources.read(data.source, Path(data.path))
    used = split.limited(len(train.images), data.train_limit, stream.at("train limit"))
    if data.validation >= len(used):
        raise InputError(
            f"params.yaml: data.validation is {data.validation}; allowed: fewer than the {len(used)} images"
        )
    pool, validation = split.held_out(used, data.validation, stream.at("validation"))
    tested = split.limited(len(test.images), data.test_limit, stream.at("test limit"))
    return Prepared(
        part(train, pool, "pool"),
        part(train, validation, "validation"),
        part(test, tested, "test"),
        train.classes,
    )


def part(source: Source, rows: np.ndarray, name: str) -> Part:
    """One row per image, in its order: id, split, and where the image came from."""
    ids = [f"{source.name}-{row:05d}" for row in rows]
    table = pd.DataFrame({"id": ids, "split": name, "source": f"{source.dataset}/{source.name}"})
    return Part(source.images, rows, table, source.labels[rows])
