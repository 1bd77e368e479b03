"""Sharing through remotes: a folder, a real sshd, a real S3 server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.pipeline import servers
from tests.pipeline.conftest import Project
from tests.pipeline.servers import Remote
from tests.pipeline.test_honesty import files

pytestmark = pytest.mark.full
ENCODER = "models/encoders/simclr/run0.safetensors"
STAGE_OUTPUTS = (
    "data/prepared",
    "data/baselines",
    "data/predictions",
    "models/encoders",
    "models/recipes",
    "models/classifiers",
    "models/distilled",
    "metrics",
)


@pytest.fixture
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Remote]:
    """The remote that a test names: `local`, `ssh` or `s3`."""
    folder = tmp_path / "server"
    folder.mkdir()
    with getattr(servers, request.param)(folder) as remote:
        yield remote


def use(project: Project, remote: Remote) -> None:
    """Set up the secrets, which each person has on their own machine, outside git."""
    for key, value in remote.secret.items():
        project.run("dvc", "remote", "modify", "--local", "store", key, value)


def outputs(project: Project) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    for folder in STAGE_OUTPUTS:
        contents |= files(project, folder)
    return contents


def clone(origin: Project, path: Path, remote: Remote) -> Project:
    origin.run("git", "clone", "--quiet", str(origin.path), str(path))
    project = Project(path)
    use(project, remote)
    return project


def shared(project: Project, remote: Remote) -> Project:
    """The project with a default remote, committed."""
    project.run("dvc", "remote", "add", "--default", "store", remote.url)
    for key, value in remote.public.items():
        project.run("dvc", "remote", "modify", "store", key, value)
    use(project, remote)
    project.commit("a remote")
    return project


@pytest.mark.parametrize("remote", ["ssh", "s3"], indirect=True)
def test_a_server_gives_a_colleague_all_results(remote: Remote, project: Project, tmp_path: Path) -> None:
    anna = shared(project, remote)
    anna.run("dvc", "push", "--run-cache")
    ben = clone(anna, tmp_path / "ben", remote)
    assert files(ben, "models") == {}
    ben.run("make", "pull", "--assume-old=.venv/.requirements.lock")  # the tests have an environment
    assert outputs(ben) == outputs(anna)
    assert ben.run("git", "status", "--porcelain").stdout == ""
    assert ben.repro() == []
    # Cara downloads one file alone.
    cara = clone(anna, tmp_path / "cara", remote)
    cara.run("dvc", "pull", "pretrain@simclr")
    assert cara.read(ENCODER) == anna.read(ENCODER)
    assert files(cara, "models/classifiers") == {}
    assert_no_secrets_in_git(anna, remote)


@pytest.mark.parametrize("remote", ["local"], indirect=True)
def test_a_colleague_pulls_all_results_and_runs_nothing(
    remote: Remote, project: Project, tmp_path: Path
) -> None:
    anna = shared(project, remote)
    # The results of a branch are shared too.
    anna.run("git", "checkout", "--quiet", "-b", "heavier")
    anna.set(finetune__recipe__simclr__weight_decay=0.75)
    assert "finetune@simclr" in anna.repro()
    anna.commit("a larger weight decay")
    heavier = outputs(anna)
    anna.run("git", "checkout", "--quiet", "main")
    anna.run("dvc", "checkout")
    assert anna.repro() == []
    anna.run("dvc", "push", "--run-cache", "--all-branches")

    ben = clone(anna, tmp_path / "ben", remote)
    assert files(ben, "models") == {}
    ben.run("make", "pull", "--assume-old=.venv/.requirements.lock")  # the tests have an environment
    assert outputs(ben) == outputs(anna)
    assert ben.run("git", "status", "--porcelain").stdout == ""
    assert ben.repro() == []
    ben.set(finetune__recipe__simclr__weight_decay=0.25)
    assert ben.repro() == ["choose@simclr", "finetune@simclr", "distil@simclr", "evaluate@simclr", "compare"]
    assert outputs(ben) != outputs(anna)
    ben.run("git", "checkout", "--quiet", "params.yaml")
    assert ben.repro() == []
    assert outputs(ben) == outputs(anna)
    ben.run("git", "checkout", "--quiet", "heavier")
    ben.run("dvc", "pull")
    assert outputs(ben) == heavier
    assert ben.repro() == []

    # Cara runs one column, and downloads only what it needs.
    cara = clone(anna, tmp_path / "cara", remote)
    assert cara.repro("--pull", "--allow-missing") == []
    assert files(cara, "models") == {}
    cara.run("dvc", "pull", "evaluate@scratch")  # compare pairs the predictions of all methods
    cara.set(finetune__recipe__simclr__weight_decay=0.25)
    assert cara.repro("--pull", "--allow-missing") == [
        "choose@simclr",
        "finetune@simclr",
        "distil@simclr",
        "evaluate@simclr",
        "compare",
    ]
    cached = {file.parent.name + file.name for file in (cara.path / ".dvc/cache/files/md5").rglob("*")}
    assert hash_of(cara, "pretrain@simclr") in cached
    assert hash_of(cara, "pretrain@scratch") not in cached
    pulled = files(cara, "models") | files(cara, "data/predictions") | files(cara, "data/prepared")
    assert ENCODER in pulled
    assert "models/encoders/scratch/run0.safetensors" not in pulled
    others = ("models/classifiers/scratch", "models/distilled/scratch")
    assert [name for name in pulled if name.startswith(others)] == []


def hash_of(project: Project, stage: str) -> str:
    """The content hash of a stage's first output, an encoder."""
    stages = YAML(typ="safe").load(project.path / "dvc.lock")["stages"]
    (digest,) = (out["md5"] for out in stages[stage]["outs"] if out["path"].startswith("models/encoders"))
    return str(digest)


def assert_no_secrets_in_git(project: Project, remote: Remote) -> None:
    tracked = project.run("git", "ls-files", ".dvc").stdout.split()
    assert ".dvc/config" in tracked
    assert ".dvc/config.local" not in tracked
    for secret in remote.secret.values():
        result = project.run("git", "grep", "--cached", "--fixed-strings", secret, check=False)
        assert result.returncode == 1, result.stdout
