"""What the stages before have written of each method, read for the report; and the table to choose from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from stages import artifacts, thumbnails
from stages.artifacts import METRICS
from stages.errors import InputError

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
        pretrain=artifacts.read_json(Path(f"{pretrain}.json")),
        finetune=artifacts.read_json(METRICS / "finetune" / f"{method}.json"),
        model=artifacts.read_json(Path(f"{evaluate}_model.json")),
        timings={s: artifacts.read_json(METRICS / "timings" / s / f"{method}.json") for s in STAGES},
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
        counts=artifacts.read_json(METRICS / "data.json"),
        classes=table(METRICS / "data_classes.csv", "class", "pool", "validation", "test"),
        left_out=table(METRICS / "data_left_out.csv", "file", "reason", "other"),
        samples=picture(METRICS / "data_samples.png"),
        made_from=artifacts.read_json(METRICS / "prepare.json")["made_from"],
    )


def table(path: Path, *columns: str) -> pd.DataFrame:
    """A table with these columns; names stay as they are written, be they `001` or `NA`."""
    found = artifacts.read_table(path, *columns, text=True)
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


@dataclass(frozen=True)
class Choice:
    """A row of the table of models.

    Attributes:
        accuracy: by budget, a fraction; best: at which budgets no other method is at least as good in
            accuracy, training time and multiply-adds, and better in one.
    """

    sheet: Sheet
    accuracy: Mapping[str, float]
    best: frozenset[str]

    @property
    def training_seconds(self) -> float:
        """Of pretraining and of finetuning all draws."""
        return float(sum(self.sheet.timings[stage]["seconds"] for stage in ("pretrain", "finetune")))


def choices(sheets: Sequence[Sheet], summary: Mapping[str, Any], budgets: Sequence[str]) -> list[Choice]:
    """Every method beside what it costs, the Pareto-best marked at each budget; without any, none."""
    if not budgets:
        return []
    rows = [
        Choice(sheet, {b: summary[sheet.method][b]["accuracy"] for b in budgets}, frozenset())
        for sheet in sheets
    ]
    return [
        Choice(row.sheet, row.accuracy, frozenset(b for b in budgets if undominated(row, rows, b)))
        for row in rows
    ]


def undominated(row: Choice, rows: Sequence[Choice], budget: str) -> bool:
    """Whether no other row is at least as good in everything and better in something."""

    def goods(one: Choice) -> tuple[float, ...]:
        return (one.accuracy[budget], -one.training_seconds, -one.sheet.model["multiply_adds"])

    own = goods(row)
    return not any(
        all(a >= b for a, b in zip(goods(other), own, strict=True)) and goods(other) != own
        for other in rows
        if other is not row
    )
