"""Tables as CSV files."""

import csv
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from stages.errors import InputError
from stages.files.whole import whole_file


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, without its row numbers."""
    write_pieces(path, [table])


def write_pieces(path: Path, pieces: Iterable[pd.DataFrame]) -> None:
    """Write a table that is made a piece at a time: of the same columns, and at least one."""
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        for number, piece in enumerate(pieces):
            piece.to_csv(file, index=False, header=number == 0, lineterminator="\n")


def read_table(path: Path, *columns: str, text: bool = False) -> pd.DataFrame:
    """Read a CSV table and make sure that it has `columns`; `text`: leave every field as it is written."""
    as_text: dict[str, Any] = {"dtype": str, "keep_default_na": False} if text else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of lines with more fields than the head
            table: pd.DataFrame = pd.read_csv(path, index_col=False, **as_text)
        _require_whole_lines(path)
    except (ValueError, csv.Error, pd.errors.ParserWarning) as error:
        raise InputError(f"{path}: is no readable table ({' '.join(str(error).split())})") from None
    if missing := [name for name in columns if name not in table.columns]:
        has = ", ".join(map(str, table.columns))
        raise InputError(f"{path}: column {', '.join(missing)} is missing; it has {has}")
    return table


def _require_whole_lines(path: Path) -> None:
    """Refuse a line with fewer fields than the head (ValueError): pandas takes what is cut off for empty."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        head = next(lines, [])
        for line in lines:
            if 0 < len(line) < len(head):
                raise ValueError(f"line {lines.line_num} has {len(line)} fields, its head {len(head)}")
