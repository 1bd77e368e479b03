"""`labels.csv`: what a table beside the images says of them, read a line at a time."""

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
    """What a line says of its file; empty: nothing."""

    label: str
    split: str
    group: str

    def given(self) -> dict[str, str]:
        """What is not empty, by the columns' names."""
        return {name: value for name, value in self._asdict().items() if value}


COLUMNS = ("file", *Row._fields)


@dataclass(frozen=True)
class Table:
    """What is said of each image, None of one that is not named; and what is wrong, a line each."""

    rows: list[Row | None]
    wrong: list[str]

    @property
    def labels(self) -> set[str]:
        """All that stand there."""
        return {row.label for row in self.rows if row and row.label}


def found(folder: Path) -> tuple[Path | None, list[str]]:
    """The folder's table, if it has one, however its name is written; and what is wrong with it."""
    tables = sorted(folder / name for name in os.listdir(folder) if name.casefold() == TABLE)
    wrong = [f"{path}: is no file that can be read" for path in tables if not path.is_file()]
    if len(tables) > 1:
        wrong.append(f"{folder}: holds {', '.join(path.name for path in tables)}; allowed: one table")
    return (tables[0] if tables and not wrong else None), wrong


def read(path: Path, files: Sequence[str]) -> Table:
    """What the table says of some files, which are named below its own folder.

    Raises:
        InputError: it is no table, or has no column `file`.
    """
    lines = _lines(path)
    _, heads = next(lines, (0, []))
    names = [head.strip().casefold() for head in heads]
    if "file" not in names:
        raise InputError(f"{path}: column file is missing; it has {', '.join(heads)}")
    again = sorted({name for name in names if names.count(name) > 1})
    wrong = [f"{path}: column {name!r} stands there twice" for name in again] + [
        f"{path}: column {head!r}; allowed: {', '.join(COLUMNS)}"
        for head, name in zip(heads, names, strict=True)
        if name not in COLUMNS
    ]
    places = [names.index(name) if name in names else None for name in COLUMNS]
    known = {file: number for number, file in enumerate(files)}
    # An é may be written in two ways; a name in ASCII cannot.
    same = {unicodedata.normalize("NFC", file): file for file in known if not file.isascii()}
    rows: list[Row | None] = [None] * len(files)
    kinds: dict[Row, Row] = {}  # of which many images have the same
    for line, fields in lines:
        file, *values = ("" if place is None else fields[place] for place in places)
        row = Row(*(value.strip() for value in values))
        file = _written_as(file, known, same)
        reason = _refusal(path, file, row, known)
        old = None if reason else rows[known[file]]
        if old not in (None, row):
            reason = f"{file} stands there twice, as {old.given() if old else {}} and as {row.given()}"
        if reason:
            wrong.append(f"{path}, line {line}: {reason}")
        else:
            rows[known[file]] = kinds.setdefault(row, row)
    return Table(rows, wrong)


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The fields of each line that has some, with its number; InputError where this is no table."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader, head = csv.reader(file, strict=True), 0
            for fields in reader:
                head = head or len(fields)
                if fields and len(fields) != head:
                    raise ValueError(f"line {reader.line_num} has {len(fields)} fields, its head {head}")
                if fields:
                    yield reader.line_num, fields
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path}: is no readable table ({' '.join(str(error).split())})") from None


def _written_as(file: str, known: Mapping[str, int], same: Mapping[str, str]) -> str:
    """The name of a file as the folder has it: without blanks around it, or with an accent in another way."""
    if file in known:
        return file
    file = PurePosixPath(file.strip()).as_posix() if file.strip() else ""
    if file in known:
        return file
    composed = unicodedata.normalize("NFC", file)
    return same.get(composed, composed if composed in known else file)


def _refusal(path: Path, file: str, row: Row, known: Mapping[str, int]) -> str | None:
    """What is wrong with a line, if something is."""
    if not file:
        return "names no file"
    if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
        return f"{file} leaves the folder; allowed: paths below {path.parent}"
    if file not in known:
        return f"there is no image {file}"
    if row.split and row.split.casefold() not in SPLITS:
        return f"split is {row.split!r}; allowed: {', '.join(SPLITS)}"
    return None
