"""The project under attack: made once, copied for each case, and compared with the unharmed one."""

import contextlib
import csv
import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.image_files import write_shapes
from tests.pipeline.conftest import Project, change, create, environment

TINY: dict[str, Any] = {
    "data.source": "folder",
    "data.path": "data/images",
    "data.train_limit": None,
    "data.test_limit": None,
    "data.image_size": 16,
    "data.folder.validation": 0.25,
    "views.pretrain": "photos_mild",
    "views.finetune": "photos_mild",
    "finetune.budgets": [9, "all"],
    "pretrain.simclr.steps": 7,
    "distil.images": 60,
}
LIMIT_S = 200  # of a command: the unharmed ones take seconds
DIFFER = ("metrics/timings/", "metrics/report.html")  # seconds, and the report that shows them
LONGEST_LINE, LONGEST_OUTPUT = 2_000, 100_000  # characters that a person can be shown
SHOW = "python -m stages.compare --show"
OF_DVC = re.compile(r"\.[A-Za-z0-9]{22}\.tmp")  # a copy that DVC was killed at; nothing reads it
OF_PROJECT = re.compile(r'File "[^"]*\b(stages|site-packages)/')  # a frame of our code, or of a library
OF_STAGES = re.compile(r'File "[^"]*\bstages/')
OF_DVC_ITSELF = re.compile(r'File "[^"]*(/bin/dvc"|/site-packages/dvc/)')
TRACEBACK = "Traceback (most recent call last)"
BY_DVC = re.compile(r"'\./dvc\.(yaml|lock)' (validation failed|is invalid)")
OF_REMEDY = re.compile(r"^error: .*run `((?:rm|dvc repro)\b[^`]*)`", re.MULTILINE)
RECOVERY = ("python -m stages.tools.lock_file", "dvc repro")


@dataclass
class Ended:
    """How a command ended: its exit status (None: it did not end in time) and its output, with stderr."""

    status: int | None
    output: str

    def problem(self) -> str | None:
        """What is bad about the way it ended; None if it succeeded, or was refused in words."""
        lines = self.output.splitlines()
        if TRACEBACK in self.output and not self.outside_the_project():
            errors = [line for line in lines if line[:1].isalpha() and "Error" in line.split(":")[0]]
            return f"traceback: {(errors or lines)[-1][:200]}"
        if self.status is None:
            return f"no end: after {LIMIT_S} s"
        if self.status < 0:
            return f"crash: by {signal.Signals(-self.status).name}"
        # DVC has a heading of its own for a pipeline that it cannot read.
        said = [
            line for line in lines if line.lower().startswith(("error:", "fatal:")) or BY_DVC.search(line)
        ]
        if self.status and not said:
            return f"no words: status {self.status}: {self.output[-200:]!r}"
        if len(self.output) > LONGEST_OUTPUT or max(map(len, lines), default=0) > LONGEST_LINE:
            return f"long output: {len(self.output)} characters"
        if "\0" in self.output or "\x1b" in self.output:
            return "raw output: control characters"
        return None

    def outside_the_project(self) -> bool:
        """Whether Ctrl-C came while Python itself started, or DVC: they print tracebacks without our code.

        DVC does in its first tenth of a second, and while it ends.
        """
        later = [text for text in self.output.split(TRACEBACK)[1:] if OF_PROJECT.search(text)]
        of_dvc = [text for text in later if OF_DVC_ITSELF.search(text) and not OF_STAGES.search(text)]
        return "KeyboardInterrupt" in self.output and later == of_dvc

    def refusal(self) -> str:
        """The last line that says why."""
        return next((line for line in self.output.splitlines()[::-1] if line.startswith("error:")), "")[:160]

    def remedy(self) -> list[str]:
        """The commands that the refusal says to run; those of the documentation where it says none."""
        said = OF_REMEDY.search(self.output)
        return said[1].split(" && ") if said else list(RECOVERY)


@dataclass
class Victim:
    """The unharmed project, and `work`, the copy that a case may harm."""

    unharmed: Project
    work: Project
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)  # by name, as dvc.lock has them
    expected: dict[str, str] = field(default_factory=dict)  # digest of each output
    shown: str = ""  # what SHOW prints

    @classmethod
    def made(cls, folder: Path) -> "Victim":
        """Make the project in a folder and run it to the end."""
        project = create(folder / "unharmed")
        change(project.path / "params.yaml", TINY)
        pictures = write_shapes(project.path / "data/images", each=24, unlabelled=6)
        with (project.path / "data/images/labels.csv").open("w", newline="") as file:
            labelled = [path for path in pictures if path.parent.name == "unlabeled"][::3]
            classes = {"c": "circle", "s": "square", "t": "triangle"}
            rows = [(f"unlabeled/{path.name}", classes[path.name[0]]) for path in labelled]
            csv.writer(file, lineterminator="\n").writerows([("file", "label"), *rows])
        project.run("dvc", "add", "--quiet", "data/images")
        project.repro()
        project.stage("stages.tools.lock_file", "--keep")
        project.stage("stages.tools.predict", "data/images/circle")
        project.stage("stages.tools.suggest", "--count", "3")
        project.commit("unharmed")
        project.run("git", "gc", "--quiet")
        victim = cls(project, Project(folder / "work"))
        victim.restore()
        victim.stages = YAML(typ="safe").load(project.path / "dvc.lock")["stages"]
        victim.expected = victim.outputs()
        victim.shown = victim.run(SHOW).output
        return victim

    def restore(self) -> None:
        """Make `work` anew. NOTE: no hard links: a mutation in place would reach the unharmed project."""
        shutil.rmtree(self.work.path, ignore_errors=True)
        self.unharmed.copy(self.work.path)

    def outputs(self) -> dict[str, str]:
        """The digest of each file that a stage or a tool wrote into `work`; not of seconds."""
        paths = [self.work.path / out["path"] for stage in self.stages.values() for out in stage["outs"]]
        paths += [self.work.path / "predictions.csv", self.work.path / "suggestions.csv"]
        files = {f for path in paths for f in (path.rglob("*") if path.is_dir() else [path]) if f.is_file()}
        named = {file.relative_to(self.work.path).as_posix(): file for file in files}
        return {
            name: hashlib.sha256(file.read_bytes()).hexdigest()
            for name, file in sorted(named.items())
            if not name.startswith(DIFFER)
        }

    def differences(self, but: str = "") -> list[str]:
        """The outputs that differ from the unharmed ones, and temporary files; `but` may differ."""
        now = self.outputs()
        names = {name for name in now.keys() | self.expected if now.get(name) != self.expected.get(name)}
        left = [path for path in self.work.path.rglob("*.tmp") if not OF_DVC.fullmatch(path.name)]
        unfinished = [path.relative_to(self.work.path).as_posix() for path in left]
        return sorted(names - {but}) + [
            name for name in unfinished if not name.startswith((".dvc/", ".git/"))
        ]

    def run(self, command: str) -> Ended:
        """Run a command in `work`, its stages in a warm interpreter."""
        with (self.work.path.parent / "output").open("w+b") as file:
            process = self.work.start(
                *command.split(), stdout=file, env=environment(warm=True), start_new_session=True
            )
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LIMIT_S)
            status = process.poll()
            end_group(process)
            file.seek(0)
            return Ended(status, file.read().decode(errors="replace"))

    def recover(self) -> str | None:
        """Recover as the documentation says; what is wrong afterwards, or None."""
        return self.obey(RECOVERY)

    def obey(self, commands: Sequence[str]) -> str | None:
        """Run commands; what is wrong afterwards, or None."""
        for command in commands:
            ended = self.run(command)
            if problem := ended.problem():
                return f"{command}: {problem}"
            if ended.status:
                return f"unusable: {command}: {ended.output[-300:]}"
        different = self.differences()
        return f"wrong result: {', '.join(different[:5])}" if different else None


def end_group(process: "subprocess.Popen[str]") -> None:
    """End a process and all that it has started, and wait until they are gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:  # those that it started are not its own to wait for
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
