"""The index of a folder of models: a table that says what each file is.

Whatever stage makes models writes an index beside them. Who uses models reads indexes, and needs to know no
stage by name.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from stages.errors import InputError
from stages.files.tables import read_table, write_table

INDEX = "index.csv"


@dataclass(frozen=True)
class Model:
    """One row of an index.

    Attributes:
        file: name of the model's file, in the folder of the index.
        protocol: how the encoder was used, such as `finetuned`.
        budget: name of the label budget, such as `n100`.
        draw: number of the label draw; run: number of the pretraining.
        parent: path of the file that it was made from.
    """

    file: str
    protocol: str
    budget: str
    draw: int
    run: int
    parent: str


def write_index(folder: Path, models: Iterable[Model]) -> None:
    """Write the index of a folder."""
    columns = [field.name for field in fields(Model)]
    write_table(folder / INDEX, pd.DataFrame([asdict(model) for model in models], columns=columns))


def read_index(folder: Path) -> list[Model]:
    """The models of a folder, in the order of its index.

    Raises:
        InputError: the index lacks a column, or has a draw or run that is no number.
    """
    path = folder / INDEX
    table = read_table(path, *(field.name for field in fields(Model)), text=True)
    models = []
    for number, row in enumerate(table.to_dict("records"), start=1):
        if not (row["draw"].isdecimal() and row["run"].isdecimal()):
            raise InputError(
                f"{path}, row {number}: draw is {row['draw']!r}, run is {row['run']!r}; allowed: numbers"
            )
        names = {name: row[name] for name in ("file", "protocol", "budget", "parent")}
        models.append(Model(draw=int(row["draw"]), run=int(row["run"]), **names))
    return models
