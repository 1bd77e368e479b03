"""Killed at random moments, `dvc repro` resumes and ends with the same bytes."""

import contextlib
import os
import random
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.pipeline.conftest import Project, change
from tests.pipeline.test_honesty import files

pytestmark = pytest.mark.full
STAGES = ("pretrain@simclr", "finetune@simclr", "distil@simclr")
LAST_OUTPUT = {stage: f"metrics/timings/{stage.replace('@', '/')}.json" for stage in STAGES}
KILLS = 3  # in each of the three stages: at any moment, in the training, before DVC writes its lock


class Repro:
    """A `dvc repro` with its stages, and what it has printed so far."""

    def __init__(self, project: Project, *arguments: str) -> None:
        self.process = project.start("dvc", "repro", *arguments, start_new_session=True)
        self.output = ""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line

    def wait_for(self, pattern: str) -> bool:
        """Wait until a pattern is printed; False if the process ended without it."""
        while not re.search(pattern, self.output):
            if self.process.poll() is not None:
                self.reader.join()
                return re.search(pattern, self.output) is not None
            time.sleep(0.005)
        return True

    def wait_until_written(self, path: Path, since: float) -> None:
        """Wait until a file, or one in a folder, is newer than a moment."""
        while newest(path) <= since:
            assert self.process.poll() is None, self.output
            time.sleep(0.001)

    def kill(self) -> None:
        """Kill DVC and the stage that it runs by SIGKILL."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.reader.join()


def newest(path: Path) -> float:
    """When a file, or the last one in a folder, was written; 0 if there is none."""
    paths = [path, *path.glob("[!.]*")] if path.is_dir() else [path]
    times = [0.0]
    for file in paths:
        with contextlib.suppress(FileNotFoundError):  # it may be replaced at this moment
            times.append(0.0 if file.is_dir() else file.stat().st_mtime)
    return max(times)


def results(project: Project) -> dict[str, bytes]:
    """The outputs that are equal in every run."""
    every = files(project, "models") | files(project, "metrics") | files(project, "data")
    differ = ("timings", "checkpoints", "report.html")  # the report contains seconds
    return {n: c for n, c in every.items() if not any(name in n for name in differ)}


def test_a_killed_repro_ends_with_the_same_bytes(baseline: Project, tmp_path: Path) -> None:
    longer = {
        "methods": ["simclr"],
        "pretrain.simclr.steps": 350,  # twenty seconds of work
        "finetune.schedule.steps": 700, "distil.steps": 1400,
        "finetune.recipe.simclr.encoder_learning_rate": 0.001,
    }  # fmt: skip
    undisturbed, killed = (baseline.copy(tmp_path / name) for name in ("undisturbed", "killed"))
    killed.workers = 2  # the undisturbed one has a single worker
    for project in (undisturbed, killed):
        change(project.path / "params.yaml", longer)
    undisturbed.repro()

    moments = random.Random("residual")  # noqa: S311 (fixed moments: a failure can be repeated)
    resumed: list[tuple[str, int]] = []
    for stage in STAGES:
        for kill in range(KILLS):
            run = Repro(killed)
            assert run.wait_for(f"Running stage '{stage}'"), run.output
            began = time.time()
            if kill == KILLS - 1:  # the stage has written everything, DVC has not written its lock yet
                run.wait_until_written(killed.path / LAST_OUTPUT[stage], began)
            else:
                if kill % 2:  # in the middle of the training, however long this machine takes to get there
                    run.wait_until_written(
                        killed.path / "models/checkpoints" / stage.replace("@", "/"), began
                    )
                time.sleep(moments.uniform(0, 2 if kill % 2 else 8))
            run.kill()
            if (stage, kill) == (STAGES[1], 0):  # the first run after pretraining's last kill
                finished = re.search(r"pretrain simclr: resumed at step (\S+) of (\S+)", run.output)
                assert finished, run.output
                assert finished[1] == finished[2]  # nothing was trained a second time
            later = run.output.partition(f"Running stage '{stage}'")[2]
            assert "Running stage" not in later, f"{stage} was over before kill {kill}:\n{run.output}"
            resumed += [(stage, int(step.replace(",", ""))) for step in resumed_steps(run, stage)]
    last = Repro(killed)
    last.wait_for("a text that is never printed")
    assert last.process.returncode == 0, last.output
    assert "Traceback" not in last.output
    resumed += [(STAGES[-1], int(step.replace(",", ""))) for step in resumed_steps(last, STAGES[-1])]
    for stage in STAGES:  # each run got further than the one before
        steps = [step for name, step in resumed if name == stage]
        assert steps, stage
        assert max(steps) > 0
        if stage == STAGES[0]:  # the others have a count for each draw
            assert steps == sorted(steps)
    assert results(killed) == results(undisturbed)
    assert not list(killed.path.rglob("*.tmp"))


@pytest.mark.parametrize("stage", ["prepare", "evaluate@simclr", "compare"])
def test_a_killed_short_stage_starts_again_and_gives_the_same_bytes(stage: str, project: Project) -> None:
    expected, moments = results(project), random.Random(stage)  # noqa: S311
    command = ["--force", "--single-item", stage]
    for _ in range(3):
        run = Repro(project, *command)
        assert run.wait_for(f"Running stage '{stage}'"), run.output
        time.sleep(moments.uniform(0, 2))
        run.kill()
    assert project.repro(*command) == [stage]
    # evaluate also measures seconds, and the report shows them.
    assert project.repro() == (["compare"] if stage == "evaluate@simclr" else [])
    assert results(project) == expected
    assert not list(project.path.rglob("*.tmp"))


def resumed_steps(run: Repro, stage: str) -> list[str]:
    """The steps at which a run reports that a stage was resumed."""
    return re.findall(rf"^{stage.split('@')[0]} .*: resumed at step ([\d,]+)", run.output, re.MULTILINE)


def test_a_stage_that_outlived_dvc_is_not_run_twice_at_a_time(project: Project) -> None:
    expected = results(project)
    fixed = {"encoder_learning_rate": 0.003}  # else `choose` would try recipes for as many steps
    project.set(finetune__recipe__scratch=fixed, finetune__schedule__steps=100_000)  # more than it will reach
    began = time.time()
    first = Repro(project)
    first.wait_until_written(project.path / ".dvc/tmp/headstart/models-classifiers-scratch", began)
    first.process.kill()  # only DVC
    first.process.wait()
    second = project.run("dvc", "repro", check=False)
    assert second.returncode != 0
    assert "error: models/classifiers/scratch: another run (process " in second.stderr
    first.kill()
    project.run("git", "checkout", "params.yaml")
    project.repro()
    assert results(project) == expected
