"""Named experiments by the real `dvc exp run`, and the quality tables from a real clone."""

from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from tests.pipeline.conftest import Project
from tests.pipeline.test_honesty import files

TINY = "methods: [scratch]\nfinetune.budgets: [10, 20]\nfinetune.schedule.warmup: 0.0\n"


@pytest.fixture
def experiment(project: Project) -> Path:
    """A committed experiment that trains little, in a project without quality tables."""
    for table in (project.path / "benchmarks" / "results").glob("quality*.csv"):
        table.unlink()
    file = project.path / "experiments" / "tiny.yaml"
    file.write_text(TINY)
    project.commit("an experiment")
    return file


@pytest.mark.usefixtures("experiment")
def test_an_experiment_is_run_by_dvc_exp_run(project: Project) -> None:
    result = project.stage("stages.tools.experiment", "tiny", "--name", "first")
    assert result.stdout.startswith("dvc exp run -S 'methods=[scratch]' -S 'finetune.budgets=[10,20]' -S ")
    raw = YAML(typ="safe").load(project.path / "params.yaml")
    assert (raw["methods"], raw["finetune"]["budgets"]) == (["scratch"], [10, 20])
    assert raw["finetune"]["schedule"]["warmup"] == 0
    table = pd.read_csv(project.path / "metrics" / "label_efficiency.csv")
    assert set(table[table["protocol"] != "baseline"]["method"]) == {"scratch"}
    assert set(table["labels"]) == {10, 20}
    assert "first" in project.run("dvc", "exp", "list", "--name-only").stdout.split()


def test_a_wrong_key_is_one_line_and_nothing_is_run(project: Project, experiment: Path) -> None:
    before = files(project, "params.yaml") | files(project, "metrics") | files(project, "dvc.lock")
    experiment.write_text("finetune.drawz: 3\n")
    result = project.stage("stages.tools.experiment", "tiny", check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: experiments/tiny.yaml: finetune.drawz: unknown name 'drawz'")
    assert files(project, "params.yaml") | files(project, "metrics") | files(project, "dvc.lock") == before


@pytest.mark.full
@pytest.mark.usefixtures("experiment")
def test_quality_is_measured_in_a_clone_that_shares_the_cache(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    before = files(project, "params.yaml") | files(project, "metrics") | files(project, "dvc.lock")
    results = project.path / "benchmarks" / "results"

    first = project.stage("benchmarks.quality", "tiny").stdout
    assert "Running stage 'finetune@scratch'" in first
    assert "Running stage 'pretrain@scratch'" not in first
    table = pd.read_csv(results / "quality.csv")
    baselines = table["protocol"] == "baseline"
    assert set(table[baselines]["method"]) == {"hog_svm", "majority"}
    table = table[~baselines]
    assert set(map(tuple, table[["dataset", "labels", "protocol", "method"]].to_numpy())) == {
        ("tiny", labels, protocol, "scratch")
        for labels in (10, 20)
        for protocol in ("finetuned", "distilled", "linear")
    }
    assert len(pd.read_csv(results / "quality_timings.csv")) == 1
    assert set(pd.read_csv(results / "quality_gains.csv")["over"]) <= {"baseline"}  # there is one method
    written = {file: file.read_bytes() for file in results.glob("quality*.csv")}

    second = project.stage("benchmarks.quality", "tiny").stdout
    assert "Running stage" not in second
    assert {file: file.read_bytes() for file in results.glob("quality*.csv")} == written
    after = files(project, "params.yaml") | files(project, "metrics") | files(project, "dvc.lock")
    assert after == before
    assert project.run("git", "status", "--porcelain").stdout.split() == [
        word
        for name in sorted(file.name for file in written)
        for word in ("??", f"benchmarks/results/{name}")
    ]
    assert list(temporary.glob("headstart-*")) == []


@pytest.mark.usefixtures("experiment")
def test_an_experiment_that_fails_changes_no_table(project: Project) -> None:
    before = files(project, "benchmarks/results")
    (project.path / "stages" / "prepare" / "parts.py").write_text("raise SystemExit('broken')\n")
    project.commit("broken")
    result = project.stage("benchmarks.quality", "tiny", check=False)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: experiments/tiny.yaml: dvc repro failed")
    assert files(project, "benchmarks/results") == before
