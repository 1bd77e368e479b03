"""Weights from another repository or branch: finetuned and compared as they are, or trained further."""

import json
import re
import shutil

import pytest

from tests.pipeline.conftest import Project

ENCODER, FILE = "models/encoders/simclr/run0.safetensors", "models/imported.safetensors"
COLUMN = [
    *("pretrain@imported", "choose@imported", "finetune@imported", "distil@imported", "evaluate@imported"),
    "compare",
]
METHODS = ["scratch", "simclr", "imported"]


@pytest.fixture(scope="module")
def other(baseline: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Another repository, whose encoder was pretrained with another seed."""
    other = baseline.copy(tmp_path_factory.mktemp("other") / "project")
    other.set(seeds__training=2)
    other.run("dvc", "repro", "pretrain@simclr")
    other.commit("another seed")
    return other


def import_encoder(project: Project, other: Project) -> str:
    """What the documentation says: import, name the method, enter the digest that the stage prints."""
    project.run("dvc", "import", str(other.path), ENCODER, "-o", FILE)
    project.set(methods=METHODS)
    refused = project.run("dvc", "repro", check=False)
    assert refused.returncode != 0
    message = re.search(
        r"pretrain\.imported\.start\.digest is null; allowed: (\w+), the digest of", refused.stderr
    )
    assert message, refused.stderr
    project.set(pretrain__imported__start__digest=message[1])
    return message[1]


@pytest.mark.full
def test_an_encoder_of_another_repository_is_a_column_like_the_others(
    project: Project, other: Project
) -> None:
    digest = import_encoder(project, other)
    assert project.repro() == COLUMN
    column = "models/encoders/imported/run0.safetensors"
    assert project.read(column) == other.read(ENCODER) != project.read(ENCODER)
    summary = json.loads(project.read("metrics/summary.json"))
    assert summary["imported"].keys() == summary["simclr"].keys()
    assert "gain" in summary["imported"]["n10"]
    project.commit("imported")

    # Another person gets the file from the remote, by its .dvc file.
    assert (project.path / f"{FILE}.dvc").exists()
    (project.path / FILE).unlink()
    project.run("dvc", "checkout", f"{FILE}.dvc")
    assert project.repro() == []

    # A method that trains may start from the same weights. Only its own column runs again.
    project.set(pretrain__simclr__start={"file": FILE, "digest": digest})
    assert project.repro() == [stage.replace("imported", "simclr") for stage in COLUMN]
    assert project.read(ENCODER) != other.read(ENCODER)
    figures = json.loads(project.read("metrics/pretrain/simclr.json"))
    assert figures["steps"] > 0
    assert figures["knn_untrained"] == json.loads(project.read("metrics/pretrain/imported.json"))["knn"]
    project.run("git", "checkout", "--quiet", "params.yaml")
    assert project.repro() == []  # from the run cache


def test_dvc_get_fetches_an_encoder_of_another_branch(project: Project) -> None:
    project.run("git", "checkout", "--quiet", "-b", "cooler")
    project.set(pretrain__simclr__temperature=0.1)
    project.run("dvc", "repro", "pretrain@simclr")
    project.commit("a lower temperature")
    cooler = project.read(ENCODER)
    project.run("git", "checkout", "--quiet", "main")
    project.run("dvc", "checkout")
    project.run("dvc", "get", ".", ENCODER, "--rev", "cooler", "-o", FILE)
    assert project.read(FILE) == cooler != project.read(ENCODER)
    assert project.run("git", "status", "--porcelain").stdout == ""  # git ignores the file


def test_weights_that_do_not_fit_are_refused_in_one_line(project: Project, other: Project) -> None:
    def refusal() -> str:
        result = project.stage("stages.pretrain", "imported", check=False)
        assert result.returncode == 2
        (line,) = result.stderr.splitlines()
        return line

    project.set(methods=METHODS)
    missing = "pretrain.imported.start.file is 'models/imported.safetensors', which does not exist"
    assert missing in refusal()
    import_encoder(project, other)
    content = (project.path / FILE).read_bytes()
    # The same network, but not the weights that the digest names.
    shutil.copy(project.path / ENCODER, project.path / FILE)
    assert "pretrain.imported.start.digest is" in refusal()
    (project.path / FILE).unlink()
    (project.path / FILE).write_bytes(content[:-8])
    assert FILE in refusal()
    (project.path / FILE).write_bytes(content)
    project.set(encoder__width=12)
    line = refusal()
    assert "pretrain.imported.start.file" in line
    assert "width 8" in line
    assert "width 12" in line
