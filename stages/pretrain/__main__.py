"""Stage pretrain@METHOD: the pool's images become an encoder; no training or test label is read.

python -m stages.pretrain METHOD
"""

import sys

import pandas as pd
from torch import Tensor

from stages import artifacts, params, provenance, weights
from stages.checkpoint import CHECKPOINTS, Checkpoint, Origin
from stages.encoder import Encoder
from stages.errors import reported
from stages.pretrain import shown
from stages.pretrain.health import Monitor
from stages.pretrain.learner import Learner, build
from stages.pretrain.start import Import, fresh_encoder, imported_encoder
from stages.pretrain.train import train
from stages.randomness import Stream
from stages.runtime import Machine, machine
from stages.sections import Training

# They are looked at, not learnt from: a new one trains nothing again.
LABELS_OF_VALIDATION = (str(artifacts.IMAGES / "validation.csv"),)


def main(method: str) -> None:
    """Build the encoder, train it as `method` says, write encoder, curve, figures and timings."""
    raw = params.read(params.PARAMS)
    settings = params.load("pretrain", method, raw)
    here = machine(settings.runtime)
    origin = Origin.of("pretrain", method, here, raw)
    stream = Stream.of(settings.seed, "pretrain")
    encoder_file = artifacts.ENCODERS / f"{method}.safetensors"
    curve_file = artifacts.METRICS / "pretrain" / f"{method}.csv"
    figures_file = artifacts.METRICS / "pretrain" / f"{method}.json"
    timings_file = artifacts.METRICS / "timings" / "pretrain" / f"{method}.json"
    shown_file = artifacts.METRICS / "pretrain" / f"{method}_shown.png"
    checkpoint_file = CHECKPOINTS / "pretrain" / method
    artifacts.require_writable(
        encoder_file, curve_file, figures_file, timings_file, shown_file, checkpoint_file
    )
    pool = artifacts.read_images(artifacts.IMAGES / "pool.npy")
    section = settings.pretrain[method]
    encoder = fresh_encoder(settings, pool, stream.at("encoder"))
    if isinstance(section, Import):
        encoder = imported_encoder(section, encoder.declaration)
    encoder.to(here.device)

    monitor = Monitor(method, encoder, *validation(here), settings.knn, settings.health, here)
    seconds, seen = 0.0, 0
    learner: Learner | None = None
    if isinstance(section, Training) and section.epochs:
        strengths = settings.views.presets[settings.views.pretrain]
        learner = build(method, encoder, section, strengths, stream)
        monitor.uninformative = learner.uninformative
        kept = Checkpoint(checkpoint_file, origin.key(without=LABELS_OF_VALIDATION))
        if kept.saved:
            monitor.replay(kept.saved.facts["curve"], kept.beside)
        kept.beside = monitor.seen
        curve, seconds = train(method, learner, pool, section, here, stream.at(method), monitor, kept)
        seen = curve[-1]["step"] * section.batch_size
    else:
        untrained = {"step": 0, "epoch": 0.0, "loss": None, "learning_rate": None}
        curve = [untrained | monitor(0, None, True)]

    rows = shown.rows_of(learner, pool, here, stream.at(method, "shown"))
    first, last = curve[0], curve[-1]
    figures = {
        "knn": last["knn"],
        "knn_untrained": first["knn"],
        "feature_std": last["feature_std"],
        "rankme": last["rankme"],
        "collapse": monitor.collapse,
        "loss": last["loss"],
        "steps": last["step"],
        "parameters": count(encoder),
        **here.describe(),
        "shown": list(rows),
        "made_from": provenance.made_from("pretrain", method, hashed=origin.hashes),
    }
    timings = here.timings(seconds, seen) | {"monitoring_seconds": round(monitor.seconds, 1)}
    origin.require_unchanged()
    weights.write_encoder(encoder_file, encoder)
    artifacts.write_table(curve_file, pd.DataFrame(curve))
    shown.write(shown_file, rows)
    artifacts.write_json(figures_file, figures)
    artifacts.write_json(timings_file, timings)
    if last["knn"] is not None:
        print(f"pretrain {method}: kNN {first['knn']:.1%} untrained, {last['knn']:.1%} now")


def validation(here: Machine) -> tuple[Tensor, Tensor]:
    """The validation images, uint8 (N, C, H, W), and their labels, (N,) int64 on the device, -1: none."""
    labels = artifacts.read_labels(artifacts.IMAGES / "validation.csv").to(here.device)
    images = artifacts.read_images(artifacts.IMAGES / "validation.npy", rows=len(labels))
    return artifacts.as_tensor(images), labels


def count(encoder: Encoder) -> int:
    """How many trainable numbers an encoder has."""
    return sum(p.numel() for p in encoder.parameters())


if __name__ == "__main__":
    with reported():
        main(params.named_method("pretrain", sys.argv[1:]))
