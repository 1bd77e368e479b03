"""The index of a folder of models: a table that describes each file.

Each stage that makes models writes an index beside them. Stages that use models read indexes, so they do not
depend on the names of other stages.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from stages.errors import InputError
from stages.files.tables import read_table, write_table
from stages.settings.values import BUDGET_NAME

INDEX = "index.csv"


@dataclass(frozen=True)
class Model:
    """One row of an index.

    Attributes:
        file: name of the model's file in the folder of the index.
        protocol: how the encoder is used, such as `finetuned`.
        budget: name of the label budget, such as `n100`.
        draw: number of the label draw.
        run: number of the pretraining run.
        parent: path of the file that the model was made from.
    """

    file: str
    protocol: str
    budget: str
    draw: int
    run: int
    parent: str


COLUMNS = [field.name for field in fields(Model)]
NUMBER = "[0-9]{1,9}", "a number"
ALLOWED = {  # column: pattern, and what it means
    "file": (r"[^/\\\0]+", "the name of a file in this folder"),
    "protocol": ("[A-Za-z0-9_]+", "a name of letters, digits and _"),
    "budget": (BUDGET_NAME, "a budget, such as n100 or nall"),
    "draw": NUMBER,
    "run": NUMBER,
}


def write_index(folder: Path, models: Iterable[Model]) -> None:
    """Write the index of a folder."""
    write_table(folder / INDEX, pd.DataFrame([asdict(model) for model in models], columns=COLUMNS))


def read_index(folder: Path) -> list[Model]:
    """The models of a folder, in the order of its index.

    Raises:
        InputError: the index lacks a column, a field is not what `write_index` writes, or two models have the
            same protocol, budget and draw.
        FileNotFoundError: the folder has no index.
    """
    path = folder / INDEX
    models = []
    for number, row in enumerate(read_table(path, *COLUMNS, text=True).to_dict("records"), start=1):
        for column, (pattern, meaning) in ALLOWED.items():
            if not re.fullmatch(pattern, row[column]):
                raise InputError(
                    f"{path}: column {column}, row {number}, is {row[column]!r}; allowed: {meaning}"
                )
        numbers = {"draw": int(row["draw"]), "run": int(row["run"])}
        models.append(Model(**({column: row[column] for column in COLUMNS} | numbers)))
    of_models = Counter((model.protocol, model.budget, model.draw) for model in models)
    for (protocol, budget, draw), count in of_models.items():
        if count > 1:
            raise InputError(
                f"{path}: has {count} {protocol} models of {budget}, draw {draw}; run `dvc repro`"
            )
    return models
