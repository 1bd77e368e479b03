"""Labels as class numbers, and the names of the classes."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stages.errors import InputError, has_control
from stages.files.json_files import read_json
from stages.files.paths import IMAGES, LABELS
from stages.files.tables import read_table


def read_labels(path: Path, classes: int | None = None) -> Tensor:
    """The `label` column of a table, int64 (N,): indices of classes; -1: the field is empty.

    Args:
        classes: how many there are; None: not known, as in pretraining, which does not see their names.

    Raises:
        InputError: a label is not the number of a class.
    """
    column = read_table(path, "label", text=True)["label"].fillna("")
    parsed = {text: class_number(text) for text in set(column)}
    labels = [parsed[text] for text in column]
    if None in labels:
        row = labels.index(None)
        raise InputError(
            f"{path}: column label, row {row + 1}, is {column.iloc[row]!r}; "
            "allowed: the number of a class, or an empty field"
        )
    numbers = torch.tensor(labels, dtype=torch.int64)
    if classes is not None and len(invalid := (numbers >= classes).nonzero()):
        row = int(invalid[0])
        raise InputError(
            f"{path}: column label, row {row + 1}, is {int(numbers[row])}; "
            f"allowed: 0 to {classes - 1}, the numbers of the classes in {LABELS / 'classes.json'}"
        )
    return numbers


def read_groups(path: Path) -> Tensor:
    """The `group` column of a table as numbers, int64 (N,); an image without one is a group of its own."""
    return torch.from_numpy(units_of(read_table(path, text=True)))


def units_of(table: pd.DataFrame) -> np.ndarray:
    """The unit of each image of a table, (N,), from 0 on: its group, or the image alone where it has none."""
    if "group" not in table:
        return np.arange(len(table))
    groups = table["group"].fillna("").tolist()
    names = [("group", group) if group else ("row", str(row)) for row, group in enumerate(groups)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], np.int64)


def class_number(text: str) -> int | None:
    """The number of a class from a field of a table; -1: the field is empty; None: it is not a number."""
    # NOTE: not parsed by pandas: with PyArrow installed, its text methods accept "\0".
    return int(text or -1) if re.fullmatch("[0-9]{0,9}", text) else None


def read_pool_labels() -> tuple[Tensor, list[str]]:
    """The label of each image of the pool, int64 (N,), -1: none, and the names of the classes.

    Raises:
        InputError: the table does not have the rows of the pool's table, or a label is not a class.
    """
    path, classes = LABELS / "pool.csv", read_json(LABELS / "classes.json")
    if not are_class_names(classes):
        raise InputError(f"{LABELS / 'classes.json'}: is not a list of distinct names")
    ids, expected = (read_table(file, "id", text=True)["id"] for file in (path, IMAGES / "pool.csv"))
    if not ids.equals(expected):
        raise InputError(f"{path}: its ids differ from those of {IMAGES / 'pool.csv'}; run `dvc repro`")
    return read_labels(path, len(classes)), classes


def are_class_names(classes: Any) -> bool:
    """Whether a value from a file is a list of distinct, non-empty strings that can be encoded and shown."""
    if not isinstance(classes, list) or not all(isinstance(name, str) and name for name in classes):
        return False
    try:
        "".join(classes).encode()
    except UnicodeEncodeError:  # JSON can hold half of a surrogate pair
        return False
    return len(set(classes)) == len(classes) and not any(map(has_control, classes))
