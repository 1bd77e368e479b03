"""Ctrl-C, a full disk and a read-only folder: one clear line, only whole files, and the next run resumes."""

import ctypes
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.pipeline.conftest import Project, environment, made_once
from tests.pipeline.test_honesty import files

PRETRAIN = [sys.executable, "-u", "-m", "stages.pretrain", "simclr"]
CURVE = "metrics/pretrain/simclr.csv"  # written row by row
full = partial(pytest.param, marks=pytest.mark.full)


def outputs(project: Project) -> dict[str, bytes]:
    return files(project, "models/encoders/simclr/run0.safetensors") | files(project, "metrics/pretrain")


def assert_unchanged_but_the_curve(project: Project, expected: dict[str, bytes]) -> None:
    """The results are those of the run before; the curve has the first rows of this one."""
    now = outputs(project)
    assert now[CURVE].endswith(b"\n")
    assert expected[CURVE].startswith(now[CURVE])
    assert now | {CURVE: b""} == expected | {CURVE: b""}


@pytest.fixture(scope="module")
def finished(baseline: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which SimCLR was trained for some seconds."""

    def make(path: Path) -> Project:
        project = baseline.copy(path)
        project.set(pretrain__simclr__steps=280)
        project.stage("stages.pretrain", "simclr")
        return project

    return made_once(tmp_path_factory, "finished", make)


@pytest.fixture
def unfinished(finished: Project, tmp_path: Path) -> tuple[Project, dict[str, bytes]]:
    """A project in which SimCLR must be trained for some seconds; and the results of an undisturbed run."""
    project = finished.copy(tmp_path / "unfinished")
    expected = outputs(project)
    (project.path / "models/checkpoints/pretrain/simclr/run0").unlink()
    return project, expected


def test_ctrl_c_is_one_line_and_the_next_run_resumes(unfinished: tuple[Project, dict[str, bytes]]) -> None:
    project, expected = unfinished
    interrupted(project)
    assert_unchanged_but_the_curve(project, expected)
    assert_resumes(project)
    assert outputs(project) == expected


def test_ctrl_c_in_a_terminal_stops_dvc_and_its_stage(unfinished: tuple[Project, dict[str, bytes]]) -> None:
    project, expected = unfinished
    checkpoint = project.path / "models/checkpoints/pretrain/simclr/run0"
    run = project.start("dvc", "repro", start_new_session=True, preexec_fn=receive_interrupts)
    while not checkpoint.exists():
        assert run.poll() is None
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGINT)  # to the whole group, as a terminal does
    output, _ = run.communicate(timeout=60)
    assert run.returncode != 0
    assert "interrupted: nothing is half-written; run `dvc repro` to resume" in output
    assert "Traceback" not in output
    again = project.run("dvc", "repro").stdout
    assert re.search(r"^pretrain simclr: resumed at step [1-9][\d,]* of ", again, re.MULTILINE)
    assert outputs(project) == expected


def receive_interrupts() -> None:
    """Receive Ctrl-C: a process that a shell starts in the background ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupted(project: Project) -> None:
    """Start SimCLR's pretraining, and press Ctrl-C as soon as there is a checkpoint."""
    checkpoint = project.path / "models/checkpoints/pretrain/simclr/run0"
    process = subprocess.Popen(
        PRETRAIN, cwd=project.path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=receive_interrupts,
    )  # fmt: skip
    while not checkpoint.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT  # for shells 130
    assert errors == "interrupted: nothing is half-written; run `dvc repro` to resume\n"


def assert_resumes(project: Project) -> None:
    again = project.stage("stages.pretrain", "simclr")
    assert re.search(r"^pretrain simclr: resumed at step [1-9][\d,]* of ", again.stdout, re.MULTILINE)


@pytest.mark.parametrize("room", [full(0), 20_000])  # bytes that a file may have
def test_a_full_disk_is_named_and_the_next_run_resumes(
    room: int, unfinished: tuple[Project, dict[str, bytes]]
) -> None:
    project, expected = unfinished
    interrupted(project)

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    result = subprocess.run(
        PRETRAIN, cwd=project.path, text=True, capture_output=True, check=False, preexec_fn=no_room
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    places = r"models/(checkpoints/pretrain/simclr/run0|encoders/\S+)|\.dvc/tmp/headstart"
    assert re.fullmatch(rf"error: ({places}): File too large|.*No usable temporary directory.*", line), line
    assert_unchanged_but_the_curve(project, expected)
    assert not list(project.path.rglob("*.tmp"))
    assert_resumes(project)
    assert outputs(project) == expected


@pytest.mark.parametrize(
    ("stage", "outputs", "workers"),
    [full("finetune", "classifiers", 1), ("finetune", "classifiers", 2), full("distil", "distilled", 2)],
)
def test_a_full_disk_beside_other_draws_is_named_and_the_next_run_resumes(
    stage: str, outputs: str, workers: int, project: Project
) -> None:
    expected = files(project, f"models/{outputs}/simclr")
    shutil.rmtree(project.path / f"models/checkpoints/{stage}/simclr")

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # bytes: a classifier needs more

    command = [sys.executable, "-m", f"stages.{stage}", "simclr"]
    result = subprocess.run(
        command, cwd=project.path, text=True, capture_output=True, check=False, preexec_fn=no_room,
        env=environment(warm=False, workers=workers),
    )  # fmt: skip
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert re.fullmatch(rf"error: models/(checkpoints/{stage}|{outputs})/\S+: File too large", line), line
    assert files(project, f"models/{outputs}/simclr") == expected
    assert not list(project.path.rglob("*.tmp"))
    project.stage(f"stages.{stage}", "simclr")
    assert files(project, f"models/{outputs}/simclr") == expected


FULL = r"File too large|could not be written completely; is the disk full\? \(.*\)"


@pytest.mark.parametrize(
    ("stage", "room", "place"),
    [
        full(["prepare"], 0, r"\.dvc/tmp/headstart"),
        (["prepare"], 20_000, "data/prepared/images/pool.npy"),
        full(["evaluate", "simclr"], 2_000, r"data/predictions/simclr/n10-draw0-finetuned\.npy"),
        full(["compare"], 2_000, "metrics/details.json"),
        (["compare"], 200_000, "metrics/report.html"),
    ],
)
def test_a_full_disk_in_a_short_stage_is_named_and_the_next_run_succeeds(
    stage: list[str], room: int, place: str, project: Project
) -> None:
    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    def results() -> dict[str, bytes]:
        every = files(project, "data") | files(project, "metrics")
        return {name: content for name, content in every.items() if "timings" not in name}

    name, *method = stage
    expected = results()
    command = [sys.executable, "-m", f"stages.{name}", *method]
    result = subprocess.run(
        command, cwd=project.path, text=True, capture_output=True, check=False, preexec_fn=no_room
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert re.fullmatch(rf"error: {place}: ({FULL})", line), line
    assert results() == expected
    assert not list(project.path.rglob("*.tmp"))
    project.stage(f"stages.{name}", *method)
    assert results() == expected


def respect_permissions() -> None:
    """Drop the capability by which root ignores file permissions."""
    drop, dac_override = 24, 1  # prctl's PR_CAPBSET_DROP, and the capability
    if os.geteuid() == 0:
        assert ctypes.CDLL(None).prctl(drop, dac_override, 0, 0, 0) == 0


@pytest.mark.parametrize(
    "folder", ["models/encoders", full("models/checkpoints/pretrain/simclr"), full("metrics/pretrain")]
)
def test_a_read_only_folder_is_named_before_any_work(folder: str, project: Project) -> None:
    place = project.path / folder
    place.chmod(0o500)
    try:
        result = subprocess.run(
            PRETRAIN,
            cwd=project.path,
            text=True,
            capture_output=True,
            check=False,
            preexec_fn=respect_permissions,
        )
    finally:
        place.chmod(0o700)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {folder}")
    assert line.endswith("Permission denied")


STOPPED_WHILE_WRITING = """
import sys, time
from pathlib import Path
from dvc.cli import main
from dvc.utils.serialize import _yaml

def stopped(data, stream):
    Path("writing").touch()
    time.sleep(60)

_yaml._dump = stopped
sys.exit(main(["repro"]))
"""


def kill_where_it_writes(project: Project, script: str, number: signal.Signals) -> None:
    """Run a DVC that stops where it writes a file, and end it there; every `dvc` command fails then."""
    run = project.start(sys.executable, "-c", script, preexec_fn=receive_interrupts)
    while not (project.path / "writing").exists():
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(number)
    run.communicate(timeout=60)
    assert project.run("dvc", "status", check=False).returncode != 0


@pytest.mark.parametrize("number", [signal.SIGKILL, full(signal.SIGTERM), full(signal.SIGINT)])
def test_a_lock_that_dvc_was_writing_comes_back(project: Project, number: signal.Signals) -> None:
    """DVC empties dvc.lock before it writes it."""
    expected = project.read("dvc.lock")
    (project.path / "metrics/report.html").unlink()
    kill_where_it_writes(project, STOPPED_WHILE_WRITING, number)
    assert project.read("dvc.lock") == b""
    said = project.stage("stages.tools.lock_file").stdout
    assert "dvc.lock: was cut off" in said
    assert "the one of the last commit is back" in said
    assert project.repro() == []
    assert project.read("dvc.lock") == expected


STOPPED_IN_ITS_LIST = """
import json, sys, time
from pathlib import Path
from dvc.cli import main

def stopped(content, file):
    Path("writing").touch()
    time.sleep(60)

json.dump = stopped
sys.exit(main(["repro"]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, full(signal.SIGTERM), full(signal.SIGINT)])
def test_the_list_of_files_in_use_that_dvc_was_writing_is_removed(
    project: Project, number: signal.Signals
) -> None:
    """DVC empties it before it writes it, too."""
    kill_where_it_writes(project, STOPPED_IN_ITS_LIST, number)
    assert project.read(".dvc/tmp/rwlock") == b""
    assert "rwlock: was cut off" in project.stage("stages.tools.lock_file").stdout
    assert project.repro() == []
