"""The training curve of a pretraining: written row by row, so that a long run can be watched."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stages.files.tables import write_table
from stages.training.loop import Row, Watch

Look = Callable[[int, float | None, bool], dict[str, Any]]  # step, loss, at the end of an epoch → columns

POINTS = 100  # rows of the curve at most, beside those at the ends of epochs, so that it stays small in git
LOOKS = 20  # at the encoder's health in the whole run, beside those at the ends of epochs
ORDER = ("step", "epoch", "loss", "learning_rate")  # the first columns


class TrainingCurve(Watch):
    """Looks at the encoder while it is trained, and writes the curve.

    Args:
        file: the curve as CSV, which is written again as a whole for each new row; None: no file.
        look_closer: returns further columns of a row.
        steps: of the training; per_epoch: of one epoch.
        rows: those of an interrupted run that is resumed.
    """

    def __init__(
        self, file: Path | None, look_closer: Look, steps: int, per_epoch: int, rows: Sequence[Row] = ()
    ) -> None:
        self.file, self.look_closer, self.per_epoch = file, look_closer, per_epoch
        self.every = max(1, math.ceil(steps / POINTS))
        self.rows = list(rows)
        if rows:
            self._write()

    def due(self, step: int) -> bool:
        return super().due(step) or step % self.per_epoch == 0

    def look(self, row: Row) -> None:
        at_epoch = row["step"] % self.per_epoch == 0
        row["epoch"] = round(row["step"] / self.per_epoch, 3)
        self.rows.append(row)
        if at_epoch or len(self.rows) % (POINTS // LOOKS) == 0:
            row |= self.look_closer(row["step"], row["loss"], at_epoch)
        self._write()

    def _write(self) -> None:
        if self.file is not None:
            write_curve(self.file, self.rows)

    def note(self, curve: Sequence[Row]) -> str:
        loss = math.nan if curve[-1]["loss"] is None else curve[-1]["loss"]
        knn = [row["knn"] for row in curve if row.get("knn") is not None]
        return f"loss {loss:.3f}" + (f"  kNN {knn[-1]:.1%}" if knn else "")


def write_curve(file: Path, rows: Sequence[Row]) -> None:
    """Write the rows of a curve as CSV."""
    table = pd.DataFrame(rows)
    write_table(file, table[[*ORDER, *(name for name in table if name not in ORDER)]])
