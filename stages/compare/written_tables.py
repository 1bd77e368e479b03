"""Tables and pictures that other stages have written, checked when they are read."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stages.errors import InputError
from stages.files.tables import read_table
from stages.settings.values import BUDGET_NAME

LARGEST = 1e12  # of numbers without a bound of their own
SHOWN = 60  # characters of a field in a message


@dataclass(frozen=True)
class Number:
    """A column of numbers in a range.

    Attributes:
        low, high: the range, both ends included.
        optional: whether a field may be empty.
    """

    low: float = -LARGEST
    high: float = LARGEST
    optional: bool = False

    def allowed(self) -> str:
        """What a field may be, in words."""
        return f"a number from {self.low:g} to {self.high:g}{', or nothing' if self.optional else ''}"


@dataclass(frozen=True)
class Text:
    """A column of texts; `words` says in words which ones match the pattern."""

    pattern: str = ""
    words: str = "any text"

    def allowed(self) -> str:
        """What a field may be, in words."""
        return self.words


Columns = Mapping[str, Number | Text]
ANY, NAMED, BUDGET = Text(), Text(".", "a name"), Text(BUDGET_NAME, "a budget, such as n100 or nall")
SHARE, COUNT = Number(0, 1), Number(0)

CLASSES: Columns = {"class": NAMED, "pool": COUNT, "validation": COUNT, "test": COUNT}
LEFT_OUT: Columns = {"file": ANY, "reason": ANY, "other": ANY}
CURVE: Columns = {
    "run": COUNT, "step": COUNT, "loss": Number(optional=True), "knn": Number(0, 1, optional=True),
    "rankme": Number(0, optional=True), "feature_std": Number(0, optional=True),
}  # fmt: skip
CONFUSION: Columns = {"budget": BUDGET, "actual": NAMED, "predicted": NAMED, "images": COUNT, "share": SHARE}
RELIABILITY: Columns = {"budget": BUDGET, "confidence": SHARE, "accuracy": SHARE, "share": SHARE}
MISTAKES: Columns = {
    "budget": BUDGET, "id": ANY, "file": ANY, "actual": NAMED, "predicted": NAMED, "probability": SHARE,
}  # fmt: skip
MAP: Columns = {"x": Number(), "y": Number(), "class": NAMED}
EFFICIENCY: Columns = {"protocol": NAMED, "method": NAMED, "draws": Number(1), "runs": Number(1)}


def read_columns(path: Path, columns: Columns) -> pd.DataFrame:
    """Read a CSV table: names stay text, also `001` and `NA`; the columns of numbers become float.

    Raises:
        InputError: the table is damaged, one of `columns` is missing, or a field is not allowed there.
    """
    table = read_table(path, *columns, text=True)
    for name, column in columns.items():
        texts = table[name]
        if isinstance(column, Number):
            table[name] = pd.to_numeric(texts, errors="coerce").astype(float)
            allowed = table[name].between(column.low, column.high)
            allowed |= (texts == "") & column.optional
        else:
            allowed = texts.isin([text for text in set(texts) if re.search(column.pattern, text)])
        if len(wrong := np.flatnonzero(~allowed)):
            row = wrong[0]
            raise InputError(
                f"{path}: column {name}, row {row + 1}, is {texts[row][:SHOWN]!r}; "
                f"allowed: {column.allowed()}; run `dvc repro`"
            )
    return table


def read_picture(path: Path) -> Image.Image:
    """Read a PNG image.

    Raises:
        InputError: the file is damaged, or has more pixels than Pillow thinks safe.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG",)) as image:
                image.load()
                return image.copy()
    except FileNotFoundError:
        raise
    except (
        OSError, ValueError, SyntaxError, Image.DecompressionBombWarning, Image.DecompressionBombError,
    ) as error:  # fmt: skip
        raise InputError(f"{path}: cannot be read as a PNG image ({error}); run `dvc repro`") from None
