"""Run experiments with the real pipeline and collect their accuracies on the test split.

    python -m benchmarks.quality [NAME …]        (make quality: all of them; it may take three hours)

For each experiment in `experiments/` it clones HEAD of this repository into a temporary folder, writes the
values of the experiment into the clone's params.yaml and runs `dvc repro` there with the DVC cache of this
repository, so that stages that have run before do not run again. Experiments with `runtime.device: cuda` are
skipped on a machine without a GPU. In the workspace only three tables in `benchmarks/results/` change; the
rows of the experiment are replaced:

- `quality.csv`: accuracy (fraction) by labels, protocol (`finetuned`; `distilled`, for few labels; `linear`
  for the probe of the frozen encoder) and method, with the half-width of the 95% interval over the draws;
- `quality_gains.csv`: the paired gain over scratch on the same draws, with its interval;
- `quality_timings.csv`: seconds of pretraining, of finetuning and of distilling, and the hardware.
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

from stages.compare.leftovers import remove_leftovers
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
PROTOCOLS = ("finetuned", "distilled", "linear")
ORDER = ["labels", "protocol", "method"]  # the rows of a table are sorted by these after the first column


def main(names: list[str]) -> None:
    """Run the experiments one after another; replace the rows of each in the tables."""
    results = RESULTS.absolute()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # removes the clone
    if output_of("git", "status", "--porcelain"):
        print("note: HEAD is measured; uncommitted changes have no effect", flush=True)
    names = names or runnable(experiment.names())
    for name in names:  # an invalid experiment is reported before the first one has run for an hour
        experiment.checked(name, load.read(load.PARAMS), experiment.read(name))
    for name in names:
        with clone() as environment:
            tables = measured(name, results.parents[1], environment)
        for file, table in tables.items():
            write_table(results / file, replaced(results / file, table))


def runnable(names: list[str]) -> list[str]:
    """The experiments that this machine can run: those for a GPU only if it has one."""
    for_gpu = [name for name in names if experiment.read(name).get("runtime.device") == "cuda"]
    if not for_gpu or torch.cuda.is_available():
        return names
    print(f"skipped, because this machine has no GPU: {', '.join(for_gpu)}", flush=True)
    return [name for name in names if name not in for_gpu]


@contextlib.contextmanager
def clone() -> Iterator[dict[str, str]]:
    """Change into a temporary clone of HEAD that shares the DVC cache; yields the environment for DVC."""
    repository, cache = Path.cwd(), output_of("dvc", "cache", "dir")
    with tempfile.TemporaryDirectory(prefix="headstart-") as folder:
        project = Path(folder) / "project"
        output_of("git", "clone", "--quiet", "--shared", str(repository), str(project))
        # DVC keeps a record of each repository in its site cache; this one is removed with the clone.
        environment = experiment.environment() | {"DVC_SITE_CACHE_DIR": str(Path(folder) / "notes")}
        with contextlib.chdir(project):
            output_of("dvc", "cache", "dir", "--local", cache)
            yield environment


def measured(name: str, workspace: Path, environment: dict[str, str]) -> dict[str, pd.DataFrame]:
    """Run an experiment in the clone that is the working directory.

    Args:
        workspace: the repository that was cloned; its data files are linked into the clone.
        environment: for DVC.

    Returns:
        The rows of the experiment for each of the three tables, by file name.
    """
    settings = configured(name, {}, workspace)
    remove_leftovers(settings.methods)  # as compare does: then the cache knows its inputs
    repro(name, environment)
    table, budgets = read_table(LABEL_EFFICIENCY), settings.finetune.budgets
    return {
        "quality.csv": accuracies(table, name, budgets),
        "quality_gains.csv": gains(table, name, budgets),
        "quality_timings.csv": timings(name, settings.methods),
    }


def configured(name: str, more: dict[str, Any], workspace: Path) -> Params:
    """Write the values of an experiment and `more` values, by dotted keys, into the clone's params.yaml."""
    changes = experiment.read(name) | more
    raw = experiment.checked(name, load.read(load.PARAMS), changes)
    settings = load.validated(raw)
    with load.PARAMS.open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(raw, file)
    for folder in (Path(settings.data.path), DOWNLOADS):
        link(folder, workspace)
    return settings


def repro(name: str, environment: dict[str, str], *stages: str) -> None:
    """Run `dvc repro` in the clone.

    Raises:
        InputError: it fails; the results in the clone would then be those of another experiment.
    """
    command = ["dvc", "repro", *stages]
    if subprocess.run(command, check=False, env=environment).returncode:  # noqa: S603 (fixed command, no shell)
        raise InputError(
            f"{experiment.file_of(name)}: dvc repro failed (see the output above); no table was changed"
        )


def link(folder: Path, workspace: Path) -> None:
    """Link the files in a folder of the workspace into the clone, because git does not track data files."""
    for file in (workspace / folder).glob("*"):
        if not (folder / file.name).exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file.name).symlink_to(file)


def accuracies(table: pd.DataFrame, name: str, budgets: Sequence[Budget]) -> pd.DataFrame:
    """The rows of the label-efficiency table as rows of quality.csv: the accuracy of every method."""
    rows = experiment_rows(table, name, budgets)
    return rows.rename(columns={"accuracy_ci95": "ci95"})[["experiment", *ORDER, "accuracy", "ci95"]]


def gains(table: pd.DataFrame, name: str, budgets: Sequence[Budget]) -> pd.DataFrame:
    """Rows of quality_gains.csv: the paired gain over scratch of every other method."""
    rows = experiment_rows(table, name, budgets).dropna(subset="gain")
    return rows.rename(columns={"gain_ci95": "ci95"})[["experiment", *ORDER, "gain", "ci95"]]


def experiment_rows(table: pd.DataFrame, name: str, budgets: Sequence[Budget]) -> pd.DataFrame:
    """The rows of these protocols with the name of the experiment and with the budgets of params.yaml.

    For the budget `all` the label-efficiency table has the size of the pool, a number that is no budget.
    """
    rows = table[table["protocol"].isin(PROTOCOLS)]
    names = {budget: str(budget) for budget in budgets if budget != "all"}
    return rows.assign(experiment=name, labels=[names.get(number, "all") for number in rows["labels"]])


def timings(name: str, methods: Sequence[str]) -> pd.DataFrame:
    """Rows of quality_timings.csv: seconds of pretraining, and of finetuning and distilling all draws."""
    rows = []
    for method in methods:
        figures_by_stage: dict[str, dict[str, Any]] = {
            stage: read_json(METRICS / "timings" / stage / f"{method}.json")
            for stage in ("pretrain", "finetune", "distil")
        }
        row = {"experiment": name, "method": method}
        row |= {f"{stage}_seconds": figures["seconds"] for stage, figures in figures_by_stage.items()}
        row["propagation_seconds"] = figures_by_stage["distil"]["propagation_seconds"]
        rows.append(row | {"hardware": figures_by_stage["pretrain"]["hardware"]})
    return pd.DataFrame(rows)


def replaced(path: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """The table in a file, sorted, with new rows instead of those with the same value in the first column.

    Args:
        path: the file; it need not exist.
    """
    key = rows.columns[0]
    if path.exists():
        # As text, so that the other rows keep every digit.
        old = pd.read_csv(path, dtype=str, keep_default_na=False)
        rows = pd.concat([old[~old[key].isin(rows[key])], rows])
    order = [key, *(name for name in ORDER if name in rows.columns)]
    return rows.sort_values(order, key=lambda column: column.map(_rank), ignore_index=True)


def _rank(value: str) -> tuple[float, str]:
    """The sort key of a field: numbers of labels by size, `all` after them; names alphabetically."""
    return (float(value) if value.isdigit() else float("inf"), value)


def output_of(*command: str) -> str:
    """The output of a command.

    Raises:
        InputError: the command fails; with its error output.
    """
    result = subprocess.run(  # noqa: S603 (fixed commands, without a shell)
        command, check=False, capture_output=True, text=True, env=experiment.environment()
    )
    if result.returncode:
        raise InputError(f"{' '.join(command)} failed: {' '.join(result.stderr.split())}")
    return result.stdout.strip()


if __name__ == "__main__":
    with reported():
        main(sys.argv[1:])
