"""Stages with several worker processes: the same bytes, also after a disturbance."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.pipeline.conftest import Project
from tests.pipeline.test_honesty import files
from tests.pipeline.test_interrupted import receive_interrupts

FINETUNE = ("python", "-m", "stages.finetune", "simclr")


def results(project: Project) -> dict[str, bytes]:
    models = ("models/classifiers", "models/distilled/simclr")
    folders = (*models, "data/predictions/simclr", "metrics/evaluate", "metrics/finetune", "metrics/distil")
    folders = (*folders, "models/recipes", "metrics/choose")
    return {name: content for folder in folders for name, content in files(project, folder).items()}


FINETUNED = [("finetune", "simclr", 4)]  # stage, method, trainings
ALL = [
    ("choose", "scratch", 4),
    *FINETUNED,
    ("finetune", "scratch", 4),  # its recipe is chosen, so its models are compared with their probes
    ("distil", "simclr", 2),
]


@pytest.mark.parametrize(
    ("workers", "stages"),
    [
        (2, FINETUNED),
        pytest.param(2, ALL, marks=pytest.mark.full),
        pytest.param(4, ALL, marks=pytest.mark.full),
    ],
)
def test_the_bytes_do_not_depend_on_the_number_of_workers(
    workers: int, stages: list[tuple[str, str, int]], project: Project
) -> None:
    expected = results(project)
    many = Project(project.path, warm=False, workers=workers)
    for stage, method, trainings in stages:
        shutil.rmtree(project.path / f"models/checkpoints/{stage}/{method}")
        output = many.stage(f"stages.{stage}", method).stdout
        assert "resumed" not in output
        timings = (project.path / f"metrics/timings/{stage}/{method}.json").read_text()
        assert f'"workers": {min(workers, trainings)}' in timings
    many.stage("stages.evaluate", "simclr")
    assert results(project) == expected


@pytest.fixture(scope="module")
def longer(baseline: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[str, bytes]]:
    """A project in which finetuning takes some seconds; and the classifiers of an undisturbed run."""
    project = baseline.copy(tmp_path_factory.mktemp("longer") / "project")
    project.set(finetune__schedule__steps=300, finetune__budgets=[10], finetune__draws=3)
    project.stage("stages.finetune", "simclr")
    expected = files(project, "models/classifiers/simclr")
    shutil.rmtree(project.path / "models/checkpoints/finetune/simclr")
    return project, expected


@pytest.mark.full
@pytest.mark.parametrize("disturbance", ["a worker is killed", "Ctrl-C"])
def test_a_disturbed_stage_is_one_message_and_the_next_run_resumes(
    disturbance: str, longer: tuple[Project, dict[str, bytes]], tmp_path: Path
) -> None:
    project, expected = longer[0].copy(tmp_path / "project"), longer[1]
    project.workers = 2
    stage = project.start(
        *FINETUNE, start_new_session=True, stderr=subprocess.PIPE, preexec_fn=receive_interrupts
    )
    while len(list((project.path / "models/checkpoints/finetune/simclr").glob("n*-draw*"))) < 2:
        assert stage.poll() is None
        time.sleep(0.01)
    if disturbance == "Ctrl-C":
        os.killpg(stage.pid, signal.SIGINT)  # to the whole group, as a terminal does
    else:
        os.kill(workers_of(stage.pid)[0], signal.SIGKILL)
    output, errors = stage.communicate(timeout=60)
    if disturbance == "Ctrl-C":
        assert stage.returncode == -signal.SIGINT
        assert errors == "interrupted: nothing is half-written; run `dvc repro` to resume\n"
    else:
        assert stage.returncode == 2
        assert re.fullmatch(
            r"error: finetune simclr n\d+-draw\d: its process was killed \(SIGKILL\); .*\n", errors
        ), errors
    assert "Traceback" not in output
    assert workers_of(stage.pid) == []
    assert not list(project.path.rglob("*.tmp"))
    again = project.stage("stages.finetune", "simclr").stdout
    resumed = re.findall(r"^finetune simclr n\d+-draw\d: resumed at step (\d+) of 300", again, re.MULTILINE)
    assert len(resumed) >= 2  # both workers had one under way
    assert files(project, "models/classifiers/simclr") == expected


def workers_of(session: int) -> list[int]:
    """The worker processes of a stage: their parent is the server that forks them."""
    parents, servers = {}, set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            parents[int(folder.name)] = int(fields[1])
            if b"multiprocessing.forkserver" in command:
                servers.add(int(folder.name))
    return sorted(process for process, parent in parents.items() if parent in servers)
