"""The training curves of a pretraining: a CSV file that grows while the training runs."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stages.files.tables import write_table
from stages.training.loop import Row, Watch

Look = Callable[[int, float | None, bool], dict[str, Any]]  # step, loss, on all images? → columns
Record = Callable[[list[Row]], None]

POINTS = 100  # rows at most, in addition to those of the first and the last step: the file is tracked by git
LOOKS = 20  # about so many rows have the columns of `look_closer`
FULL_LOOKS = 5  # and so many are of all validation images; the first and the last row always are
FIRST_COLUMNS = ("run", "step", "epoch", "loss", "learning_rate")


class TrainingCurve(Watch):
    """Adds the encoder's health to the rows of the training curve, and records the curve.

    Args:
        record: called with all rows at each new one, to write them; None: nothing is written.
        look_closer: returns further columns of a row.
        steps: number of steps of the training.
        per_step: passes through the pool in one step; a fraction of one.
        rows: the rows of an interrupted training that is resumed.
    """

    def __init__(
        self, record: Record | None, look_closer: Look, steps: int, per_step: float, rows: Sequence[Row] = ()
    ) -> None:
        super().__init__()
        self.record, self.look_closer, self.steps, self.per_step = record, look_closer, steps, per_step
        self.every = max(1, math.ceil(steps / POINTS))
        self.rows = list(rows)
        if rows:
            self._write()

    def look(self, row: Row) -> None:
        step = row["step"]
        row["epoch"] = round(step * self.per_step, 3)
        self.rows.append(row)
        full = step == self.steps or step % (self.every * (POINTS // FULL_LOOKS)) == 0
        if full or step % (self.every * (POINTS // LOOKS)) == 0:
            row |= self.look_closer(step, row["loss"], full)
        self._write()

    def _write(self) -> None:
        if self.record is not None:
            self.record(self.rows)

    def note(self, curve: Sequence[Row]) -> str:
        loss, knn = curve[-1]["loss"], [row["knn"] for row in curve if row.get("knn") is not None]
        first = [] if loss is None else [f"loss {loss:.3f}"]  # at step 0 there is none yet
        return "  ".join(first + [f"kNN {accuracy:.1%}" for accuracy in knn[-1:]])


def write_curve(file: Path, runs: Sequence[Sequence[Row]]) -> None:
    """Write the training curves of all runs as CSV, one below the other. The file is replaced as a whole.

    Args:
        runs: the rows of each run.
    """
    table = pd.DataFrame([{"run": run, **row} for run, rows in enumerate(runs) for row in rows])
    further_columns = [name for name in table if name not in FIRST_COLUMNS]
    write_table(file, table[[*FIRST_COLUMNS, *further_columns]])
