"""Where the time of `make repro` goes: a row for each stage, for DVC, and for a repro with nothing to do.

    python -m benchmarks.where_time_goes        (takes as long as `make repro`, and two minutes more)
    python -m benchmarks.where_time_goes --adopt    copies the run's dvc.lock and metrics here as well

It clones HEAD of this repository into a temporary folder and runs `make repro` there with an empty DVC cache
and the packages of this Python. The clone's `.venv/bin/python` is a script that runs this Python under
`benchmarks/stopwatch.py`, so the stages are measured from outside. Nothing else should run meanwhile. Writes
`benchmarks/results/where_time_goes.csv`, in seconds:

- `wall_seconds`; `cpu_seconds`: user and system, of the stage and all its descendants; `cores_busy`: their
  ratio, the cores that were busy on average.
- `import_seconds`: a process that only imports the modules of the stage's folder; best of three. What a
  stage imports later, such as its method, is not in it.
- `work_seconds`: as the stage itself measures it (`metrics/timings`). Pretraining, finetuning and distilling:
  the training steps; evaluation: all that follows the imports. `propagation_seconds`: spreading labels, in
  distilling; `monitoring_seconds`: measuring the features during pretraining. Where worker processes share
  the work, these are the seconds of one of them, on average.
- `rest_seconds`: what is left of `wall_seconds`, such as reading, writing, and workers that wait.
- `hashing_seconds`: a part of the rest, measured after the run: to hash the images, models and metrics that
  the stage reads, once each, as it does to compare them with what their stages wrote.

The row `DVC and make` is the total without the commands above it: hashing, caching, locking. The row
`no-op dvc repro` is the fastest of three after the run.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from benchmarks import hardware, stopwatch
from benchmarks.hashing import hashing_seconds
from benchmarks.quality import clone, link, output_of
from stages.errors import InputError, reported
from stages.files.json_files import read_json
from stages.files.paths import METRICS
from stages.files.tables import write_table
from stages.prepare.mnist import DOWNLOADS
from stages.settings import load

RESULT = Path("benchmarks/results/where_time_goes.csv")
# The clone has no requirements to install, so `setup` counts as done.
REPRO, NO_OP = ("make", "--old-file=setup", "repro"), ("dvc", "repro")
REPEATS = 3  # of imports and of a repro with nothing to do; the fastest counts
IMPORTS = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.iter_modules(getattr(package, "__path__", []), f"{sys.argv[1]}."):
    if not module.ispkg:
        importlib.import_module(module.name)
"""
PARTS = {  # of the wall time of a stage: column → key in metrics/timings
    "work_seconds": "seconds",
    "propagation_seconds": "propagation_seconds",
    "monitoring_seconds": "monitoring_seconds",
}


@dataclass(frozen=True)
class Run:
    """A command that has run, with its wall and CPU seconds."""

    command: list[str]
    wall: float
    cpu: float

    @property
    def name(self) -> str:
        """The command without its program; a stage as DVC names it, such as `finetune@simclr`."""
        name = shlex.join(self.command[1:]).removeprefix("-m stages.")
        return name if " -" in name else name.replace(" ", "@")

    def row(self, name: str, **parts: float) -> dict[str, str | float]:
        """A row of the table; `parts` of the wall time go to columns of their names."""
        row = {"wall_seconds": self.wall, "cpu_seconds": self.cpu, "cores_busy": self.cpu / self.wall}
        return {"stage": name, **row, **parts}


class Log:
    """Runs commands under the stopwatch, in the working directory.

    Args:
        environment: of the commands; here the `python` on its PATH becomes one that is measured as well.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        environment_folder = Path(".venv").absolute()  # the Makefile puts its `bin` first on PATH
        self.file = environment_folder / "stopwatch.log"
        measured_python = environment_folder / "bin/python"
        measured_python.parent.mkdir(parents=True)
        python = shlex.join(self._under_stopwatch(sys.executable))
        measured_python.write_text(f'#!/bin/sh\nexec {python} "$@"\n', encoding="utf-8")
        measured_python.chmod(0o755)
        path = f"{measured_python.parent}{os.pathsep}{environment['PATH']}"
        self.environment = environment | {"PATH": path}

    def run(self, *command: str) -> list[Run]:
        """Run a command; returns it as the last, after the calls of `python` that it made.

        Raises:
            InputError: it fails.
        """
        before = len(self._read())
        # An interrupted measurement leaves no process behind: all of them are in one group.
        with subprocess.Popen(  # noqa: S603 (fixed commands, without a shell)
            self._under_stopwatch(*command), env=self.environment, start_new_session=True
        ) as process:
            try:
                status = process.wait()
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        if status:
            raise InputError(f"{shlex.join(command)} failed (see the output above); no table was written")
        return self._read()[before:]

    def _under_stopwatch(self, *command: str) -> list[str]:
        return [sys.executable, "-IS", str(Path(stopwatch.__file__)), str(self.file), *command]

    def _read(self) -> list[Run]:
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
        return [Run(**json.loads(line)) for line in lines]


def main() -> None:
    """Measure `make repro` of HEAD, and write and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.where_time_goes")
    parser.add_argument("--adopt", action="store_true", help="copy dvc.lock and metrics of the run here")
    adopt, workspace = parser.parse_args().adopt, Path.cwd()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # removes the clone
    if output_of("git", "status", "--porcelain"):
        print("note: HEAD is measured; uncommitted changes have no effect", flush=True)
    with clone() as environment:
        output_of("dvc", "cache", "dir", "--local", "--unset")  # a cache of its own, which is empty
        data = Path(load.validated(load.read(load.PARAMS)).data.path)
        for folder in (data, DOWNLOADS):  # the time of a download says nothing
            link(folder, workspace)
        table = measured(environment)
        if adopt:
            shutil.copyfile("dvc.lock", workspace / "dvc.lock")
            shutil.rmtree(workspace / METRICS)  # no file of a dropped method remains
            shutil.copytree(METRICS, workspace / METRICS)
    machine = machine_text()
    write_table(workspace / RESULT, beside_other_machines(workspace / RESULT, table.assign(machine=machine)))
    print(f"\n{table.to_string(index=False, na_rep='')}\n\n{machine}")


def measured(environment: dict[str, str]) -> pd.DataFrame:
    """Run the pipeline in the clone that is the working directory; returns the table, without the machine."""
    log = Log(environment)
    *commands, total = log.run(*REPRO)
    no_ops = []
    for _ in range(REPEATS):
        *reran, no_op = log.run(*NO_OP)
        if reran:
            raise InputError(f"{', '.join(run.name for run in reran)}: ran again though nothing was changed")
        no_ops.append(no_op)
    table = breakdown([(run, parts(run)) for run in commands], total)
    fastest = min(no_ops, key=lambda run: run.wall)
    last = pd.DataFrame([fastest.row("no-op dvc repro")])
    return pd.concat([table, last], ignore_index=True).round(2)


def breakdown(commands: list[tuple[Run, dict[str, float]]], total: Run) -> pd.DataFrame:
    """The rows of the commands, each with the parts of its wall time, of DVC with make, and the total.

    The parts of each row add up to its wall time, and the rows to the total.
    """
    rows = [run.row(run.name, **of_run) for run, of_run in commands]
    wall, cpu = sum(run.wall for run, _ in commands), sum(run.cpu for run, _ in commands)
    rows.append(Run([], total.wall - wall, total.cpu - cpu).row("DVC and make"))
    known = ["import_seconds", *PARTS]
    columns = ["stage", "wall_seconds", "cpu_seconds", "cores_busy", *known, "hashing_seconds"]
    table = pd.DataFrame(rows, columns=columns)
    rest = table["wall_seconds"] - table[known].sum(axis=1)
    table.insert(len(columns) - 1, "rest_seconds", rest)
    sums = table[[*known, "rest_seconds", "hashing_seconds"]].sum()
    return pd.concat([table, pd.DataFrame([total.row("total", **sums)])], ignore_index=True)


def parts(run: Run) -> dict[str, float]:
    """The parts of a stage's wall time that are known, by column."""
    stage, _, method = run.name.partition("@")
    file = METRICS / "timings" / stage / f"{method}.json"
    timings = read_json(file) if file.exists() else {}
    known = {column: timings[key] for column, key in PARTS.items() if key in timings}
    if run.command[1:2] == ["-m"]:
        known["import_seconds"] = import_seconds(run.command[2])
    # DVC calls a single stage `baselines`, the stopwatch calls it by its module.
    hashing = hashing_seconds(run.name.removeprefix("evaluate."))
    return known if hashing is None else known | {"hashing_seconds": hashing}


@cache
def import_seconds(module: str) -> float:
    """Seconds of a process that imports the modules of a stage's package; best of several."""
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        output_of(sys.executable, "-c", IMPORTS, module)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def beside_other_machines(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """A table in which the rows of this kind of machine are new, and those of other kinds stay."""
    if not path.exists():
        return table
    old: pd.DataFrame = pd.read_csv(path)
    kinds = old["machine"].str.partition(";")[0]  # without versions and date
    others = old[kinds != table["machine"].iloc[0].partition(";")[0]]
    both: pd.DataFrame = pd.concat([others, table], ignore_index=True)
    return both


def machine_text() -> str:
    """The description of this machine as one line."""
    machine = hardware.machine_description()
    return (
        f"{machine['processor']} ({', '.join(machine['flags'])}), {machine['cores']} cores, "
        f"{machine['memory_gb']} GB; torch {machine['torch']}, Python {machine['python']}; {machine['date']}"
    )


if __name__ == "__main__":
    with reported():
        main()
