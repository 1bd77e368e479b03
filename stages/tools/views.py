"""Choose the views on your own labels: a short pretraining with each preset, measured by a linear probe.

    python -m stages.tools.views [PRESET …] [--steps N] [--write]

Needs the prepared data (`dvc repro prepare`). For each preset, the first method of `methods` that compares
views is trained for a few hundred steps. The linear probe on its features is cross-validated on the labelled
images of the pool and of validation; images of one group are never on both sides. The test split is not read.

The preset with the highest balanced accuracy is the best. Others are as good if they differ from it by less
than one standard error of the paired difference (L. Breiman et al., "Classification and Regression Trees",
1984, section 3.4.3). If the preset that params.yaml names is one of these, it stays: noise is no reason for a
change. Else the one of them that changes the images most is chosen for pretraining: it is the harder task,
which gains more from the longer training than a short one shows. For finetuning it is the one that changes
them least. `--write` enters both.

A run that was stopped resumes: what is trained is kept in models/checkpoints/views.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from stages.errors import InputError, reported
from stages.files.packs import read_pack
from stages.files.paths import IMAGES
from stages.files.tables import write_table
from stages.pretrain.length import length_of
from stages.pretrain.two_views import TwoViewParams
from stages.settings import load
from stages.settings.findings import unknown
from stages.settings.schema import Params, ViewPresets, method_params
from stages.tasks.folds import standard_error
from stages.tools.params_file import write_values
from stages.tools.preset_trial import FOLDER, FOLDS, SPLITS, LabelledImages, Measured, Trial
from stages.training.checkpoint import remove_unused
from stages.training.progress import progress
from stages.training.workers import Workers, fitting, warm_up

STEPS = 300
FOR_GREY = ("digits", "clothes", "clothes_mild")  # presets that are not tried on colour images unless named
USES = ("pretrain", "finetune")
NAMED = f"as {load.PARAMS} says already"
UNTRAINED = "(untrained)"  # the row of the encoder before any training; no preset can have this name


@dataclass(frozen=True)
class Choice:
    """The names of presets.

    Attributes:
        best: the most accurate one.
        pretrain, finetune: what is chosen for pretraining and for finetuning.
    """

    best: str
    pretrain: str
    finetune: str


def main(arguments: Sequence[str]) -> None:
    """Measure the presets, print the table, and enter the chosen one in params.yaml if asked."""
    options = parsed(arguments)
    settings = load.validated(load.read(load.PARAMS))
    method, pool = comparing_method(settings), read_pack(IMAGES / "pool.npy")
    presets = chosen_presets(options.presets, settings, channels=pool.shape[1])
    trial = Trial.open(method, options.steps, 0)
    print(plan(method, presets, options.steps, trial.labelled), flush=True)
    if options.dry_run:
        return
    remove_unused(FOLDER, set(settings.views.presets))
    measured = measure(method, presets, options.steps, settings)
    choice = choose(measured, trial.labelled.units, settings.views)
    table = as_table(measured, trial.labelled.units, choice)
    print(table.to_string(index=False, na_rep=""))
    print(*verdict(measured, trial.labelled.units, choice, settings.views), sep="\n")
    if options.csv:
        write_table(options.csv, table.assign(method=method, steps=options.steps))
        print(f"{options.csv}: written")
    if options.write:
        changed = write_values({f"views.{use}": getattr(choice, use) for use in USES})
        print(f"{load.PARAMS}: " + (f"{', '.join(changed)} written" if changed else "has them already"))
    else:
        both = ", ".join(f"{use}: {getattr(choice, use)}" for use in USES)
        print(f"enter them in {load.PARAMS}, or add --write: views: {{{both}}}")


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.tools.views",
        description="Choose the views on your own labels: a short pretraining with each preset, measured by "
        "a linear probe that is cross-validated on the labelled images. Run `dvc repro prepare` first. A run "
        "that was stopped resumes.",
    )
    parser.add_argument(
        "presets",
        metavar="PRESET",
        nargs="*",
        help="presets of params.yaml (default: all; on colour images without those for grey ones)",
    )
    parser.add_argument("--steps", type=int, default=STEPS, help="length of each pretraining (default: 300)")
    parser.add_argument("--write", action="store_true", help="enter the chosen preset in params.yaml")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table as CSV too")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be trained and measured")
    options = parser.parse_args(arguments)
    if options.steps < 1:
        raise InputError(f"--steps is {options.steps}; allowed: 1 or more")
    return options


def comparing_method(settings: Params) -> str:
    """The first method of params.yaml that compares views of an image."""
    for method in settings.methods:
        if issubclass(method_params(method), TwoViewParams):
            return method
    raise InputError(
        f"{load.PARAMS}: methods has none that compares views; add one, such as simclr, to choose views with"
    )


def chosen_presets(named: Sequence[str], settings: Params, channels: int) -> list[str]:
    """The presets to try, in the order of params.yaml or of the command line."""
    known = list(settings.views.presets)
    for name in named:
        if name not in known:
            raise InputError(f"PRESET: {unknown(name, known)}")
    return list(dict.fromkeys(named)) or [p for p in known if channels == 1 or p not in FOR_GREY]


def plan(method: str, presets: Sequence[str], steps: int, labelled: LabelledImages) -> str:
    """What will be trained and measured, in words."""
    count, units = len(labelled.labels), len(np.unique(labelled.units))
    groups = f" in {units:,} groups" if units < count else ""
    return (
        f"views: {method}, {steps} steps with each of {', '.join(presets)}; then the linear probe on "
        f"{count:,} labelled images{groups} of pool and validation ({FOLDS} folds, {SPLITS} times)"
    )


def measure(method: str, presets: Sequence[str], steps: int, settings: Params) -> dict[str, Measured]:
    """What each preset gave, after the untrained encoder; the trainings run side by side."""
    tasks = [None, *presets]
    pool = len(read_pack(IMAGES / "pool.npy"))
    images = len(presets) * steps * length_of(method, settings.pretrain[method], pool).batch_size
    count = min(fitting(settings.runtime.threads.pretrain), len(presets))
    warm_up("stages.tools.preset_trial", "torch._dynamo")
    results: dict[int, Measured] = {}
    opener = partial(Trial.open, method, steps)
    with progress("views", images) as bar, Workers("views", opener, count) as workers:
        for number, result in workers.run(Trial.measure, tasks, bar):
            results[number] = result
            print(f"views: {tasks[number] or UNTRAINED}: {result.right.mean():.1%}", flush=True)
    return {task or UNTRAINED: results[number] for number, task in enumerate(tasks)}


def seconds(settings: Params, channels: int, step: float) -> float:
    """What trying all presets takes, if one step of pretraining takes `step` seconds."""
    presets = len(chosen_presets([], settings, channels))
    side_by_side = min(fitting(settings.runtime.threads.pretrain), presets)
    return presets * STEPS * step / side_by_side


def choose(measured: Mapping[str, Measured], units: np.ndarray, named: ViewPresets) -> Choice:
    """The best preset; of those as good within noise the named ones, or the strongest and the mildest."""
    presets = [name for name in measured if name != UNTRAINED]
    best = max(presets, key=lambda name: measured[name].right.mean())
    good = sorted(as_good(measured, units, best), key=lambda name: measured[name].change)
    return Choice(
        best,
        pretrain=named.pretrain if named.pretrain in good else good[-1],
        finetune=named.finetune if named.finetune in good else good[0],
    )


def as_good(measured: Mapping[str, Measured], units: np.ndarray, best: str) -> list[str]:
    """The presets that differ from the best by less than the standard error of the paired difference."""
    gaps = {name: gap(measured, units, best, name) for name in measured if name != UNTRAINED}
    return [name for name, (points, error) in gaps.items() if name == best or points < error]


def gap(measured: Mapping[str, Measured], units: np.ndarray, one: str, other: str) -> tuple[float, float]:
    """By how much one preset is more accurate than another on the same images, and its standard error."""
    difference = measured[one].right - measured[other].right
    return float(difference.mean()), standard_error(difference, units)


def as_table(measured: Mapping[str, Measured], units: np.ndarray, choice: Choice) -> pd.DataFrame:
    """One row for each preset, the most accurate first; balanced accuracies and their errors in per cent."""
    rows = []
    for name, result in sorted(measured.items(), key=lambda item: -item[1].right.mean()):
        behind, error = gap(measured, units, choice.best, name)
        row = {"preset": name, "accuracy": 100 * float(result.right.mean())}
        row["standard_error"] = 100 * standard_error(result.right, units)
        row |= {"behind_best": 100 * behind, "its_error": 100 * error, "change_of_images": result.change}
        uses = " and ".join(use for use in USES if getattr(choice, use) == name)
        rows.append(row | {"chosen_for": uses})
    decimals = {"change_of_images": 3} | dict.fromkeys(
        ("accuracy", "standard_error", "behind_best", "its_error"), 1
    )
    return pd.DataFrame(rows).round(decimals)


def verdict(
    measured: Mapping[str, Measured], units: np.ndarray, choice: Choice, named: ViewPresets
) -> list[str]:
    """What was chosen and why, and what the figures do not show, in sentences."""
    good = as_good(measured, units, choice.best)
    if len(good) == 1:
        lines = [f"views: chosen: {choice.best}; it is the most accurate"]
    else:
        strongest = NAMED if choice.pretrain == named.pretrain else "which changes the images most"
        mildest = NAMED if choice.finetune == named.finetune else "which changes them least"
        lines = [
            f"views: as good within noise: {', '.join(good)}; chosen: {choice.pretrain} for pretraining, "
            f"{strongest}, and {choice.finetune} for finetuning, {mildest}"
        ]
    points, error = gap(measured, units, choice.pretrain, UNTRAINED)
    if points <= 2 * error:
        lines.append(
            "warning: it is not better than the untrained encoder beyond noise; try more --steps, more "
            "labels, or a preset of your own"
        )
    lines.append(
        "views: accuracy is balanced: each class counts the same; errors are of the choice of images"
    )
    return lines


if __name__ == "__main__":
    with reported():
        main(sys.argv[1:])
