"""`benchmarks.pretraining` on a few digits."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks import pretraining
from stages.errors import InputError

COMMAND = ["simclr", "pretrain.simclr.images=64", "pretrain.simclr.steps=4", "finetune.budgets=[20, all]"]


@pytest.fixture
def table(small: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The table of results in the working directory of the project."""
    file = small / pretraining.RESULT
    file.parent.mkdir(parents=True)
    monkeypatch.setattr(pretraining, "DRAWS", range(200, 203))
    monkeypatch.setattr(pretraining, "FOLDS", 2)
    monkeypatch.setattr(pretraining, "SPLITS", 1)
    monkeypatch.setattr("stages.tasks.validation.ENOUGH_VALIDATION", 50)
    return file


def test_a_row_for_each_budget_replaces_those_of_the_same_setting(table: Path) -> None:
    pretraining.main(COMMAND)
    first = rows_of(table)
    assert list(first["labels"]) == ["20", "all", pretraining.CROSS_VALIDATED]
    assert first["value"].astype(float).between(0.1, 1).all()
    assert list(first["ci95"].notna()) == [True, False, False]  # all labels are one draw
    assert set(first["data"]) == {"mnist"}
    assert set(first["changes"]) == {" ".join(COMMAND[1:])}
    pretraining.main(["scratch", "finetune.budgets=[20]"])
    pretraining.main(["--run", "1", *COMMAND])
    others = rows_of(table)[3:]
    assert list(others["run"]) == ["0"] * 2 + ["1"] * 3
    assert list(others["value"][2:]) != list(first["value"])
    pretraining.main(COMMAND)
    pd.testing.assert_frame_equal(rows_of(table), pd.concat([others, first], ignore_index=True))


def rows_of(table: Path) -> pd.DataFrame:
    """The table as text, without the measured time."""
    return pd.read_csv(table, dtype=str).drop(columns="seconds")


def test_the_settings_and_images_are_those_of_another_project(
    table: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project = table.parents[2]
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / pretraining.RESULT).parent.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    pretraining.main(["--project", str(project), "--name", "few", "scratch", "finetune.budgets=[20]"])
    assert not table.exists()
    assert list(pd.read_csv(pretraining.RESULT)["data"]) == ["few"] * 2
    assert Path.cwd() == elsewhere


def test_a_change_without_a_value_or_of_prepared_images_is_refused() -> None:
    with pytest.raises(InputError, match=r"^pretrain.runs: allowed: KEY=VALUE, such as "):
        pretraining.parsed("pretrain.runs")
    with pytest.raises(InputError, match=r"^data.image_size=64: the images are prepared already"):
        pretraining.parsed("data.image_size=64")


def test_too_few_labels_in_validation_are_refused(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.tasks.validation.ENOUGH_VALIDATION", 5000)
    monkeypatch.delattr(pretraining, "pretrained")  # nothing is trained before
    with pytest.raises(InputError, match=r"validation\.csv: too few labels to measure on$"):
        pretraining.main(["scratch", "finetune.budgets=[20]"])
    assert not table.exists()
