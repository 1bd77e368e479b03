"""Run experiments with the real pipeline and collect their accuracies on the test split.

    python -m benchmarks.quality [NAME …]              (make quality: all of them; it takes many hours)
    python -m benchmarks.quality --quick NAME …        a small part of each, printed and not recorded
    python -m benchmarks.quality --statements [NAME …]  what the tables say already; nothing is run

For each experiment in `experiments/` it clones HEAD of this repository into a temporary folder, writes the
values of the experiment into the clone's params.yaml and runs `dvc repro` there with the DVC cache of this
repository, so that stages that have run before do not run again. Experiments with `runtime.device: cuda` are
skipped on a machine without a GPU, and those of a folder that `benchmarks.folders` makes, where it is not
there. In the workspace only four tables in `benchmarks/results/` change; the rows of the experiment are
replaced:

- `quality.csv`: accuracy (fraction) by dataset (the experiment's name), labels, protocol (`finetuned`;
  `distilled`, for few labels; `linear` for the probe of the frozen encoder; `baseline` for classifiers
  without an encoder) and method, with the half-width of the 95% interval, the draws and the runs;
- `quality_gains.csv`: the paired gain over scratch, and, where there are, over weights from elsewhere as they
  came (`imported`), over the best simple baseline and over a probe of public weights (`imagenet`), with its
  interval;
- `quality_recall.csv`: macro recall and its paired gain over scratch, for data with one frequent class;
- `quality_timings.csv`: seconds of pretraining, of finetuning and of distilling, and the hardware.

After each experiment it prints the four statements of `benchmarks.statements`.
"""

import argparse
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

from benchmarks.folders import FOLDERS
from benchmarks.quality_tables import accuracies, by_recall, gains, recalls, replaced, timings
from benchmarks.statements import judged
from stages.compare.leftovers import remove_leftovers
from stages.errors import InputError, reported
from stages.files.json_files import read_json
from stages.files.paths import DETAILS, METRICS
from stages.files.tables import read_table, write_table
from stages.prepare.mnist import DOWNLOADS
from stages.settings import load
from stages.settings.findings import unknown
from stages.settings.schema import Params
from stages.tools import experiment

RESULTS = Path("benchmarks/results")
LABEL_EFFICIENCY = METRICS / "label_efficiency.csv"
SUMMARY = METRICS / "summary.json"
QUICK = {"pretrain.runs": 1, "finetune.draws": 3}  # and without the budget `all`


def main(arguments: Sequence[str]) -> None:
    """Run the experiments one after another; replace the rows of each in the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description=str(__doc__).split("\n")[0]
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="experiments; without any: all")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--quick", action="store_true", help="1 run, 3 draws, no budget all; nothing is recorded"
    )
    how.add_argument("--statements", action="store_true", help="judge the recorded figures; nothing is run")
    parsed = parser.parse_args(arguments)
    results = RESULTS.absolute()
    if parsed.statements:
        state_recorded(results, parsed.names)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # removes the clone
    if output_of("git", "status", "--porcelain"):
        print("note: HEAD is measured; uncommitted changes have no effect", flush=True)
    names = parsed.names or runnable(experiment.names())
    for name in names:  # an invalid experiment is reported before the first one has run for an hour
        experiment.checked(name, load.read(load.PARAMS), experiment.read(name))
        if reason := lacks_data(name):
            raise InputError(f"{experiment.file_of(name)}: {reason}")
    for name in names:
        with clone() as environment:
            more = quick(experiment.read(name)) if parsed.quick else {}
            tables = measured(name, results.parents[1], environment, more)
        if parsed.quick:
            print(tables["quality.csv"].to_string(index=False))
        else:
            record(results, tables)
        state(name, tables)


def runnable(names: list[str]) -> list[str]:
    """The experiments that this machine can run: it has the GPU and the folder of images that they need."""
    runs = []
    for name in names:
        for_gpu = experiment.read(name).get("runtime.device") == "cuda" and not torch.cuda.is_available()
        if reason := "this machine has no GPU" if for_gpu else lacks_data(name):
            print(f"{name} is skipped: {reason}", flush=True)
        else:
            runs.append(name)
    return runs


def lacks_data(name: str) -> str | None:
    """Why the images of an experiment are not there; None if they are, or if `prepare` fetches them."""
    path = Path(experiment.read(name).get("data.path", "."))
    if path.name not in FOLDERS or path.exists():
        return None
    return f"there is no {path}; run `python -m benchmarks.folders {path.name} {path}`"


def quick(changes: dict[str, Any]) -> dict[str, Any]:
    """The values, by dotted keys, that make an experiment short."""
    budgets = changes.get("finetune.budgets", load.read(load.PARAMS)["finetune"]["budgets"])
    return QUICK | {"finetune.budgets": [budget for budget in budgets if budget != "all"]}


def record(results: Path, tables: dict[str, pd.DataFrame]) -> None:
    """Replace the rows of a dataset in the tables of the folder of results."""
    for file, table in tables.items():
        write_table(results / file, replaced(results / file, table))


def state(name: str, tables: dict[str, pd.DataFrame]) -> None:
    """Print the statements about one dataset, by accuracy and, if it was recorded, by macro recall."""
    recalls = tables["quality_recall.csv"]
    print(f"\n{name}", *judged(tables["quality.csv"], tables["quality_gains.csv"]), sep="\n", flush=True)
    if len(recalls):
        print(f"\n{name}, by macro recall", *judged(*by_recall(recalls)), sep="\n", flush=True)


def state_recorded(results: Path, names: Sequence[str]) -> None:
    """Print the statements about the rows of the recorded tables."""
    tables = {
        file: pd.read_csv(results / file, dtype={"labels": str})
        for file in ("quality.csv", "quality_gains.csv", "quality_recall.csv")
    }
    recorded = list(tables["quality.csv"]["dataset"].unique())
    for name in names or recorded:
        if name not in recorded:
            raise InputError(f"{results / 'quality.csv'}: {unknown(name, recorded)}")
        state(name, {file: table[table["dataset"] == name] for file, table in tables.items()})


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


def measured(
    name: str, workspace: Path, environment: dict[str, str], more: dict[str, Any]
) -> dict[str, pd.DataFrame]:
    """Run an experiment in the clone that is the working directory; returns what `tables_of` does.

    Args:
        workspace: the repository that was cloned; its data files are linked into the clone.
        environment: for DVC.
        more: values, by dotted keys, beside those of the experiment.
    """
    settings = configured(name, more, workspace)
    remove_leftovers(settings.methods)  # as compare does: then the cache knows its inputs
    repro(name, environment)
    return tables_of(name, settings)


def tables_of(name: str, settings: Params) -> dict[str, pd.DataFrame]:
    """The rows of the project in the working directory for each of the four tables, by file name.

    Args:
        name: of the dataset in the tables.
        settings: those of the project.
    """
    table, budgets = read_table(LABEL_EFFICIENCY), settings.finetune.budgets
    return {
        "quality.csv": accuracies(table, name, budgets),
        "quality_gains.csv": gains(table, read_json(SUMMARY), name, budgets),
        "quality_recall.csv": recalls(read_json(DETAILS), name),
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
