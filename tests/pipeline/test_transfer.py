"""The transfer table, with real clones and both datasets."""

import pandas as pd
import pytest

from tests.pipeline.conftest import Project

pytestmark = pytest.mark.full
TINY = "data.source: {}\nfinetune.budgets: [10, all]\nfinetune.schedule.epochs: 1\n"


def test_an_encoder_from_the_other_dataset_is_compared_with_one_of_this_dataset(project: Project) -> None:
    for name in ("mnist", "fashion-mnist"):
        (project.path / "experiments" / f"{name}.yaml").write_text(TINY.format(name))
    file = project.path / "benchmarks" / "results" / "transfer.csv"
    file.unlink(missing_ok=True)
    project.commit("experiments")
    project.stage("benchmarks.transfer", "mnist")
    rows = pd.read_csv(file)
    assert set(rows["dataset"]) == {"mnist"}
    assert set(rows["labels"]) == {10}
    names = {"scratch", "simclr", "imported", "imported, then 1 epoch"}
    for protocol in ("linear", "finetuned"):
        table = rows[rows["protocol"] == protocol].set_index("method")
        assert set(table.index) == names
        assert len(table) == len(names)
        assert table["accuracy"].between(0, 1).all()
        assert table["gain"].notna().to_dict() == {name: name != "scratch" for name in names}
        # The imported encoder and the one trained further differ from the encoder of this dataset.
        assert table["accuracy"].nunique() > 1
    assert project.run("git", "status", "--porcelain").stdout.split()[-1] == "benchmarks/results/transfer.csv"


def test_an_unknown_direction_is_refused(project: Project) -> None:
    result = project.stage("benchmarks.transfer", "cifar", check=False)
    assert result.returncode == 2
    assert "usage" in result.stderr
