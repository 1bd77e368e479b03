"""The transfer table, with real clones and both datasets."""

import pandas as pd
import pytest

from tests.pipeline.conftest import Project

pytestmark = pytest.mark.full
TINY = "data.source: {}\nfinetune.budgets: [10, all]\nfinetune.schedule.epochs: 1\n"


def test_an_encoder_from_the_other_dataset_stands_beside_the_domains_own(project: Project) -> None:
    for name in ("mnist", "fashion-mnist"):
        (project.path / "experiments" / f"{name}.yaml").write_text(TINY.format(name))
    table = project.path / "benchmarks" / "results" / "transfer.csv"
    table.unlink(missing_ok=True)
    project.commit("experiments")
    project.stage("benchmarks.transfer", "mnist")
    rows = pd.read_csv(table)
    assert set(rows["dataset"]) == {"mnist"}
    assert set(rows["labels"]) == {10}
    names = {"scratch", "simclr", "imported", "imported, then 1 epoch"}
    for protocol in ("linear", "finetuned"):
        found = rows[rows["protocol"] == protocol].set_index("method")
        assert set(found.index) == names
        assert len(found) == len(names)
        assert found["accuracy"].between(0, 1).all()
        assert found["gain"].notna().to_dict() == {name: name != "scratch" for name in names}
        # Neither the encoder of the other dataset nor what it becomes is the domain's own.
        assert found["accuracy"].nunique() > 1
    assert project.run("git", "status", "--porcelain").stdout.split()[-1] == "benchmarks/results/transfer.csv"


def test_a_direction_that_is_none_is_refused(project: Project) -> None:
    result = project.stage("benchmarks.transfer", "cifar", check=False)
    assert result.returncode == 2
    assert "usage" in result.stderr
