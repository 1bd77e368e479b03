"""Experiments are run and compared with the commands in the docs; branches are in test_caching.py."""

import io
import re

import pandas as pd
import pytest

from tests.pipeline.conftest import Project


@pytest.mark.full
def test_queued_experiments_are_run_and_shown(project: Project) -> None:
    queued = project.run("dvc", "exp", "run", "--queue", "-S", "finetune.schedule.steps=20,40").stdout
    names = re.findall(r"Queued experiment '(.+?)'", queued)
    assert len(names) == 2
    project.run("dvc", "exp", "run", "--run-all")
    table = pd.read_csv(io.StringIO(project.run("dvc", "exp", "show", "--csv").stdout))
    (steps,) = (column for column in table.columns if column.endswith("finetune.schedule.steps"))
    assert set(table.set_index("Experiment").loc[names, steps].astype(int)) == {20, 40}
    unwanted = ".*ci95|.*recall.*|.*gain.*|.*probe"
    shown = project.run("dvc", "exp", "show", "--only-changed", "--md", "--drop", unwanted).stdout
    assert [name for name in (*names, "schedule.steps", "simclr.n10.accuracy") if name not in shown] == []
    assert "ci95" not in shown
    project.run("dvc", "exp", "apply", names[0])
    assert re.search("^ *steps: (20|40) ", project.read("params.yaml").decode(), re.MULTILINE)
