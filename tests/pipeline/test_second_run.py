"""Several pretraining runs by the real DVC."""

import json

import pytest

from stages.files.digests import TABLE
from stages.tasks.model_index import read_index
from tests.pipeline.conftest import Project
from tests.pipeline.test_honesty import files

RUN0 = "models/encoders/simclr/run0.safetensors"


@pytest.mark.full
def test_a_second_run_is_added_and_removed_again(project: Project) -> None:
    first = project.read(RUN0)
    before = files(project, "models/classifiers/simclr")
    project.set(pretrain__runs=2)
    output = project.run("dvc", "repro").stdout
    assert "pretrain simclr, run 0: resumed at step 14 of 14" in output
    assert "pretrain simclr, run 1: resumed" not in output
    assert "finetune simclr n10-draw0: resumed at step 4 of 4" in output
    assert "finetune simclr n10-draw1: resumed" not in output
    assert project.read(RUN0) == first
    for method in ("scratch", "simclr"):
        encoders = files(project, f"models/encoders/{method}")
        run0, run1 = (content for name, content in encoders.items() if not name.endswith(TABLE))
        assert run0 != run1
        models = read_index(project.path / "models/classifiers" / method)
        assert [(model.draw, model.run) for model in models] == 2 * [(0, 0), (1, 1)]
    after = files(project, "models/classifiers/simclr")
    assert {name.rpartition("-")[2] for name in after if after[name] != before[name]} == {
        "draw1.safetensors", "models/classifiers/simclr/index.csv", f"models/classifiers/simclr/{TABLE}",
    }  # fmt: skip
    assert "gain" in json.loads(project.read("metrics/summary.json"))["simclr"]["n10"]
    curves = project.read("metrics/training_curves.csv").decode().splitlines()
    assert curves[0].startswith("method,run,step,")
    assert {line.split(",")[1] for line in curves[1:]} == {"0"}

    project.run("git", "checkout", "--quiet", "params.yaml")
    assert project.repro() == []  # from the run cache
    encoders = files(project, "models/encoders/simclr")
    assert encoders.keys() == {RUN0, f"models/encoders/simclr/{TABLE}"}
    assert encoders[RUN0] == first
