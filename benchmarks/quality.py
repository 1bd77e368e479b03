"""How good the classifiers are, by experiment: run with the real pipeline, measured on the test split.

    python -m benchmarks.quality [NAME …]        (make quality: all of them; it may take three hours)

For each experiment of `experiments/` it clones this repository's HEAD into a temporary folder, writes
the experiment's values into the clone's params.yaml and runs `dvc repro` there, with this repository's DVC
cache: what has been run once is not run again. Those with `runtime.device: cuda` are left out where there is
no GPU. The workspace stays as it is, but for three tables in `benchmarks/results/`, in which the rows of the
experiment are replaced:

- `quality.csv`: accuracy (fraction) by labels, protocol (`finetuned`, or `linear` for the probe of the frozen
  encoder) and method, with the half-width of the 95% interval over the draws;
- `quality_gains.csv`: the paired gain over scratch on the same draws, with its own interval;
- `quality_timings.csv`: how long pretraining and all finetuning took, and on what.
"""

import contextlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from ruamel.yaml import YAML

from stages.errors import InputError, reported
from stages.files.json_files import read_json
from stages.files.paths import METRICS
from stages.files.tables import read_table, write_table
from stages.prepare.mnist import DOWNLOADS
from stages.settings import load
from stages.settings.schema import Params
from stages.tasks.draws import Budget
from stages.tools import experiment

RESULTS = Path("benchmarks/results")
LABEL_EFFICIENCY = METRICS / "label_efficiency.csv"
PROTOCOLS = ("finetuned", "linear")
ORDER = ["labels", "protocol", "method"]  # of a table's rows, behind its first column


def main(names: list[str]) -> None:
    """Run the experiments one after another; replace the rows of each."""
    results = RESULTS.absolute()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that the clone is removed
    if _said("git", "status", "--porcelain"):
        print("note: it is HEAD that is measured, without the changes that are not committed", flush=True)
    names = names or possible(experiment.names())
    for name in names:  # a wrong last one is found before the first has run for an hour
        experiment.checked(name, load.read(load.PARAMS), experiment.read(name))
    for name in names:
        with clone() as environment:
            tables = measured(name, results.parents[1], environment)
        for file, table in tables.items():
            write_table(results / file, replaced(results / file, table))


def possible(names: list[str]) -> list[str]:
    """The experiments that this machine can run: those for a GPU where there is one."""
    for_gpu = [name for name in names if experiment.read(name).get("runtime.device") == "cuda"]
    if not for_gpu or torch.cuda.is_available():
        return names
    print(f"left out, for there is no GPU here: {', '.join(for_gpu)}", flush=True)
    return [name for name in names if name not in for_gpu]


@contextlib.contextmanager
def clone() -> Iterator[dict[str, str]]:
    """Work inside a temporary clone of HEAD that shares the DVC cache; gives the environment for DVC."""
    here, cache = Path.cwd(), _said("dvc", "cache", "dir")
    with tempfile.TemporaryDirectory(prefix="headstart-") as folder:
        project = Path(folder) / "project"
        _said("git", "clone", "--quiet", "--shared", str(here), str(project))
        # What DVC notes about a repository beside it goes with the clone.
        environment = experiment.environment() | {"DVC_SITE_CACHE_DIR": str(Path(folder) / "notes")}
        with contextlib.chdir(project):
            _said("dvc", "cache", "dir", "--local", cache)
            yield environment


def measured(name: str, workspace: Path, environment: dict[str, str]) -> dict[str, pd.DataFrame]:
    """Run an experiment in the clone that is the working directory; its three tables by their file names.

    workspace: the repository that was cloned; the source's files are looked for in its `data.path` too.
    """
    settings = configured(name, {}, workspace)
    repro(name, environment)
    table, budgets = read_table(LABEL_EFFICIENCY), settings.finetune.budgets
    return {
        "quality.csv": accuracies(table, name, budgets),
        "quality_gains.csv": gains(table, name, budgets),
        "quality_timings.csv": timings(name, settings.methods),
    }


def configured(name: str, more: dict[str, Any], workspace: Path) -> Params:
    """Write an experiment's parameters, and more by their dotted keys, into the clone's params.yaml."""
    changes = experiment.read(name) | more
    raw = experiment.checked(name, load.read(load.PARAMS), changes)
    settings = load.validated(raw)
    with load.PARAMS.open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(raw, file)
    for folder in (Path(settings.data.path), DOWNLOADS):
        link(folder, workspace)
    return settings


def repro(name: str, environment: dict[str, str], *stages: str) -> None:
    """Run `dvc repro` in the clone; InputError if it fails, for whoever reads the results would be misled."""
    command = ["dvc", "repro", *stages]
    if subprocess.run(command, check=False, env=environment).returncode:  # noqa: S603 (fixed, no shell)
        raise InputError(
            f"{experiment.file_of(name)}: dvc repro failed, for the reason above; no table was changed"
        )


def link(folder: Path, workspace: Path) -> None:
    """Let the clone have what git does not: the source's files in a folder of the workspace."""
    for file in (workspace / folder).glob("*"):
        if not (folder / file.name).exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file.name).symlink_to(file)


def accuracies(table: pd.DataFrame, name: str, budgets: Sequence[Budget]) -> pd.DataFrame:
    """The accuracy of every method, scratch too, out of the label-efficiency table."""
    rows = named(table, name, budgets)
    return rows.rename(columns={"accuracy_ci95": "ci95"})[["experiment", *ORDER, "accuracy", "ci95"]]


def gains(table: pd.DataFrame, name: str, budgets: Sequence[Budget]) -> pd.DataFrame:
    """The paired gain over scratch of every other method."""
    rows = named(table, name, budgets).dropna(subset="gain")
    return rows.rename(columns={"gain_ci95": "ci95"})[["experiment", *ORDER, "gain", "ci95"]]


def named(table: pd.DataFrame, name: str, budgets: Sequence[Budget]) -> pd.DataFrame:
    """The rows of both protocols, with the experiment's name, and with budgets as params.yaml calls them.

    The label-efficiency table has the pool's size where the budget is `all`: the number that is no budget.
    """
    rows = table[table["protocol"].isin(PROTOCOLS)]
    names = {budget: str(budget) for budget in budgets if budget != "all"}
    return rows.assign(experiment=name, labels=[names.get(number, "all") for number in rows["labels"]])


def timings(name: str, methods: Sequence[str]) -> pd.DataFrame:
    """Seconds of pretraining and of finetuning on all draws of all budgets, by method."""
    rows = []
    for method in methods:
        spent: dict[str, dict[str, Any]] = {
            stage: read_json(METRICS / "timings" / stage / f"{method}.json")
            for stage in ("pretrain", "finetune")
        }
        row = {"experiment": name, "method": method}
        row |= {f"{stage}_seconds": figures["seconds"] for stage, figures in spent.items()}
        row["propagation_seconds"] = spent["finetune"]["propagation_seconds"]
        rows.append(row | {"hardware": spent["pretrain"]["hardware"]})
    return pd.DataFrame(rows)


def replaced(path: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """The table at `path`, if there is one, with the rows of the same first field replaced, in order."""
    key = rows.columns[0]
    if path.exists():
        # As text, so that all other figures stay digit for digit.
        old = pd.read_csv(path, dtype=str, keep_default_na=False)
        rows = pd.concat([old[~old[key].isin(rows[key])], rows])
    order = [key, *(name for name in ORDER if name in rows.columns)]
    return rows.sort_values(order, key=lambda column: column.map(_rank), ignore_index=True)


def _rank(value: str) -> tuple[float, str]:
    """Numbers of labels by their size, `all` behind them; names by the alphabet."""
    return (float(value) if value.isdigit() else float("inf"), value)


def _said(*command: str) -> str:
    """What a command prints; InputError with its complaint if it fails."""
    result = subprocess.run(  # noqa: S603 (fixed commands, without a shell)
        command, check=False, capture_output=True, text=True, env=experiment.environment()
    )
    if result.returncode:
        raise InputError(f"{' '.join(command)} failed: {' '.join(result.stderr.split())}")
    return result.stdout.strip()


if __name__ == "__main__":
    with reported():
        main(sys.argv[1:])
