"""A real project in a temporary repository: a copy of this one with small parameters, run once."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.pipeline import warm as interpreter

ROOT = Path(__file__).parents[2]
SMALL = {
    "data.source": "mnist",
    "data.path": "data/raw",
    "views.pretrain": "digits",
    "views.finetune": "digits",
    "encoder.name": "residual",
    "runtime.threads": {"pretrain": 1, "finetune": 1, "evaluate": 1},  # two are slow on a busy machine
    "methods": ["scratch", "simclr"],
    "data.validation": 100,
    "data.train_limit": 600,
    "data.test_limit": 200,
    "encoder.width": 8,
    "pretrain.simclr.images": 1,
    "pretrain.simclr.steps": 14,  # of 64 of the 500 images in the pool: not quite two passes
    "pretrain.simclr.batch_size": 64,
    "pretrain.autoencoder.images": 1,
    "pretrain.autoencoder.steps": 7,
    "pretrain.autoencoder.batch_size": 64,
    "finetune.budgets": [10, 50],
    "finetune.draws": 2,
    "finetune.schedule.steps": 4,
    "finetune.schedule.batch_size": 32,
    # The recipe of scratch is chosen, that of simclr is fixed; both train the encoder.
    "choose.encoder_learning_rates": [0.003, 0.01],
    "choose.length": 0.5,
    "finetune.recipe.simclr": {"encoder_learning_rate": 0.003},
    "distil.few": 50,  # of the two budgets the smaller one
    "distil.images": 200,
    "distil.steps": 3,
    "baselines": ["majority", "hog_svm"],
}


@dataclass
class Project:
    """A git and DVC repository on disk, driven by the real commands.

    Stages and DVC start warm (tests/pipeline/warm), or as real processes if `warm` is False. A stage
    has one worker process, because pytest runs several tests side by side, unless `workers` says otherwise.
    """

    path: Path
    warm: bool = True
    workers: int = 1

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command, its stages in real processes, which can be interrupted and killed.

        Its output, stderr included, is read from the process that is returned.
        """
        return subprocess.Popen(
            command, cwd=self.path, text=True,
            **{
                "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT,
                "env": environment(warm=False, workers=self.workers),
            } | options,
        )  # fmt: skip

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            command, cwd=self.path, capture_output=True, text=True, check=False,
            env=environment(warm=self.warm, workers=self.workers),
        )  # fmt: skip
        if check and result.returncode:
            raise AssertionError(f"{' '.join(command)} failed:\n{result.stdout}\n{result.stderr}")
        return result

    def stage(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `python -m` with these arguments."""
        return self.run("python", "-m", *arguments, check=check)

    def repro(self, *arguments: str) -> list[str]:
        """Run `dvc repro`; the names of the stages that really ran."""
        output = self.run("dvc", "repro", *arguments).stdout
        return re.findall(r"Running stage '(.+?)'", output)

    def set(self, **values: Any) -> None:
        """Change parameters; `a__b` stands for a.b."""
        change(self.path / "params.yaml", {key.replace("__", "."): value for key, value in values.items()})

    def copy(self, path: Path) -> "Project":
        """A copy with its cache and its history."""
        shutil.copytree(self.path, path, symlinks=True)
        return Project(path, self.warm, self.workers)

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def read(self, path: str) -> bytes:
        return (self.path / path).read_bytes()


def environment(*, warm: bool, workers: int = 1) -> dict[str, str]:
    """An environment whose `python` and `dvc` are those that run the tests, or warm ones of these."""
    folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
    if warm and interpreter.AVAILABLE:
        folders.insert(0, str(interpreter.folder()))
    changes = {"PATH": os.pathsep.join(folders), "PYTHONUNBUFFERED": "1", "HEADSTART_WORKERS": str(workers)}
    return os.environ | changes


def change(file: Path, values: dict[str, Any]) -> None:
    """Change values in a YAML file by their dotted keys; the rest of the file stays as it is."""
    yaml = YAML()
    content = yaml.load(file)
    for key, value in values.items():
        *parents, last = key.split(".")
        section = content
        for parent in parents:
            section = section[parent]
        section[last] = value
    yaml.dump(content, file)


def create(path: Path) -> Project:
    """The working tree, without its tests and results, as a git repository with small parameters."""
    project = Project(path)
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if name.startswith(("metrics/", "tests/")) or name == "dvc.lock" or not (ROOT / name).exists():
            continue
        (project.path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, project.path / name)
    change(project.path / "params.yaml", SMALL)
    project.run("git", "init", "--quiet", "--initial-branch", "main", "--template", "")  # without hooks
    project.run("git", "config", "user.name", "Tester")
    project.run("git", "config", "user.email", "tester@example.org")
    return project


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Project]) -> Project:
    """The project that `make` makes in a path: once for all pytest processes of a run, which only copy it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"made-once-{name}"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            shutil.rmtree(folder / "project", ignore_errors=True)  # what an attempt that failed has left
            make(folder / "project")
            (folder / "done").touch()
    return Project(folder / "project")


@pytest.fixture(scope="session")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The working tree, without its tests, as a repository with small parameters; reproduced, committed."""

    def make(path: Path) -> Project:
        project = create(path)
        ran = project.repro()
        assert ran[0] == "prepare"
        assert ran[-1] == "compare"
        project.commit("baseline")
        project.run("git", "gc", "--quiet")  # one file instead of hundreds: each test copies it
        return project

    return made_once(tmp_path_factory, "baseline", make)


@pytest.fixture
def project(baseline: Project, tmp_path: Path) -> Project:
    """A copy of the reproduced baseline, with its cache, for a test to change."""
    return baseline.copy(tmp_path / "project")
