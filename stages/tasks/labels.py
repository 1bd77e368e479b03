"""Labels as class numbers, and the names of the classes."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.errors import InputError
from stages.files.json_files import read_json
from stages.files.paths import IMAGES, LABELS
from stages.files.tables import read_table


def read_labels(path: Path) -> Tensor:
    """The `label` column of a table, int64 (N,): an index into the classes; where it is empty, -1."""
    column = read_table(path, "label", text=True)["label"].fillna("")
    numbers = {text: class_number(text) for text in set(column)}
    found = [numbers[text] for text in column]
    if None in found:
        row = found.index(None)
        raise InputError(
            f"{path}: column label, row {row + 1}, is {column.iloc[row]!r}; "
            "allowed: the number of a class, or nothing"
        )
    return torch.tensor(found, dtype=torch.int64)


def class_number(text: str) -> int | None:
    """The number of a class as it stands in a table; -1: nothing stands there; None: it is no number."""
    # NOTE: not by pandas, which asks another library where it is installed, and that one lets "\0" through.
    return int(text or -1) if re.fullmatch("[0-9]{0,9}", text) else None


def read_pool_labels() -> tuple[Tensor, list[str]]:
    """The label of each image of the pool, int64 (N,), -1 where it has none, and the names of the classes.

    Raises:
        InputError: the labels are not those of the pool's images, row by row, or are no classes.
    """
    path, classes = LABELS / "pool.csv", read_json(LABELS / "classes.json")
    if not are_names(classes):
        raise InputError(f"{LABELS / 'classes.json'}: is no list of different names")
    ids, expected = (read_table(file, "id", text=True)["id"] for file in (path, IMAGES / "pool.csv"))
    if not ids.equals(expected):
        raise InputError(f"{path}: its ids are not those of {IMAGES / 'pool.csv'}, row by row")
    labels = read_labels(path)
    if len(bad := (labels >= len(classes)).nonzero()):
        row = int(bad[0])
        raise InputError(
            f"{path}: column label, row {row + 1}, is {int(labels[row])}; "
            f"allowed: 0 to {len(classes) - 1}, the number of a class in {LABELS / 'classes.json'}"
        )
    return labels, classes


def are_names(classes: Any) -> bool:
    """Whether something read is a list of names that differ, that are not empty and that can be printed."""
    if not isinstance(classes, list) or not all(isinstance(name, str) and name for name in classes):
        return False
    try:
        "".join(classes).encode()
    except UnicodeEncodeError:  # JSON can hold one half of a character
        return False
    return len(set(classes)) == len(classes)
