"""What the earlier stages wrote about each method and about the data, read for the report."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from stages.compare import written, written_tables
from stages.compare.written_tables import read_columns, read_picture
from stages.errors import InputError
from stages.files.json_files import read_json
from stages.files.paths import DATA, DATA_CLASSES, METRICS, PREPARED
from stages.files.records import read_record, require_recorded
from stages.images import thumbnails

STAGES = ("pretrain", "choose", "finetune", "distil", "evaluate")


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


def read_method(method: str, finetuned: bool = True) -> MethodResults:
    """Read one method's results.

    Args:
        method: its name.
        finetuned: whether the pool had enough labels for a budget, so that there are models.

    Raises:
        InputError: a file is damaged, or is not what its stage writes.
        FileNotFoundError: a file is missing.
    """
    pretrain, evaluate = METRICS / "pretrain" / method, METRICS / "evaluate" / method
    for record in (f"{pretrain}.json", f"{evaluate}_model.json"):
        require_recorded(Path(record))  # first: its remedy makes an altered file again
    mistakes = read_columns(Path(f"{evaluate}_mistakes.csv"), written_tables.MISTAKES)
    curves = read_columns(Path(f"{pretrain}.csv"), written_tables.CURVE)
    model = written.MeasuredModel if finetuned else written.Unmeasured
    speed = {"evaluate": written.Speed} if finetuned else {}
    return MethodResults(
        method=method,
        pretrain=read_record(Path(f"{pretrain}.json"), written.Pretraining),
        choose=read_record(METRICS / "choose" / f"{method}.json", written.Choosing),
        finetune=read_record(METRICS / "finetune" / f"{method}.json", written.Finetuning),
        distil=read_record(METRICS / "distil" / f"{method}.json", written.Distilling),
        model=read_record(Path(f"{evaluate}_model.json"), model),
        timings={
            stage: read_record(
                METRICS / "timings" / stage / f"{method}.json", speed.get(stage, written.Timings)
            )
            for stage in STAGES
        },
        curve=curves[curves["run"] == 0],
        confusion=read_columns(Path(f"{evaluate}_confusion.csv"), written_tables.CONFUSION),
        reliability=read_columns(Path(f"{evaluate}_reliability.csv"), written_tables.RELIABILITY),
        mistakes=mistakes,
        map=read_columns(Path(f"{evaluate}_map.csv"), written_tables.MAP),
        gallery=read_gallery(Path(f"{evaluate}_mistakes.png"), len(mistakes)),
        shown=read_picture(Path(f"{pretrain}_shown.png")),
    )


def read_gallery(path: Path, count: int) -> list[Image.Image]:
    """The pictures of mistakes, one for each row of their table.

    Raises:
        InputError: the file is damaged, or does not have room for `count` pictures.
    """
    sheet = read_picture(path)
    if not thumbnails.fits(sheet, count, thumbnails.MISTAKES_ACROSS):
        size = f"{sheet.width} × {sheet.height} pixels"
        raise InputError(f"{path}: has {size}, which are not {count} pictures in rows; run `dvc repro`")
    return thumbnails.tiles(sheet, count, thumbnails.MISTAKES_ACROSS)


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
    require_recorded(PREPARED)
    return DataSummary(
        counts=read_json(DATA, written.Counts),
        classes=read_columns(DATA_CLASSES, written_tables.CLASSES),
        left_out=read_columns(METRICS / "data_left_out.csv", written_tables.LEFT_OUT),
        samples=read_picture(METRICS / "data_samples.png"),
        made_from=read_record(PREPARED, written.Prepared)["made_from"],
    )
