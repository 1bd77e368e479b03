"""An encoder from another repository: finetuned and compared like the others, trained further or not."""

import json
import re
import shutil

import pytest

from tests.pipeline.conftest import Project

ENCODER, FILE = "models/encoders/simclr.safetensors", "models/imported.safetensors"
COLUMN = ["pretrain@imported", "finetune@imported", "evaluate@imported", "compare"]
ALL = ["scratch", "simclr", "imported"]


@pytest.fixture(scope="module")
def other(baseline: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Another repository, whose encoder was trained from another seed."""
    other = Project(tmp_path_factory.mktemp("other") / "project")
    shutil.copytree(baseline.path, other.path, symlinks=True)
    other.set(seed=2)
    other.run("dvc", "repro", "pretrain@simclr")
    other.commit("another seed")
    return other


def imported(project: Project, other: Project) -> None:
    """What the README says: import, name the method, write the digest that the stage asks for."""
    project.run("dvc", "import", str(other.path), ENCODER, "-o", FILE)
    project.set(methods=ALL)
    refused = project.run("dvc", "repro", check=False)
    assert refused.returncode != 0
    found = re.search(r"pretrain\.imported\.digest is null; allowed: (\w+), which is what", refused.stderr)
    assert found, refused.stderr
    project.set(pretrain__imported__digest=found[1])


def test_an_encoder_of_another_repository_is_a_column_like_the_others(
    project: Project, other: Project
) -> None:
    imported(project, other)
    assert project.repro() == COLUMN
    column = "models/encoders/imported.safetensors"
    assert project.read(column) == other.read(ENCODER) != project.read(ENCODER)
    summary = json.loads(project.read("metrics/summary.json"))
    assert summary["imported"].keys() == summary["simclr"].keys()
    assert "gain" in summary["imported"]["n10"]
    project.commit("imported")

    # Another person has the file from the remote, by its .dvc file.
    assert (project.path / f"{FILE}.dvc").exists()
    (project.path / FILE).unlink()
    project.run("dvc", "checkout", f"{FILE}.dvc")
    assert project.repro() == []

    project.set(pretrain__imported__epochs=1)
    assert project.repro() == COLUMN
    further = project.read(column)
    assert further != other.read(ENCODER)
    figures = json.loads(project.read("metrics/pretrain/imported.json"))
    before = json.loads(other.read("metrics/pretrain/simclr.json"))
    assert figures["steps"] > 0
    assert figures["parameters"] == before["parameters"]
    project.set(pretrain__imported__epochs=0)
    assert project.repro() == []  # from the run cache
    assert project.read(column) == other.read(ENCODER)


def test_an_encoder_of_another_branch_is_had_by_dvc_get(project: Project) -> None:
    project.run("git", "checkout", "--quiet", "-b", "cooler")
    project.set(pretrain__simclr__temperature=0.1)
    project.run("dvc", "repro", "pretrain@simclr")
    project.commit("a lower temperature")
    cooler = project.read(ENCODER)
    project.run("git", "checkout", "--quiet", "main")
    project.run("dvc", "checkout")
    project.run("dvc", "get", ".", ENCODER, "--rev", "cooler", "-o", FILE)
    assert project.read(FILE) == cooler != project.read(ENCODER)
    assert project.run("git", "status", "--porcelain").stdout == ""  # it is no file for git


def test_what_does_not_fit_is_refused_in_one_line(project: Project, other: Project) -> None:
    def refusal() -> str:
        result = project.stage("stages.pretrain", "imported", check=False)
        assert result.returncode == 2
        (line,) = result.stderr.splitlines()
        return line

    project.set(methods=ALL)
    assert "pretrain.imported.file is 'models/imported.safetensors', which is not here" in refusal()
    imported(project, other)
    right = (project.path / FILE).read_bytes()
    # Of the same network, but not the one that is named.
    shutil.copy(project.path / ENCODER, project.path / FILE)
    assert "pretrain.imported.digest is" in refusal()
    (project.path / FILE).unlink()
    (project.path / FILE).write_bytes(right[:-8])
    assert FILE in refusal()
    (project.path / FILE).write_bytes(right)
    project.set(encoder__width=12)
    line = refusal()
    assert "width 8" in line
    assert "width 12" in line
