"""Reads `labels.csv`, the table of labels, splits and groups in a folder of images."""

import csv
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from stages.errors import InputError

TABLE = "labels.csv"
SPLITS = {
    "train": "train", "validation": "validation", "val": "validation", "valid": "validation", "test": "test"
}  # fmt: skip


class Row(NamedTuple):
    """The values of a line apart from its file; an empty string means unknown."""

    label: str
    split: str
    group: str

    def known(self) -> dict[str, str]:
        """The values that are not empty, by column."""
        return {name: value for name, value in self._asdict().items() if value}


COLUMNS = ("file", *Row._fields)


@dataclass(frozen=True)
class Table:
    """The content of a table.

    Attributes:
        rows: the row of each image; None if the table does not list it.
        errors: one message for each wrong line.
    """

    rows: list[Row | None]
    errors: list[str]

    @property
    def labels(self) -> set[str]:
        """The distinct labels."""
        return {row.label for row in self.rows if row and row.label}


def find(folder: Path) -> tuple[Path | None, list[str]]:
    """The table of a folder, if it has one, whatever the case of its name; and what is wrong with it."""
    tables = sorted(folder / name for name in os.listdir(folder) if name.casefold() == TABLE)
    errors = [f"{path}: is not a readable file" for path in tables if not path.is_file()]
    if len(tables) > 1:
        errors.append(
            f"{folder}: has more than one table ({', '.join(path.name for path in tables)}); keep one"
        )
    return (tables[0] if tables and not errors else None), errors


def read(path: Path, files: Sequence[str]) -> Table:
    """Read a table, one line at a time.

    Args:
        path: the table.
        files: the images, relative to the folder of the table.

    Raises:
        InputError: the file is not a table, or has no column `file`.
    """
    lines = _lines(path)
    _, header = next(lines, (0, []))
    names = [title.strip().casefold() for title in header]
    if "file" not in names:
        raise InputError(f"{path}: column file is missing; it has {', '.join(header)}")
    repeated = sorted({name for name in names if names.count(name) > 1})
    errors = [f"{path}: there are two columns {name!r}; remove one" for name in repeated] + [
        f"{path}: column {title!r} is unknown; allowed: {', '.join(COLUMNS)}"
        for title, name in zip(header, names, strict=True)
        if name not in COLUMNS
    ]
    positions = [names.index(name) if name in names else None for name in COLUMNS]
    known = {file: index for index, file in enumerate(files)}
    # Unicode has two ways to write an é, which must match each other.
    composed = {unicodedata.normalize("NFC", file): file for file in known if not file.isascii()}
    rows: list[Row | None] = [None] * len(files)
    distinct: dict[Row, Row] = {}  # equal rows share one object, which saves memory
    for line, fields in lines:
        file, *values = ("" if position is None else fields[position] for position in positions)
        row = Row(*(value.strip() for value in values))
        file = _match(file, known, composed)
        reason = _error(path, file, row, known)
        previous = None if reason else rows[known[file]]
        if previous not in (None, row):
            was = previous.known() if previous else {}
            reason = f"{file} is listed twice, with {was} and with {row.known()}; keep one line"
        if reason:
            errors.append(f"{path}, line {line}: {reason}")
        else:
            rows[known[file]] = distinct.setdefault(row, row)
    return Table(rows, errors)


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The fields of each line that is not blank, with its number.

    Raises:
        InputError: the file is not CSV in UTF-8, or a line has not as many fields as the header.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader, columns = csv.reader(file, strict=True), 0
            for fields in reader:
                columns = columns or len(fields)
                if fields and len(fields) != columns:
                    count = f"line {reader.line_num} has {len(fields)} fields"
                    raise ValueError(f"{count}, the header has {columns}")
                if fields:
                    yield reader.line_num, fields
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path}: is not a readable table ({' '.join(str(error).split())})") from None


def _match(file: str, known: Mapping[str, int], composed: Mapping[str, str]) -> str:
    """The path in `known` that a table means: it may have spaces around it, or another form of Unicode."""
    if file in known:
        return file
    file = PurePosixPath(file.strip()).as_posix() if file.strip() else ""
    if file in known:
        return file
    normalised = unicodedata.normalize("NFC", file)
    return composed.get(normalised, normalised if normalised in known else file)


def _error(path: Path, file: str, row: Row, known: Mapping[str, int]) -> str | None:
    """What is wrong with a line; None if it is valid."""
    if not file:
        return "the file name is empty"
    if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
        return f"{file} is outside the folder; allowed: paths relative to {path.parent}"
    if file not in known:
        return f"there is no image {file}"
    if row.split and row.split.casefold() not in SPLITS:
        return f"split is {row.split!r}; allowed: {', '.join(SPLITS)}"
    return None
