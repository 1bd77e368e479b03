"""Killed at random moments, `dvc repro` goes on where it was and ends with the same bytes."""

import contextlib
import os
import random
import re
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.pipeline.conftest import Project, change
from tests.pipeline.test_honesty import files

pytestmark = pytest.mark.full
STAGES = ("pretrain@simclr", "finetune@simclr")
LAST_OUTPUT = {stage: f"metrics/timings/{stage.replace('@', '/')}.json" for stage in STAGES}
KILLS = 5  # in each of the two stages, for each of the two encoders


class Repro:
    """A `dvc repro` with all that it starts, and what it has said so far."""

    def __init__(self, project: Project, *arguments: str) -> None:
        self.process = project.start("dvc", "repro", *arguments, start_new_session=True)
        self.said = ""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line

    def wait_for(self, pattern: str) -> bool:
        """Wait until something is said; False if the process ended without it."""
        while not re.search(pattern, self.said):
            if self.process.poll() is not None:
                self.reader.join()
                return re.search(pattern, self.said) is not None
            time.sleep(0.005)
        return True

    def wait_until_written(self, path: Path, since: float) -> None:
        """Wait until a file is there, or one in a folder, that is newer than a moment."""
        while newest(path) <= since:
            assert self.process.poll() is None, self.said
            time.sleep(0.001)

    def kill(self) -> None:
        """Kill DVC and the stage that it runs, at once and without a word."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.reader.join()


def newest(path: Path) -> float:
    """When a file, or the last one in a folder, was written; 0 where there is none."""
    found = [path, *path.glob("[!.]*")] if path.is_dir() else [path]
    times = [0.0]
    for file in found:
        with contextlib.suppress(FileNotFoundError):  # it may be replaced just now
            times.append(0.0 if file.is_dir() else file.stat().st_mtime)
    return max(times)


def results(project: Project) -> dict[str, bytes]:
    found = files(project, "models") | files(project, "metrics") | files(project, "data")
    differ = ("timings", "checkpoints", "report.html")  # the report tells seconds too
    return {n: c for n, c in found.items() if not any(name in n for name in differ)}


@pytest.mark.parametrize("encoder", ["cnn", "residual"])
def test_a_killed_repro_ends_with_the_same_bytes(encoder: str, baseline: Project, tmp_path: Path) -> None:
    epochs = {"cnn": 400, "residual": 50}[encoder]  # twenty seconds of work
    longer = {
        "methods": ["simclr"], "encoder.name": encoder,
        "pretrain.simclr.epochs": epochs, "finetune.schedule.steps": 700,
        "finetune.recipe.simclr.encoder_learning_rate": 0.001,
    }  # fmt: skip
    whole, killed = (Project(tmp_path / name) for name in ("whole", "killed"))
    for project in (whole, killed):
        shutil.copytree(baseline.path, project.path, symlinks=True)
        change(project.path / "params.yaml", longer)
    whole.repro()

    moments = random.Random(encoder)  # noqa: S311 (chosen moments: a failure can be looked at again)
    resumed: list[tuple[str, int]] = []
    for stage in STAGES:
        for kill in range(KILLS):
            run = Repro(killed)
            assert run.wait_for(f"Running stage '{stage}'"), run.said
            began = time.time()
            if kill == KILLS - 1:  # the stage has written all: DVC has not written its lock yet
                run.wait_until_written(killed.path / LAST_OUTPUT[stage], began)
            else:
                if kill % 2:  # in the midst of the training, however long this machine takes to get there
                    run.wait_until_written(
                        killed.path / "models/checkpoints" / stage.replace("@", "/"), began
                    )
                time.sleep(moments.uniform(0, 2 if kill % 2 else 8))
            run.kill()
            if (stage, kill) == (STAGES[1], 0):  # the first run after pretraining's last kill
                whole_again = re.search(r"pretrain simclr: resumed at step (\S+) of (\S+)", run.said)
                assert whole_again, run.said
                assert whole_again[1] == whole_again[2]  # nothing was trained a second time
            later = run.said.partition(f"Running stage '{stage}'")[2]
            assert "Running stage" not in later, f"{stage} was over before kill {kill}:\n{run.said}"
            resumed += [(stage, int(step.replace(",", ""))) for step in said_of(run, stage)]
    last = Repro(killed)
    last.wait_for("a word that is never said")
    assert last.process.returncode == 0, last.said
    assert "Traceback" not in last.said
    resumed += [(STAGES[1], int(step.replace(",", ""))) for step in said_of(last, STAGES[1])]
    for stage in STAGES:  # it got on from kill to kill
        steps = [step for name, step in resumed if name == stage]
        assert steps, stage
        assert max(steps) > 0
        if stage == STAGES[0]:  # finetune has a count for each draw
            assert steps == sorted(steps)
    assert results(killed) == results(whole)
    assert not list(killed.path.rglob("*.tmp"))


@pytest.mark.parametrize("stage", ["prepare", "evaluate@simclr", "compare"])
def test_a_killed_short_stage_begins_again_and_gives_the_same_bytes(stage: str, project: Project) -> None:
    expected, moments = results(project), random.Random(stage)  # noqa: S311
    command = ["--force", "--single-item", stage]
    for _ in range(3):
        run = Repro(project, *command)
        assert run.wait_for(f"Running stage '{stage}'"), run.said
        time.sleep(moments.uniform(0, 2))
        run.kill()
    assert project.repro(*command) == [stage]
    # What evaluate measures anew are seconds too, and the report shows them.
    assert project.repro() == (["compare"] if stage == "evaluate@simclr" else [])
    assert results(project) == expected
    assert not list(project.path.rglob("*.tmp"))


def said_of(run: Repro, stage: str) -> list[str]:
    """The steps at which a run says that a stage is resumed."""
    return re.findall(rf"^{stage.split('@')[0]} .*: resumed at step ([\d,]+)", run.said, re.MULTILINE)


def test_a_stage_that_outlived_dvc_is_not_run_beside_itself(project: Project) -> None:
    expected = results(project)
    project.set(finetune__schedule__steps=100_000)  # more than it will come to
    began = time.time()
    first = Repro(project)
    first.wait_until_written(project.path / ".dvc/tmp/headstart/models-classifiers-scratch", began)
    first.process.kill()  # DVC alone
    first.process.wait()
    second = project.run("dvc", "repro", check=False)
    assert second.returncode != 0
    assert "error: models/classifiers/scratch: is being made by another run here (process " in second.stderr
    first.kill()
    project.run("git", "checkout", "params.yaml")
    project.repro()
    assert results(project) == expected
