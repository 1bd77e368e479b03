"""What the stages before have written of each method and of the data, read for the report."""

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

STAGES = ("pretrain", "finetune", "evaluate")
TEXT = (
    "budget",
    "actual",
    "predicted",
    "class",
    "id",
    "file",
    "reason",
    "other",
)  # columns that are no numbers
GALLERY_ACROSS = 8  # as evaluate lays its mistakes out


@dataclass(frozen=True)
class Sheet:
    """One method's results.

    Attributes:
        pretrain, finetune, model: JSON of the three stages; timings: by stage.
        curve, confusion, reliability, mistakes, map: tables.
        gallery: pictures of the mistakes, in the table's order; shown: what the method sees and makes.
    """

    method: str
    pretrain: dict[str, Any]
    finetune: dict[str, Any]
    model: dict[str, Any]
    timings: dict[str, dict[str, Any]]
    curve: pd.DataFrame
    confusion: pd.DataFrame
    reliability: pd.DataFrame
    mistakes: pd.DataFrame
    map: pd.DataFrame
    gallery: list[Image.Image]
    shown: Image.Image


def read(method: str) -> Sheet:
    """All that is known of a method.

    Raises:
        InputError: a file cannot be read, or is not what the stage writes.
    """
    pretrain, evaluate = METRICS / "pretrain" / method, METRICS / "evaluate" / method
    mistakes = table(Path(f"{evaluate}_mistakes.csv"), "actual", "predicted", "probability")
    gallery = picture(Path(f"{evaluate}_mistakes.png"))
    return Sheet(
        method=method,
        pretrain=read_json(Path(f"{pretrain}.json")),
        finetune=read_json(METRICS / "finetune" / f"{method}.json"),
        model=read_json(Path(f"{evaluate}_model.json")),
        timings={s: read_json(METRICS / "timings" / s / f"{method}.json") for s in STAGES},
        curve=table(Path(f"{pretrain}.csv"), "step", "loss", "knn", "rankme", "feature_std"),
        confusion=table(Path(f"{evaluate}_confusion.csv"), "budget", "actual", "predicted", "share"),
        reliability=table(Path(f"{evaluate}_reliability.csv"), "budget", "confidence", "accuracy"),
        mistakes=mistakes,
        map=table(Path(f"{evaluate}_map.csv"), "x", "y", "class"),
        gallery=thumbnails.tiles(gallery, len(mistakes), GALLERY_ACROSS),
        shown=picture(Path(f"{pretrain}_shown.png")),
    )


@dataclass(frozen=True)
class Prepared:
    """What prepare has written of the data.

    Attributes:
        counts: images of each part; classes, left_out: tables; samples: pictures of the pool.
        made_from: parameters and code.
    """

    counts: Mapping[str, Any]
    classes: pd.DataFrame
    left_out: pd.DataFrame
    samples: Image.Image
    made_from: Mapping[str, Any]

    @property
    def class_names(self) -> list[str]:
        """In their order."""
        return list(self.classes["class"])


def read_prepared() -> Prepared:
    """All that is known of the data."""
    return Prepared(
        counts=read_json(METRICS / "data.json"),
        classes=table(METRICS / "data_classes.csv", "class", "pool", "validation", "test"),
        left_out=table(METRICS / "data_left_out.csv", "file", "reason", "other"),
        samples=picture(METRICS / "data_samples.png"),
        made_from=read_json(METRICS / "prepare.json")["made_from"],
    )


def table(path: Path, *columns: str) -> pd.DataFrame:
    """A table with these columns; names stay as they are written, be they `001` or `NA`."""
    found = read_table(path, *columns, text=True)
    numbers = [name for name in found.columns if name not in TEXT]
    try:
        found[numbers] = found[numbers].replace("", "nan").astype(float)
    except ValueError as error:
        raise InputError(f"{path}: is no readable table ({error})") from None
    return found


def picture(path: Path) -> Image.Image:
    """A sheet of pictures."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            image.load()
            return image.copy()
    except FileNotFoundError:
        raise
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path}: is no readable PNG ({error}); run `dvc repro`") from None
