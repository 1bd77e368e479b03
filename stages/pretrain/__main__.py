"""Stage pretrain@METHOD: train an encoder on the pool's images.

It reads no label of the pool and nothing of the test split.

python -m stages.pretrain METHOD
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from stages.errors import reported
from stages.files import provenance, weights
from stages.files.json_files import write_json
from stages.files.locks import require_writable
from stages.files.packs import read_pack
from stages.files.paths import ENCODERS, IMAGES, METRICS
from stages.images.tensors import as_tensor
from stages.networks.encoder import Encoder
from stages.pretrain import illustration
from stages.pretrain.curve import write_curve
from stages.pretrain.health import Monitor
from stages.pretrain.learner import Learner, build
from stages.pretrain.start import fresh_encoder, imported_encoder
from stages.pretrain.train import train
from stages.settings import load
from stages.settings.schema import Training
from stages.tasks.labels import read_labels
from stages.training.checkpoint import CHECKPOINTS, Checkpoint, Origin
from stages.training.machine import Machine, set_up
from stages.training.randomness import Stream

# Left out of the checkpoint's key: the labels serve to monitor the training, which does not depend on them.
VALIDATION_LABELS = (str(IMAGES / "validation.csv"),)


@dataclass(frozen=True)
class Outputs:
    """The paths of the files that the stage writes for one method."""

    encoder: Path
    curve: Path
    figures: Path
    illustration: Path
    timings: Path

    @staticmethod
    def of(method: str) -> "Outputs":
        """The paths for `method`."""
        return Outputs(
            encoder=ENCODERS / f"{method}.safetensors",
            curve=METRICS / "pretrain" / f"{method}.csv",
            figures=METRICS / "pretrain" / f"{method}.json",
            illustration=METRICS / "pretrain" / f"{method}_shown.png",
            timings=METRICS / "timings" / "pretrain" / f"{method}.json",
        )


def main(method: str) -> None:
    """Build the encoder, train it, and write encoder, curve, figures, illustration and timings."""
    raw = load.read(load.PARAMS)
    settings = load.parameters("pretrain", method, raw)
    machine = set_up(settings.runtime, settings.runtime.threads.pretrain)
    origin = Origin.of("pretrain", method, machine, raw)
    stream = Stream.of(settings.seed, "pretrain")
    outputs, checkpoint_file = Outputs.of(method), CHECKPOINTS / "pretrain" / method
    require_writable(*vars(outputs).values(), checkpoint_file)
    pool = read_pack(IMAGES / "pool.npy")
    section = settings.pretrain[method]
    encoder = fresh_encoder(settings, pool, stream.at("encoder"))
    if (start := getattr(section, "start", None)) is not None:
        encoder = imported_encoder(method, start, encoder.declaration)
    encoder.to(machine.device)

    monitor = Monitor(method, encoder, *validation_set(machine), settings.knn, settings.health, machine)
    seconds, trained_images = 0.0, 0
    learner: Learner | None = None
    if isinstance(section, Training):
        strengths = settings.views.presets[settings.views.pretrain]
        learner = build(method, encoder, section, strengths, stream)
        monitor.uninformative = learner.uninformative
        checkpoint = Checkpoint(checkpoint_file, origin.key(without=VALIDATION_LABELS))
        if checkpoint.saved:
            monitor.replay(checkpoint.saved.facts["curve"], checkpoint.beside)
        checkpoint.beside = monitor.stored
        curve, seconds = train(
            method, learner, pool, section, machine, stream.at(method), monitor, outputs.curve, checkpoint
        )
        trained_images = curve[-1]["step"] * section.batch_size
    else:
        untrained = {"step": 0, "epoch": 0.0, "loss": None, "learning_rate": None}
        curve = [untrained | monitor(0, None, True)]

    rows = illustration.make_rows(learner, pool, machine, stream.at(method, "shown"))
    first, last = curve[0], curve[-1]
    figures = {
        "knn": last["knn"],
        "knn_untrained": first["knn"],
        "feature_std": last["feature_std"],
        "rankme": last["rankme"],
        "collapse": monitor.collapse,
        "loss": last["loss"],
        "steps": last["step"],
        "parameters": parameter_count(encoder),
        **machine.describe(),
        "shown": list(rows),
        "made_from": provenance.made_from("pretrain", method, hashed=origin.hashes),
    }
    timings = machine.timings(seconds, trained_images) | {"monitoring_seconds": round(monitor.seconds, 1)}
    origin.require_unchanged()
    weights.write_encoder(outputs.encoder, encoder)
    write_curve(outputs.curve, curve)
    illustration.write(outputs.illustration, rows)
    write_json(outputs.figures, figures)
    write_json(outputs.timings, timings)
    if last["knn"] is not None:
        print(f"pretrain {method}: kNN accuracy {first['knn']:.1%} untrained, {last['knn']:.1%} at the end")


def validation_set(machine: Machine) -> tuple[Tensor, Tensor]:
    """The validation images, uint8 (N, C, H, W), and their labels, (N,) int64 on the device, -1 for none."""
    labels = read_labels(IMAGES / "validation.csv").to(machine.device)
    return as_tensor(read_pack(IMAGES / "validation.npy", rows=len(labels))), labels


def parameter_count(encoder: Encoder) -> int:
    """The number of trainable parameters."""
    return sum(p.numel() for p in encoder.parameters())


if __name__ == "__main__":
    with reported():
        main(load.named_method("pretrain", sys.argv[1:]))
