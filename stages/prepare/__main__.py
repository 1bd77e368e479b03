"""Stage prepare: a data source becomes three outputs that later stages depend on separately.

- images: the unlabelled pool and the validation split (with the validation labels, which the
  online kNN of pretraining reads);
- labels: the pool's labels and the names of the classes;
- test: the official test split, images and labels, for `evaluate` alone.

    python -m stages.prepare
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages import artifacts, params
from stages.errors import InputError, reported
from stages.prepare import sources, split
from stages.prepare.sources import Source
from stages.randomness import Stream


def main() -> None:
    """Read the source, split it by seed, write the three outputs."""
    settings = params.load("prepare")
    data, stream = settings.data, Stream.of(settings.seed, "prepare")
    artifacts.require_writable(artifacts.IMAGES, artifacts.LABELS, artifacts.TEST)
    train, test = sources.read(data.source, Path(data.path))
    used = split.limited(len(train.images), data.train_limit, stream.at("train limit"))
    if data.validation >= len(used):
        raise InputError(
            f"params.yaml: data.validation is {data.validation}; allowed: fewer than the {len(used)} images"
        )
    pool, validation = split.held_out(used, data.validation, stream.at("validation"))
    tested = split.limited(len(test.images), data.test_limit, stream.at("test limit"))

    with (  # all three take their places together, after the last byte is written
        artifacts.whole_folder(artifacts.IMAGES) as images_folder,
        artifacts.whole_folder(artifacts.LABELS) as labels_folder,
        artifacts.whole_folder(artifacts.TEST) as test_folder,
    ):
        artifacts.write_array(images_folder / "pool.npy", train.images[pool])
        artifacts.write_array(images_folder / "validation.npy", train.images[validation])
        artifacts.write_table(images_folder / "pool.csv", index(train, pool, "pool"))
        with_labels = index(train, validation, "validation").assign(label=train.labels[validation])
        artifacts.write_table(images_folder / "validation.csv", with_labels)
        pool_labels = index(train, pool, "pool")[["id"]].assign(label=train.labels[pool])
        artifacts.write_table(labels_folder / "pool.csv", pool_labels)
        artifacts.write_json(labels_folder / "classes.json", train.classes)
        artifacts.write_array(test_folder / "images.npy", test.images[tested])
        with_labels = index(test, tested, "test").assign(label=test.labels[tested])
        artifacts.write_table(test_folder / "index.csv", with_labels)
    print(f"prepared: {len(pool):,} images in the pool, {len(validation):,} validation, {len(tested):,} test")


def index(source: Source, rows: np.ndarray, part: str) -> pd.DataFrame:
    """One row per image of a pack, in its order: id, split, and where the image came from."""
    ids = [f"{source.name}-{row:05d}" for row in rows]
    return pd.DataFrame({"id": ids, "split": part, "source": f"{source.dataset}/{source.name}"})


if __name__ == "__main__":
    with reported():
        main()
