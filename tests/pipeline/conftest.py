"""A real project in a temporary repository: a copy of this one with small parameters, run once."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
SMALL = {
    "data.source": "mnist",
    "data.path": "data/raw",
    "views.pretrain": "digits",
    "views.finetune": "digits",
    "encoder.name": "residual",
    "runtime.threads": 1,  # with two threads a busy machine is many times slower
    "methods": ["scratch", "simclr"],
    "data.validation": 100,
    "data.train_limit": 600,
    "data.test_limit": 200,
    "encoder.width": 8,
    "pretrain.simclr.epochs": 2,
    "pretrain.simclr.batch_size": 64,
    "pretrain.autoencoder.epochs": 1,
    "pretrain.autoencoder.batch_size": 64,
    "finetune.budgets": [10, 50],
    "finetune.draws": 2,
    "finetune.schedule.steps": 4,
    "finetune.schedule.batch_size": 32,
}


@dataclass
class Project:
    """A git and DVC repository on disk, driven by the real commands."""

    path: Path

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command; its output, stderr included, is read from the process that is returned."""
        return subprocess.Popen(
            command, cwd=self.path, text=True, env=environment(), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, **options,
        )  # fmt: skip

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            command, cwd=self.path, capture_output=True, text=True, check=False, env=environment()
        )  # fmt: skip
        if check and result.returncode:
            raise AssertionError(f"{' '.join(command)} failed:\n{result.stdout}\n{result.stderr}")
        return result

    def stage(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", *arguments, check=check)

    def repro(self, *arguments: str) -> list[str]:
        """Run `dvc repro`; the names of the stages that really ran."""
        output = self.run("dvc", "repro", *arguments).stdout
        return re.findall(r"Running stage '(.+?)'", output)

    def set(self, **values: Any) -> None:
        """Change parameters; `a__b` stands for a.b."""
        change(self.path / "params.yaml", {key.replace("__", "."): value for key, value in values.items()})

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def read(self, path: str) -> bytes:
        return (self.path / path).read_bytes()


def environment() -> dict[str, str]:
    """An environment whose `python` and `dvc` are those that run the tests."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}


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


@pytest.fixture(scope="session")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The working tree as a new repository with small parameters, reproduced and committed on main."""
    project = Project(tmp_path_factory.mktemp("baseline") / "project")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if name.startswith("metrics/") or name == "dvc.lock" or not (ROOT / name).exists():
            continue
        (project.path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, project.path / name)
    change(project.path / "params.yaml", SMALL)
    project.run("git", "init", "--quiet", "--initial-branch", "main")
    project.run("git", "config", "user.name", "Tester")
    project.run("git", "config", "user.email", "tester@example.org")
    ran = project.repro()
    assert ran[0] == "prepare"
    assert ran[-1] == "compare"
    project.commit("baseline")
    return project


@pytest.fixture
def project(baseline: Project, tmp_path: Path) -> Project:
    """A copy of the reproduced baseline, with its cache, for a test to change."""
    shutil.copytree(baseline.path, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")
