"""Use an encoder on another dataset: MNIST's encoder on Fashion-MNIST, and the other way round.

    python -m benchmarks.transfer [NAME …]            writes benchmarks/results/transfer.csv
    python -m benchmarks.transfer --tune [NAME …]     tunes the recipe of `imported`: its rows of tuning.csv

NAME is the dataset that the encoder is used on; the default is both.

As `benchmarks.quality` does, it runs the experiments of these names in temporary clones of HEAD with the DVC
cache of this repository. The encoder that SimCLR pretrained on one dataset is compared on the other dataset
with scratch and with SimCLR on that dataset's own images, in two runs:

- `imported`: the method `imported`, which trains nothing before the finetuning;
- `imported, then 1 epoch`: SimCLR that starts from this encoder and trains for one epoch on the images of the
  dataset. It takes the place of the dataset's own SimCLR, so it needs a run of its own.

All budgets of the experiment are used except `all`.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.quality import LABEL_EFFICIENCY, RESULTS, clone, configured, repro
from benchmarks.quality_tables import PROTOCOLS, replaced
from stages.errors import InputError, reported
from stages.files import weights
from stages.files.paths import encoder_file
from stages.files.tables import read_table, write_table
from stages.settings.schema import Params
from stages.tools import tune

SOURCES = {"fashion-mnist": "mnist", "mnist": "fashion-mnist"}  # target dataset → the encoder's dataset
ENCODER, IMPORTED = encoder_file("simclr", 0), Path("models/imported.safetensors")
EPOCHS, POOL, RATE = 1, 55_000, 0.003  # of the further training: half the rate for fresh weights
FURTHER = f"imported, then {EPOCHS} epoch"  # the name of its rows


def main(arguments: list[str]) -> None:
    """Measure, or tune for, the named target datasets."""
    names = [name for name in arguments if name != "--tune"] or list(SOURCES)
    if not set(names) <= SOURCES.keys():
        raise InputError(f"usage: benchmarks.transfer [--tune] [NAME …]; NAME: {', '.join(SOURCES)}")
    results = RESULTS.absolute()
    workspace = results.parents[1]
    with tempfile.TemporaryDirectory(prefix="headstart-") as folder:
        for name in names:
            encoder = pretrained(SOURCES[name], workspace, Path(folder))
            if "--tune" in arguments:
                tuned(name, encoder, workspace)
                continue
            rows = pd.concat([measured(name, encoder, further, workspace) for further in (False, True)])
            file = results / "transfer.csv"
            write_table(file, replaced(file, rows))


def pretrained(name: str, workspace: Path, folder: Path) -> Path:
    """Pretrain with an experiment, or take the encoder from the cache; returns a copy of its file."""
    with clone() as environment:
        configured(name, {}, workspace)
        repro(name, environment, "pretrain@simclr")
        return Path(shutil.copy(ENCODER, folder / f"{name}.safetensors"))


def set_up(name: str, encoder: Path, further: bool, workspace: Path) -> None:
    """Set up the clone that is the working directory for an imported encoder.

    Args:
        name: the experiment of the target dataset.
        encoder: the file of the encoder.
        further: whether SimCLR trains it further.
        workspace: the repository that was cloned.
    """
    settings = configured(name, {}, workspace)
    configured(name, changes(settings, weights.read_digest(encoder), further), workspace)
    IMPORTED.parent.mkdir(exist_ok=True)
    shutil.copy(encoder, IMPORTED)


def changes(settings: Params, digest: str | None, further: bool) -> dict[str, Any]:
    """The values, by dotted keys, that a run with an imported encoder adds to the experiment.

    The recipe for finetuning follows from the method. Without further training it is the recipe of
    `imported`, which was tuned for such encoders. With further training it is the recipe of SimCLR, because
    the encoder has then been trained on the images of the dataset as SimCLR's has.

    Args:
        settings: of the experiment.
        digest: of the encoder's file.
        further: whether SimCLR trains it further.
    """
    method = "simclr" if further else "imported"
    values: dict[str, Any] = {
        "methods": ["scratch", "simclr"] if further else ["scratch", "simclr", "imported"],
        "finetune.budgets": [budget for budget in settings.finetune.budgets if budget != "all"],
        f"pretrain.{method}.start.file": str(IMPORTED),
        f"pretrain.{method}.start.digest": digest,
    }
    training = {
        "pretrain.simclr.images": EPOCHS * POOL,
        "pretrain.simclr.steps": 1,
        "pretrain.simclr.learning_rate": RATE,
    }
    return values | (training if further else {})


def measured(name: str, encoder: Path, further: bool, workspace: Path) -> pd.DataFrame:
    """Run the pipeline with an imported encoder; returns rows of transfer.csv."""
    with clone() as environment:
        set_up(name, encoder, further, workspace)
        repro(name, environment)
        return transfer_rows(read_table(LABEL_EFFICIENCY), name, further)


def transfer_rows(table: pd.DataFrame, name: str, further: bool) -> pd.DataFrame:
    """Accuracy and gain over scratch on the test split, by labels, protocol and method.

    Args:
        table: the label-efficiency table of a run.
        name: the target dataset.
        further: whether the run trained the imported encoder further: then only its rows are returned,
            because the other run has those of scratch too.
    """
    rows = table[table["protocol"].isin(PROTOCOLS)].rename(columns={"accuracy_ci95": "ci95"})
    rows = rows.assign(dataset=name, labels=rows["labels"].astype(str))
    if further:
        rows = rows[rows["method"] == "simclr"].assign(method=FURTHER)
    return rows[["dataset", "labels", "protocol", "method", "accuracy", "ci95", "gain", "gain_ci95"]]


def tuned(name: str, encoder: Path, workspace: Path) -> None:
    """Tune the recipe of `imported` for an encoder; replaces its rows in the table of this repository."""
    with clone() as environment:
        set_up(name, encoder, False, workspace)
        repro(name, environment, "pretrain@imported")
        tune.RESULT.unlink()
        tune.main(["imported"])
        rows = read_table(tune.RESULT)
    file = workspace / tune.RESULT
    old = pd.read_csv(file, dtype=str, keep_default_na=False)  # as text, so that other rows keep every digit
    same = (old["dataset"] == rows["dataset"].iloc[0]) & (old["method"] == "imported")
    write_table(file, pd.concat([old[~same], rows]))


if __name__ == "__main__":
    with reported():
        main(sys.argv[1:])
