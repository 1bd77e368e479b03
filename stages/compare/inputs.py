"""What the earlier stages wrote about each method and about the data, read for the report."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from stages.errors import InputError
from stages.files.json_files import read_json
from stages.files.paths import METRICS
from stages.files.tables import read_table
from stages.images import thumbnails

STAGES = ("pretrain", "choose", "finetune", "distil", "evaluate")
TEXT_COLUMNS = ("budget", "actual", "predicted", "class", "id", "file", "reason", "other")


@dataclass(frozen=True)
class MethodResults:
    """One method's results.

    Attributes:
        method: its name.
        pretrain, choose, finetune, distil, model: JSON of the five stages.
        timings: stage → JSON of its timings.
        curve, confusion, reliability, mistakes, map: tables; the curve is that of run 0.
        gallery: an image for each row of `mistakes`.
        shown: rows of images that show what the method sees and makes.
    """

    method: str
    pretrain: dict[str, Any]
    choose: dict[str, Any]
    finetune: dict[str, Any]
    distil: dict[str, Any]
    model: dict[str, Any]
    timings: dict[str, dict[str, Any]]
    curve: pd.DataFrame
    confusion: pd.DataFrame
    reliability: pd.DataFrame
    mistakes: pd.DataFrame
    map: pd.DataFrame
    gallery: list[Image.Image]
    shown: Image.Image


def read_method(method: str) -> MethodResults:
    """Read one method's results.

    Raises:
        InputError: a file is damaged, or lacks a column.
        FileNotFoundError: a file is missing.
    """
    pretrain, evaluate = METRICS / "pretrain" / method, METRICS / "evaluate" / method
    mistakes = read_metrics_table(Path(f"{evaluate}_mistakes.csv"), "actual", "predicted", "probability")
    gallery = read_picture(Path(f"{evaluate}_mistakes.png"))
    curves = read_metrics_table(
        Path(f"{pretrain}.csv"), "run", "step", "loss", "knn", "rankme", "feature_std"
    )
    return MethodResults(
        method=method,
        pretrain=read_json(Path(f"{pretrain}.json")),
        choose=read_json(METRICS / "choose" / f"{method}.json"),
        finetune=read_json(METRICS / "finetune" / f"{method}.json"),
        distil=read_json(METRICS / "distil" / f"{method}.json"),
        model=read_json(Path(f"{evaluate}_model.json")),
        timings={s: read_json(METRICS / "timings" / s / f"{method}.json") for s in STAGES},
        curve=curves[curves["run"] == 0],
        confusion=read_metrics_table(
            Path(f"{evaluate}_confusion.csv"), "budget", "actual", "predicted", "share"
        ),
        reliability=read_metrics_table(
            Path(f"{evaluate}_reliability.csv"), "budget", "confidence", "accuracy"
        ),
        mistakes=mistakes,
        map=read_metrics_table(Path(f"{evaluate}_map.csv"), "x", "y", "class"),
        gallery=thumbnails.tiles(gallery, len(mistakes), thumbnails.MISTAKES_ACROSS),
        shown=read_picture(Path(f"{pretrain}_shown.png")),
    )


@dataclass(frozen=True)
class DataSummary:
    """What prepare wrote about the data.

    Attributes:
        counts: name of a part → number of images.
        classes: table, labelled images of each class in each part.
        left_out: table, the files that were left out and why.
        samples: images of the pool.
        made_from: parameters and hash of the code.
    """

    counts: Mapping[str, Any]
    classes: pd.DataFrame
    left_out: pd.DataFrame
    samples: Image.Image
    made_from: Mapping[str, Any]

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of their numbers."""
        return list(self.classes["class"])


def read_data() -> DataSummary:
    """Read what prepare wrote about the data; raises as `read_method`."""
    return DataSummary(
        counts=read_json(METRICS / "data.json"),
        classes=read_metrics_table(METRICS / "data_classes.csv", "class", "pool", "validation", "test"),
        left_out=read_metrics_table(METRICS / "data_left_out.csv", "file", "reason", "other"),
        samples=read_picture(METRICS / "data_samples.png"),
        made_from=read_json(METRICS / "prepare.json")["made_from"],
    )


def read_metrics_table(path: Path, *columns: str) -> pd.DataFrame:
    """Read a CSV table: names stay text, also `001` and `NA`; all other columns become numbers.

    Raises:
        InputError: the table is damaged, or one of `columns` is missing.
    """
    table = read_table(path, *columns, text=True)
    numeric = [name for name in table.columns if name not in TEXT_COLUMNS]
    try:
        table[numeric] = table[numeric].replace("", "nan").astype(float)
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as a table ({error}); run `dvc repro`") from None
    return table


def read_picture(path: Path) -> Image.Image:
    """Read a PNG image.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            image.load()
            return image.copy()
    except FileNotFoundError:
        raise
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path}: cannot be read as a PNG image ({error}); run `dvc repro`") from None
