"""Ctrl-C, a full disk and a read-only folder: one clear line, whole files only, and the next run goes on."""

import ctypes
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.pipeline.conftest import Project
from tests.pipeline.test_honesty import files

PRETRAIN = [sys.executable, "-u", "-m", "stages.pretrain", "simclr"]


def outputs(project: Project) -> dict[str, bytes]:
    return files(project, "models/encoders/simclr.safetensors") | files(project, "metrics/pretrain")


@pytest.fixture
def unfinished(project: Project) -> tuple[Project, dict[str, bytes]]:
    """A project whose SimCLR has yet to be trained, for some seconds; and what it gives undisturbed."""
    project.set(pretrain__simclr__epochs=40)
    project.stage("stages.pretrain", "simclr")
    expected = outputs(project)
    (project.path / "models/checkpoints/pretrain/simclr").unlink()
    return project, expected


def test_ctrl_c_is_one_line_and_the_next_run_goes_on(unfinished: tuple[Project, dict[str, bytes]]) -> None:
    project, expected = unfinished
    interrupted(project)
    assert outputs(project) == expected  # those of the run before: nothing half-written took their place
    assert_goes_on(project)
    assert outputs(project) == expected


def test_ctrl_c_in_a_terminal_stops_dvc_and_its_stage(unfinished: tuple[Project, dict[str, bytes]]) -> None:
    project, expected = unfinished
    checkpoint = project.path / "models/checkpoints/pretrain/simclr"
    run = project.start("dvc", "repro", start_new_session=True, preexec_fn=listening)
    while not checkpoint.exists():
        assert run.poll() is None
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to all of them
    said, _ = run.communicate(timeout=60)
    assert run.returncode != 0
    assert "interrupted: nothing is half-written; `dvc repro` goes on" in said
    assert "Traceback" not in said
    again = project.run("dvc", "repro").stdout
    assert re.search(r"^pretrain simclr: resumed at step [1-9][\d,]* of ", again, re.MULTILINE)
    assert outputs(project) == expected


def listening() -> None:
    """Be in the foreground of a terminal: what a shell starts in the background is deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupted(project: Project) -> None:
    """Start SimCLR's pretraining, and press Ctrl-C as soon as there is a checkpoint."""
    checkpoint = project.path / "models/checkpoints/pretrain/simclr"
    process = subprocess.Popen(
        PRETRAIN, cwd=project.path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=listening,
    )  # fmt: skip
    while not checkpoint.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT  # for shells 130
    assert errors == "interrupted: nothing is half-written; `dvc repro` goes on\n"


def assert_goes_on(project: Project) -> None:
    again = project.stage("stages.pretrain", "simclr")
    assert re.search(r"^pretrain simclr: resumed at step [1-9][\d,]* of ", again.stdout, re.MULTILINE)


@pytest.mark.parametrize("room", [0, 20_000])  # bytes that a file may have
def test_a_full_disk_is_named_and_the_next_run_goes_on(
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
    places = r"models/(checkpoints/pretrain/simclr|encoders/\S+)|\.dvc/tmp/headstart"
    assert re.fullmatch(rf"error: ({places}): File too large|.*No usable temporary directory.*", line), line
    assert outputs(project) == expected
    assert not list(project.path.rglob("*.tmp"))
    assert_goes_on(project)
    assert outputs(project) == expected


def test_a_disk_that_is_full_for_finetune_is_named_and_the_next_run_goes_on(project: Project) -> None:
    expected = files(project, "models/classifiers/simclr")
    shutil.rmtree(project.path / "models/checkpoints/finetune/simclr")

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # bytes: a classifier needs more

    command = [sys.executable, "-m", "stages.finetune", "simclr"]
    result = subprocess.run(
        command, cwd=project.path, text=True, capture_output=True, check=False, preexec_fn=no_room
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert re.fullmatch(r"error: models/(checkpoints/finetune|classifiers)/\S+: File too large", line), line
    assert files(project, "models/classifiers/simclr") == expected
    assert not list(project.path.rglob("*.tmp"))
    project.stage("stages.finetune", "simclr")
    assert files(project, "models/classifiers/simclr") == expected


FULL = r"File too large|not all of it could be written; is the disk full\? \(.*\)"


@pytest.mark.parametrize(
    ("stage", "room", "place"),
    [
        (["prepare"], 0, r"\.dvc/tmp/headstart"),
        (["prepare"], 20_000, "data/prepared/images/pool.npy"),
        (["evaluate", "simclr"], 2_000, r"data/predictions/simclr/n10-draw0-finetuned\.npy"),
        (["compare"], 2_000, "metrics/details.json"),
        (["compare"], 200_000, "metrics/report.html"),
    ],
)
def test_a_disk_that_is_full_for_a_short_stage_is_named_and_the_next_run_goes_on(
    stage: list[str], room: int, place: str, project: Project
) -> None:
    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    def made() -> dict[str, bytes]:
        found = files(project, "data") | files(project, "metrics")
        return {name: content for name, content in found.items() if "timings" not in name}

    name, *method = stage
    expected = made()
    command = [sys.executable, "-m", f"stages.{name}", *method]
    result = subprocess.run(
        command, cwd=project.path, text=True, capture_output=True, check=False, preexec_fn=no_room
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert re.fullmatch(rf"error: {place}: ({FULL})", line), line
    assert made() == expected
    assert not list(project.path.rglob("*.tmp"))
    project.stage(f"stages.{name}", *method)
    assert made() == expected


def ordinary() -> None:
    """Be a user to whom permissions apply: root passes over them by a capability."""
    drop, dac_override = 24, 1  # prctl's PR_CAPBSET_DROP, and the capability
    if os.geteuid() == 0:
        assert ctypes.CDLL(None).prctl(drop, dac_override, 0, 0, 0) == 0


@pytest.mark.parametrize("folder", ["models/encoders", "models/checkpoints/pretrain", "metrics/pretrain"])
def test_a_read_only_folder_is_named_before_any_work(folder: str, project: Project) -> None:
    place = project.path / folder
    place.chmod(0o500)
    try:
        result = subprocess.run(
            PRETRAIN, cwd=project.path, text=True, capture_output=True, check=False, preexec_fn=ordinary
        )
    finally:
        place.chmod(0o700)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {folder}")
    assert line.endswith("Permission denied")
