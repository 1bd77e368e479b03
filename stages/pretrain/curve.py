"""The training curves of a pretraining: a CSV file that grows while the training runs."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stages.files.tables import write_table
from stages.training.loop import Row, Watch

Look = Callable[[int, float | None, bool], dict[str, Any]]  # step, loss, end of an epoch? → columns
Record = Callable[[list[Row]], None]

POINTS = 100  # rows at most, in addition to those at the ends of epochs: the file is tracked by git
LOOKS = 20  # about so many rows have the columns of `look_closer`, in addition to those at the ends of epochs
FIRST_COLUMNS = ("run", "step", "epoch", "loss", "learning_rate")


class TrainingCurve(Watch):
    """Adds the encoder's health to the rows of the training curve, and records the curve.

    Args:
        record: called with all rows at each new one, to write them; None: nothing is written.
        look_closer: returns further columns of a row.
        steps: number of steps of the training.
        per_epoch: number of steps of one epoch.
        rows: the rows of an interrupted training that is resumed.
    """

    def __init__(
        self, record: Record | None, look_closer: Look, steps: int, per_epoch: int, rows: Sequence[Row] = ()
    ) -> None:
        super().__init__()
        self.record, self.look_closer, self.per_epoch = record, look_closer, per_epoch
        self.every = max(1, math.ceil(steps / POINTS))
        self.rows = list(rows)
        if rows:
            self._write()

    def due(self, step: int) -> bool:
        return super().due(step) or step % self.per_epoch == 0

    def look(self, row: Row) -> None:
        end_of_epoch = row["step"] % self.per_epoch == 0
        row["epoch"] = round(row["step"] / self.per_epoch, 3)
        self.rows.append(row)
        if end_of_epoch or len(self.rows) % (POINTS // LOOKS) == 0:
            row |= self.look_closer(row["step"], row["loss"], end_of_epoch)
        self._write()

    def _write(self) -> None:
        if self.record is not None:
            self.record(self.rows)

    def note(self, curve: Sequence[Row]) -> str:
        loss = math.nan if curve[-1]["loss"] is None else curve[-1]["loss"]
        knn = [row["knn"] for row in curve if row.get("knn") is not None]
        return f"loss {loss:.3f}" + (f"  kNN {knn[-1]:.1%}" if knn else "")


def write_curve(file: Path, runs: Sequence[Sequence[Row]]) -> None:
    """Write the training curves of all runs as CSV, one below the other. The file is replaced as a whole.

    Args:
        runs: the rows of each run.
    """
    table = pd.DataFrame([{"run": run, **row} for run, rows in enumerate(runs) for row in rows])
    further_columns = [name for name in table if name not in FIRST_COLUMNS]
    write_table(file, table[[*FIRST_COLUMNS, *further_columns]])
