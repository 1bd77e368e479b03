"""Branches and experiments are compared with the commands in the README."""

import io
import json
import re

import pandas as pd
import pytest

from tests.pipeline.conftest import Project

KEY = "pretrain.simclr.temperature"


@pytest.fixture
def branch(project: Project) -> Project:
    """On a branch with another temperature, reproduced and committed."""
    project.run("git", "checkout", "--quiet", "-b", "cooler")
    project.set(pretrain__simclr__temperature=0.2)
    project.repro()
    project.commit("A lower temperature")
    return project


def test_branches_are_compared(branch: Project) -> None:
    difference = json.loads(branch.run("dvc", "params", "diff", "main", "--json").stdout)
    assert difference == {"params.yaml": {KEY: {"old": 1.0, "new": 0.2, "diff": -0.8}}}
    assert KEY in branch.run("dvc", "params", "diff", "main").stdout

    command = ["dvc", "metrics", "diff", "main", "--json", "--targets", "metrics/summary.json"]
    (changes,) = json.loads(branch.run(*command).stdout).values()
    assert changes
    assert all(key.startswith("simclr.") for key in changes)  # scratch does not depend on it
    old = json.loads(branch.run("git", "show", "main:metrics/summary.json").stdout)
    for key, change in changes.items():
        method, budget, figure = key.split(".")
        assert change["old"] == old[method][budget].get(figure)  # equal draws have no interval

    page = branch.run("dvc", "plots", "diff", "main").stdout.strip().removeprefix("file://")
    with open(page, encoding="utf-8") as file:
        content = file.read()
    assert "simclr" in content
    assert '"rev": "main"' in content.replace('":"', '": "')


@pytest.mark.full
def test_queued_experiments_are_run_and_shown(project: Project) -> None:
    queued = project.run("dvc", "exp", "run", "--queue", "-S", "finetune.schedule.steps=3,5").stdout
    names = re.findall(r"Queued experiment '(.+?)'", queued)
    assert len(names) == 2
    project.run("dvc", "exp", "run", "--run-all")
    table = pd.read_csv(io.StringIO(project.run("dvc", "exp", "show", "--csv").stdout))
    (steps,) = (column for column in table.columns if column.endswith("finetune.schedule.steps"))
    assert set(table.set_index("Experiment").loc[names, steps].astype(int)) == {3, 5}
    unwanted = ".*ci95|.*recall.*|.*gain.*|.*probe"
    shown = project.run("dvc", "exp", "show", "--only-changed", "--md", "--drop", unwanted).stdout
    assert [
        name for name in (*names, "finetune.schedule.steps", "simclr.n10.accuracy") if name not in shown
    ] == []
    assert "ci95" not in shown
    project.run("dvc", "exp", "apply", names[0])
    assert re.search("^ *steps: [35] ", project.read("params.yaml").decode(), re.MULTILINE)
