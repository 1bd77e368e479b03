"""Reads `labels.csv`, the table of labels, splits and groups in a folder of images."""

import csv
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from stages.errors import InputError
from stages.prepare.causes import summarised
from stages.prepare.label_cells import control_error, is_unlabelled, length_error, measurement, several_labels
from stages.prepare.split_names import SPLITS

TABLE = "labels.csv"
DELIMITERS = ",;\t"
LONGEST_PATH = 4096  # characters; no system has a longer one
LONGEST_TITLE, MOST = 100, 20  # characters and titles in a message


class Row(NamedTuple):
    """The values of a line apart from its file; an empty string means unknown."""

    label: str
    split: str
    group: str

    def known(self) -> dict[str, str]:
        """The values that are not empty, by column."""
        return {name: value for name, value in self._asdict().items() if value}

    def filled(self, other: "Row") -> "Row | None":
        """The row with the values of another where it has none; None if they contradict each other."""
        if any(first and second and first != second for first, second in zip(self, other, strict=True)):
            return None
        return Row(*(first or second for first, second in zip(self, other, strict=True)))


COLUMNS = ("file", *Row._fields)


@dataclass(frozen=True)
class Table:
    """The content of a table.

    Attributes:
        rows: the row of each image; None if the table does not list it.
        errors: what is wrong with it; of one cause the first messages, and how many more there are.
    """

    rows: list[Row | None]
    errors: list[str]

    @property
    def labels(self) -> set[str]:
        """The distinct names of classes."""
        return {row.label for row in self.rows if row and row.label and not is_unlabelled(row.label)}


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

    A file may be listed twice if the lines do not contradict each other, and the header may be repeated: so a
    table can be appended to another as it is.

    Args:
        path: the table.
        files: the images, relative to the folder of the table.

    Raises:
        InputError: the file is not a table, or has no column `file`.
    """
    lines = _lines(path, delimiter(path))
    _, header = next(lines, (0, []))
    names = [title.strip().casefold() for title in header]
    if "file" not in names:
        raise InputError(f"{path}: column file is missing; it has {_short(', '.join(header))}")
    repeated = sorted({name for name in names if names.count(name) > 1})
    errors = [f"{path}: there are two columns {_short(repr(name))}; remove one" for name in repeated[:MOST]]
    titles = [title for title, name in zip(header, names, strict=True) if name not in COLUMNS]
    errors += [
        f"{path}: column {_short(repr(title))} is unknown; allowed: {', '.join(COLUMNS)}"
        for title in titles[:MOST]
    ]
    if (more := len(repeated[MOST:]) + len(titles[MOST:])) > 0:
        errors.append(f"{path}: {more:,} more columns that are repeated or unknown")
    positions = [names.index(name) if name in names else None for name in COLUMNS]
    known = {file: index for index, file in enumerate(files)}
    # Unicode has two ways to write an é, which must match each other.
    composed = {unicodedata.normalize("NFC", file): file for file in known if not file.isascii()}
    rows: list[Row | None] = [None] * len(files)
    distinct: dict[Row, Row] = {}  # equal rows share one object, which saves memory
    wrong: list[tuple[str, str]] = []
    first: dict[str, str] = {}  # label → where it stands first
    for line, fields in lines:
        if [field.strip().casefold() for field in fields] == names:
            continue
        file, *values = ("" if position is None else fields[position] for position in positions)
        row = Row(*(unicodedata.normalize("NFC", value.strip()) for value in values))
        file = _match(path, file, known, composed)
        cause, reason = _error(path, file, row, known)
        if not reason:
            previous = rows[known[file]]
            merged = previous.filled(row) if previous else row
            if previous and merged is None:
                cause = "the file is listed twice, with different values"
                reason = (
                    f"{file} is listed twice, with {previous.known()} and with {row.known()}; keep one line"
                )
            else:
                rows[known[file]] = distinct.setdefault(merged or row, merged or row)
                first.setdefault(row.label, f"{path}, line {line}")
        if reason:
            wrong.append((cause, f"{path}, line {line}: {reason}"))
    labels = {label: where for label, where in first.items() if label and not is_unlabelled(label)}
    errors += summarised(wrong) + several_labels(labels)
    counts = Counter(row.label for row in rows if row and row.label in labels)
    if reason := measurement(counts) if counts else None:
        errors.append(f"{path}: {reason}")
    return Table(rows, errors)


def delimiter(path: Path) -> str:
    """What is between the fields: the first of DELIMITERS by which there is a column `file`, else a comma.

    Raises:
        InputError: the file is not text in UTF-8.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = next((line for line in file if line.strip()), "")
    except ValueError as error:
        raise InputError(f"{path}: is not a readable table ({' '.join(str(error).split())})") from None
    for character in DELIMITERS:
        if "file" in (title.strip(' "\r\n').casefold() for title in header.split(character)):
            return character
    return DELIMITERS[0]


def header(path: Path) -> list[str]:
    """The titles of the columns, as they are written.

    Raises:
        InputError: the file is not a table.
    """
    return next(_lines(path, delimiter(path)), (0, []))[1]


def _lines(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The fields of each line that is not blank, with its number.

    Raises:
        InputError: the file is not CSV in UTF-8, or a line has not as many fields as the header.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader, columns = csv.reader(file, strict=True, delimiter=delimiter), 0
            for fields in reader:
                columns = columns or len(fields)
                if fields and len(fields) != columns:
                    count = f"line {reader.line_num} has {len(fields)} fields"
                    raise ValueError(f"{count}, the header has {columns}")
                if fields:
                    yield reader.line_num, fields
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path}: is not a readable table ({' '.join(str(error).split())})") from None


def _match(path: Path, file: str, known: Mapping[str, int], composed: Mapping[str, str]) -> str:
    """The path in `known` that a table means.

    It may have spaces around it, backslashes, another form of Unicode, or the path of the folder before it.
    """
    if file in known:
        return file
    stripped = PurePosixPath(file.strip()).as_posix() if file.strip() else ""
    parent = path.parent
    above = ["", *(folder.as_posix() for folder in (parent, parent.absolute(), parent.resolve()))]
    for candidate in (stripped, stripped.replace("\\", "/")):
        for folder in above:
            inside = candidate.removeprefix(f"{folder}/") if folder else candidate
            normalised = unicodedata.normalize("NFC", inside)
            for name in (inside, composed.get(normalised, normalised)):
                if name in known:
                    return name
    return stripped


def _error(path: Path, file: str, row: Row, known: Mapping[str, int]) -> tuple[str, str | None]:
    """The cause and a description of what is wrong with a line; None if it is valid."""
    if not file:
        return "the file name is empty", "the file name is empty"
    if len(file) > LONGEST_PATH:
        return "the file name is too long", f"the file name has {len(file):,} characters ({file[:20]!a}…)"
    for column, value in row.known().items():
        if reason := length_error(column, value):
            return f"a {column} is too long", reason
        if reason := control_error(column, value):
            return f"a {column} has control characters", reason
    if file not in known:
        if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
            return (
                "the file is outside the folder",
                f"{file} is outside the folder; allowed: paths relative to {path.parent}",
            )
        return "there is no such image", f"there is no image {file}"
    if row.split and row.split.casefold() not in SPLITS:
        return "the split is unknown", f"split is {row.split!r}; allowed: {', '.join(SPLITS)}"
    return "", None


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TITLE else f"{text[:LONGEST_TITLE]}…"
