"""Stage pretrain@METHOD: train encoders on the pool's images, one in each run.

It reads no label of the pool and nothing of the test split.

python -m stages.pretrain METHOD
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from stages.errors import reported
from stages.files import provenance, weights
from stages.files.digests import write_digests
from stages.files.locks import require_writable
from stages.files.packs import read_pack, read_pack_if_any
from stages.files.paths import ENCODERS, IMAGES, LARGE_POOL, METRICS, encoder_file
from stages.files.records import write_record
from stages.files.whole import whole_folder
from stages.images.tensors import as_tensor
from stages.networks.encoder import Encoder
from stages.pretrain import illustration
from stages.pretrain.curve import write_curve
from stages.pretrain.run import Pretrainer, Result, run_name
from stages.settings import load
from stages.tasks.labels import read_groups, read_labels
from stages.training.checkpoint import CHECKPOINTS, Origin, remove_unused
from stages.training.loop import Row
from stages.training.machine import Machine, set_up

# Left out of the checkpoints' key. The labels serve to monitor the training, which does not depend on them;
# a run does not depend on how many there are.
NOT_IN_KEY = (str(IMAGES / "validation.csv"), "pretrain.runs")


@dataclass(frozen=True)
class Outputs:
    """The paths of what the stage writes for one method; `encoders` is a folder."""

    encoders: Path
    curve: Path
    figures: Path
    illustration: Path
    timings: Path

    @staticmethod
    def of(method: str) -> "Outputs":
        """The paths for `method`."""
        return Outputs(
            encoders=ENCODERS / method,
            curve=METRICS / "pretrain" / f"{method}.csv",
            figures=METRICS / "pretrain" / f"{method}.json",
            illustration=METRICS / "pretrain" / f"{method}_shown.png",
            timings=METRICS / "timings" / "pretrain" / f"{method}.json",
        )


def main(method: str) -> None:
    """Train the encoder of each run, and write encoders, curves, figures, illustration and timings."""
    raw = load.read(load.PARAMS)
    settings = load.parameters("pretrain", method, raw)
    machine = set_up(settings.runtime, settings.runtime.threads.pretrain)
    origin = Origin.of("pretrain", method, machine, raw)
    outputs, checkpoints = Outputs.of(method), CHECKPOINTS / "pretrain" / method
    runs = range(settings.pretrain.runs)
    require_writable(*vars(outputs).values())
    remove_unused(checkpoints, set(map(run_name, runs)))
    require_writable(*(checkpoints / run_name(run) for run in runs))
    pool, validation = read_pack(IMAGES / "pool.npy"), validation_set(machine)
    large = read_pack_if_any(LARGE_POOL, rows=len(pool))
    key = origin.key(without=NOT_IN_KEY)
    pretrainer = Pretrainer(method, settings, machine, pool, large, validation, checkpoints, key)
    results: list[Result] = []

    def record(rows: list[Row]) -> None:
        write_curve(outputs.curve, [*(result.curve for result in results), rows])

    with whole_folder(outputs.encoders) as folder:
        for run in runs:
            encoder, result = pretrainer.pretrain(run, record)
            weights.write_encoder(folder / encoder_file(method, run).name, encoder)
            results.append(result)
        write_digests(folder, outputs.encoders)
        origin.require_unchanged()

    first = results[0]
    figures = combined(results) | {
        "steps": first.steps,
        "batch_size": first.batch_size,
        "passes": round(first.passes, 2),
        "parameters": parameter_count(encoder),
        **machine.describe(),
        "shown": list(first.shown),
        "made_from": provenance.made_from("pretrain", method, hashed=origin.hashes),
    }
    timings = machine.timings(sum(result.seconds for result in results), sum(r.images for r in results))
    monitoring = sum(result.monitoring_seconds for result in results)
    write_curve(outputs.curve, [result.curve for result in results])
    illustration.write(outputs.illustration, first.shown)
    write_record(outputs.figures, figures, outputs.curve, outputs.illustration)
    write_record(outputs.timings, timings | {"monitoring_seconds": round(monitoring, 1)})
    for run, result in enumerate(results):
        result.print(pretrainer.title(run))


def combined(results: Sequence[Result]) -> dict[str, Any]:
    """The figures of run 0, with the mean kNN accuracies, the first collapse and all doubts of the runs.

    `runs` has the figures of each run.
    """
    runs = [result.figures() for result in results]
    figures: dict[str, Any] = {**runs[0], "runs": runs}
    for name in ("knn", "knn_untrained"):
        if figures[name] is not None:  # then all runs have it: they have the same validation labels
            figures[name] = round(float(np.mean([run[name] for run in runs])), 4)
    if len(runs) > 1:
        collapses = (f"run {run}, {of['collapse']}" for run, of in enumerate(runs) if of["collapse"])
        figures["collapse"] = next(collapses, None)
        figures["doubts"] = [f"run {run}, {doubt}" for run, of in enumerate(runs) for doubt in of["doubts"]]
    return figures


def validation_set(machine: Machine) -> tuple[Tensor, Tensor, Tensor]:
    """The validation images, their labels and their groups: see `Pretrainer.validation`.

    The labels that there are are numbered from 0 on, so that votes need no column for one that nobody has.
    """
    table = IMAGES / "validation.csv"
    labels, groups = read_labels(table), read_groups(table)
    labels[labels >= 0] = labels[labels >= 0].unique(return_inverse=True)[1]
    images = as_tensor(read_pack(IMAGES / "validation.npy", rows=len(labels)))
    return images, labels.to(machine.device), groups.to(machine.device)


def parameter_count(encoder: Encoder) -> int:
    """The number of trainable parameters."""
    return sum(p.numel() for p in encoder.parameters())


if __name__ == "__main__":
    with reported():
        main(load.named_method("pretrain", sys.argv[1:]))
