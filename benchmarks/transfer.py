"""What is learnt on one dataset, used on another: MNIST's encoder on Fashion-MNIST, and the other way round.

    python -m benchmarks.transfer [NAME …]            writes benchmarks/results/transfer.csv
    python -m benchmarks.transfer --tune [NAME …]     chooses the recipe of `imported`: its rows of tuning.csv

NAME is where the encoder is used; without one it is both.

As `benchmarks.quality` does, it runs the experiments of these names in temporary clones of HEAD, with this
repository's DVC cache. The encoder that SimCLR pretrained in one becomes `models/imported.safetensors` of the
other, and stands there beside scratch and SimCLR on the domain's own images: as it came, and trained further
for one epoch. Budgets are those below all labels.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.quality import LABEL_EFFICIENCY, PROTOCOLS, RESULTS, clone, configured, replaced, repro
from stages.errors import InputError, reported
from stages.files import weights
from stages.files.paths import ENCODERS
from stages.files.tables import read_table, write_table
from stages.tools import tune

DOMAINS = {"fashion-mnist": "mnist", "mnist": "fashion-mnist"}  # where an encoder is used, where it is from
ENCODER, IMPORTED = ENCODERS / "simclr.safetensors", Path("models/imported.safetensors")
METHODS = ["scratch", "simclr", "imported"]
FURTHER = (0, 1)  # epochs


def main(arguments: list[str]) -> None:
    """Measure, or tune for, the named directions or both."""
    names = [name for name in arguments if name != "--tune"] or list(DOMAINS)
    if not set(names) <= DOMAINS.keys():
        raise InputError(f"usage: benchmarks.transfer [--tune] [NAME …]; NAME: {', '.join(DOMAINS)}")
    results = RESULTS.absolute()
    workspace = results.parents[1]
    with tempfile.TemporaryDirectory(prefix="headstart-") as folder:
        for name in names:
            encoder = pretrained(DOMAINS[name], workspace, Path(folder))
            if "--tune" in arguments:
                tuned(name, encoder, workspace)
                continue
            rows = pd.concat([measured(name, encoder, epochs, workspace) for epochs in FURTHER])
            rows = rows.drop_duplicates(subset=["labels", "protocol", "method"])
            file = results / "transfer.csv"
            write_table(file, replaced(file, rows))


def pretrained(name: str, workspace: Path, folder: Path) -> Path:
    """Pretrain on an experiment's images, or take it from the cache; a copy of the encoder's file."""
    with clone() as environment:
        configured(name, {}, workspace)
        repro(name, environment, "pretrain@simclr")
        return Path(shutil.copy(ENCODER, folder / f"{name}.safetensors"))


def set_up(name: str, encoder: Path, epochs: int, workspace: Path) -> None:
    """Set the clone that is the working directory up for an imported encoder.

    Its recipe is that of `imported`, chosen for an encoder as it came. Trained further it has learnt these
    images as SimCLR does, and gets SimCLR's.
    """
    settings = configured(name, {}, workspace)
    changes: dict[str, Any] = {
        "methods": METHODS,
        "finetune.budgets": [budget for budget in settings.finetune.budgets if budget != "all"],
        "pretrain.imported.digest": weights.read_digest(encoder),
        "pretrain.imported.epochs": epochs,
    }
    if epochs:
        recipe = settings.finetune.recipe["simclr"].model_dump()
        changes |= {f"finetune.recipe.imported.{key}": value for key, value in recipe.items()}
    configured(name, changes, workspace)
    IMPORTED.parent.mkdir(exist_ok=True)
    shutil.copy(encoder, IMPORTED)


def measured(name: str, encoder: Path, epochs: int, workspace: Path) -> pd.DataFrame:
    """Accuracy and gain over scratch on the test split; `imported` says how far it was trained on."""
    with clone() as environment:
        set_up(name, encoder, epochs, workspace)
        repro(name, environment)
        table = read_table(LABEL_EFFICIENCY)
    rows = table[table["protocol"].isin(PROTOCOLS)].rename(columns={"accuracy_ci95": "ci95"})
    named = {"imported": f"imported, then {epochs} epoch" if epochs else "imported"}
    rows = rows.assign(dataset=name, labels=rows["labels"].astype(str), method=rows["method"].replace(named))
    return rows[["dataset", "labels", "protocol", "method", "accuracy", "ci95", "gain", "gain_ci95"]]


def tuned(name: str, encoder: Path, workspace: Path) -> None:
    """Measure the grid of recipes for the encoder as it came; its rows go into this repository's table."""
    with clone() as environment:
        set_up(name, encoder, 0, workspace)
        repro(name, environment, "pretrain@imported")
        tune.RESULT.unlink()
        tune.main(["imported"])
        rows = read_table(tune.RESULT)
    file = workspace / tune.RESULT
    old = pd.read_csv(file, dtype=str, keep_default_na=False)  # so that other rows stay digit for digit
    same = (old["dataset"] == rows["dataset"].iloc[0]) & (old["method"] == "imported")
    write_table(file, pd.concat([old[~same], rows]))


if __name__ == "__main__":
    with reported():
        main(sys.argv[1:])
