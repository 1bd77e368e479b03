"""Experiments are run and compared with the commands in the docs; branches are in test_caching.py."""

import io
import re

import pandas as pd
import pytest
from ruamel.yaml import YAML

from tests.pipeline.conftest import Project

RATE = "finetune.recipe.simclr.encoder_learning_rate"


@pytest.mark.full
def test_queued_experiments_are_run_and_shown(project: Project) -> None:
    queued = project.run("dvc", "exp", "run", "--queue", "-S", f"{RATE}=0.01,0.02").stdout
    names = re.findall(r"Queued experiment '(.+?)'", queued)
    assert len(names) == 2
    project.run("dvc", "exp", "run", "--run-all")
    table = pd.read_csv(io.StringIO(project.run("dvc", "exp", "show", "--csv").stdout))
    (rates,) = (column for column in table.columns if column.endswith(RATE))
    assert set(table.set_index("Experiment").loc[names, rates].astype(float)) == {0.01, 0.02}
    unwanted = ".*ci95|.*recall.*|.*gain.*|.*probe"
    shown = project.run("dvc", "exp", "show", "--only-changed", "--md", "--drop", unwanted).stdout
    assert [
        name for name in (*names, "simclr.encoder_learning_rate", "simclr.n10.accuracy") if name not in shown
    ] == []
    assert "ci95" not in shown
    project.run("dvc", "exp", "apply", names[0])
    applied = YAML(typ="safe").load(project.path / "params.yaml")
    assert applied["finetune"]["recipe"]["simclr"]["encoder_learning_rate"] in (0.01, 0.02)
