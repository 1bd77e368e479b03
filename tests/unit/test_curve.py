"""The training curve of a pretraining, and its file."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.pretrain.curve import FULL_LOOKS, LOOKS, POINTS, Look, Record, TrainingCurve, write_curve
from stages.training.loop import Row


def look(step: int, _loss: float | None, full: bool) -> dict[str, Any]:
    """Two columns, a third at a look at all images, and a fourth at step 40."""
    columns: dict[str, Any] = {"feature_std": 0.25, "rankme": step + 0.5}
    if full:
        columns["knn"] = step / 1000
    return columns | ({"alarm": "the loss, in text, stays"} if step == 40 else {})


def row(step: int) -> Row:
    return {"step": step, "loss": None if step == 0 else 1 / step, "learning_rate": step / 7}


def trained(curve: TrainingCurve, start: int, stop: int) -> TrainingCurve:
    """What the training loop does with the curve in these steps."""
    for step in range(start, stop):
        if step == 0 or curve.due(step):
            curve.look(row(step))
    return curve


def writing(file: Path) -> Record:
    """Writes the rows of a curve, the only one, to a file."""
    return lambda rows: write_curve(file, [rows])


def looks_of(steps: int) -> tuple[list[int], list[int], list[int]]:
    """The steps of the rows, those at which the encoder is examined, and those at which on all images."""
    calls: list[tuple[int, bool]] = []

    def counting(step: int, _loss: float | None, full: bool) -> dict[str, Any]:
        calls.append((step, full))
        return {}

    curve = TrainingCurve(None, counting, steps, 0.01)
    for step in range(steps + 1):
        if step in (0, steps) or curve.due(step):  # as in the training loop
            curve.look(row(step))
    return (
        [row["step"] for row in curve.rows],
        [step for step, _ in calls],
        [step for step, full in calls if full],
    )


@pytest.mark.parametrize("steps", [273, 1500, 1719, 40_000])
def test_a_long_training_has_about_100_rows_20_looks_and_5_at_all_images(steps: int) -> None:
    rows, looks, full = looks_of(steps)
    assert POINTS / 2 < len(rows) <= POINTS + 2
    assert LOOKS - 2 <= len(looks) <= LOOKS + 2
    assert FULL_LOOKS <= len(full) <= FULL_LOOKS + 2
    assert set(full) <= set(looks) <= set(rows)
    assert rows[0] == full[0] == 0
    assert rows[-1] == full[-1] == steps
    assert max(later - step for step, later in pairwise(looks)) <= 1.1 * steps / LOOKS + LOOKS


def test_a_short_training_is_examined_at_its_start_and_its_end() -> None:
    assert looks_of(3) == ([0, 1, 2, 3], [0, 3], [0, 3])


def test_a_row_has_its_epoch_and_what_the_look_returns() -> None:
    curve = trained(TrainingCurve(None, look, 40, 1 / 20), 0, 41)
    assert curve.rows[0] == row(0) | {"epoch": 0.0, "feature_std": 0.25, "rankme": 0.5, "knn": 0.0}
    assert curve.rows[1] == row(1) | {"epoch": 0.05}
    assert curve.rows[-1] == row(40) | {"epoch": 2.0} | look(40, None, True)


def test_after_each_row_the_file_is_a_whole_table_of_the_rows_so_far(tmp_path: Path) -> None:
    file = tmp_path / "metrics" / "curve.csv"
    curve = TrainingCurve(writing(file), look, 60, 1 / 20)
    for step in range(61):
        trained(curve, step, step + 1)
        table = pd.read_csv(file)
        assert list(table["step"]) == list(range(step + 1))
        assert list(table.columns[:5]) == ["run", "step", "epoch", "loss", "learning_rate"]
        assert file.read_text().endswith("\n")
        assert table["knn"].notna().sum() == 1 + step // 20
    assert list(tmp_path.rglob("*.csv")) == [file]


@pytest.mark.parametrize("interrupted", [1, 5, 6, 20, 21, 41, 59, 60])
def test_a_resumed_training_continues_the_file_and_ends_with_the_same_bytes(
    interrupted: int, tmp_path: Path
) -> None:
    def curve_in(name: str, look: Look, rows: list[Row] | None = None) -> TrainingCurve:
        return TrainingCurve(writing(tmp_path / name), look, 60, 1 / 20, rows or [])

    trained(curve_in("whole.csv", look), 0, 61)
    first = trained(curve_in("resumed.csv", look), 0, interrupted)
    before = (tmp_path / "resumed.csv").read_bytes()
    (tmp_path / "resumed.csv").unlink()  # DVC deletes it before it starts the stage again
    second = curve_in("resumed.csv", look, first.rows)
    assert (tmp_path / "resumed.csv").read_bytes() == before
    trained(second, interrupted, 61)
    assert (tmp_path / "resumed.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_the_curves_of_earlier_runs_come_first(tmp_path: Path) -> None:
    file = tmp_path / "curve.csv"
    first = trained(TrainingCurve(writing(file), look, 60, 1 / 20), 0, 61).rows
    alone = pd.read_csv(file)
    second = TrainingCurve(lambda rows: write_curve(file, [first, rows]), look, 60, 1 / 20)
    for step in range(61):
        trained(second, step, step + 1)
        table = pd.read_csv(file)
        pd.testing.assert_frame_equal(table[table["run"] == 0], alone)
        assert list(table["run"]) == [0] * 61 + [1] * (step + 1)
        assert list(table["step"]) == [*range(61), *range(step + 1)]


def test_the_note_is_the_last_loss_and_the_last_knn_accuracy() -> None:
    curve = TrainingCurve(None, look, 10, 1 / 5)
    assert curve.note([row(0)]) == ""
    assert curve.note([row(0) | {"knn": 0.25}]) == "kNN 25.0%"
    assert curve.note([row(0) | {"knn": None}]) == ""
    assert curve.note([row(0) | {"knn": 0.5}, row(4)]) == "loss 0.250  kNN 50.0%"


def test_columns_have_one_order_whatever_the_rows_have(tmp_path: Path) -> None:
    rows = [
        {"rankme": 2.0, "learning_rate": 0.1, "loss": None, "step": 0, "epoch": 0.0},
        row(1) | {"epoch": 1.0},
    ]
    write_curve(tmp_path / "curve.csv", [rows])
    expected = (
        "run,step,epoch,loss,learning_rate,rankme\n0,0,0.0,,0.1,2.0\n0,1,1.0,1.0,0.14285714285714285,\n"
    )
    assert (tmp_path / "curve.csv").read_text() == expected
