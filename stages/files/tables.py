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
    """Write a table as CSV, without its index."""
    write_pieces(path, [table])


def write_pieces(path: Path, pieces: Iterable[pd.DataFrame]) -> None:
    """Write a table as CSV from pieces with the same columns; there must be at least one piece."""
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        for number, piece in enumerate(pieces):
            piece.to_csv(file, index=False, header=number == 0, lineterminator="\n")


def read_table(path: Path, *columns: str, text: bool = False) -> pd.DataFrame:
    """Read a CSV table.

    Args:
        columns: columns that it must have.
        text: read every field as a string.

    Raises:
        InputError: it is not a valid table, or a column is missing.
    """
    as_text: dict[str, Any] = {"dtype": str, "keep_default_na": False} if text else {}
    try:
        with warnings.catch_warnings():
            # For lines with more fields than the header.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table: pd.DataFrame = pd.read_csv(path, index_col=False, **as_text)
        _require_complete_lines(path)
    except (ValueError, csv.Error, pd.errors.ParserWarning) as error:
        raise InputError(f"{path}: is not a readable table ({' '.join(str(error).split())})") from None
    if missing := [name for name in columns if name not in table.columns]:
        present = ", ".join(map(str, table.columns))
        raise InputError(f"{path}: column {', '.join(missing)} is missing; it has {present}")
    return table


def _require_complete_lines(path: Path) -> None:
    """Raise a ValueError for fields that pandas may read as empty: missing ones, and after a zero byte."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        for line in lines:
            if 0 < len(line) < len(header):
                raise ValueError(f"line {lines.line_num} has {len(line)} fields, the header {len(header)}")
            if any("\0" in field for field in line):
                raise ValueError(f"line {lines.line_num} has a zero byte")
