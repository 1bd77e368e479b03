"""One run of a method's pretraining: an encoder, trained with random numbers of its own."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from stages.networks.encoder import Encoder
from stages.pretrain import illustration
from stages.pretrain.doubts import doubts, few
from stages.pretrain.health import Monitor
from stages.pretrain.learner import Learner, build
from stages.pretrain.length import as_text, length_of, passes
from stages.pretrain.start import fresh_encoder, given_encoder
from stages.pretrain.train import train
from stages.settings.schema import Params, Training
from stages.training.checkpoint import Checkpoint, narrowed
from stages.training.loop import Row
from stages.training.machine import Machine
from stages.training.randomness import Stream


def run_name(run: int) -> str:
    """The name of a run's checkpoint."""
    return f"run{run}"


def stream_of(seed: int, run: int) -> Stream:
    """The random numbers of a run. They do not depend on how many runs there are."""
    stream = Stream.of(seed, "pretrain")
    return stream.at("run", run) if run else stream


@dataclass(frozen=True)
class Result:
    """What a run gave.

    Attributes:
        curve: the rows of the training curve; the first is of the untrained encoder.
        collapse: the first alarm as text; None: no alarm.
        doubts: see `doubts.doubts`.
        labels: number of validation labels that the kNN accuracy rests on.
        batch_size: images of each step; 0: nothing was trained.
        passes: through the pool.
        seconds: spent in training steps.
        monitoring_seconds: spent on the encoder's health.
        shown: rows of images for the report, by name.
    """

    curve: list[Row]
    collapse: str | None
    doubts: list[str]
    labels: int
    batch_size: int
    passes: float
    seconds: float
    monitoring_seconds: float
    shown: dict[str, Tensor]

    @property
    def steps(self) -> int:
        """The number of training steps."""
        return int(self.curve[-1]["step"])

    @property
    def images(self) -> int:
        """How many images the training has seen."""
        return self.steps * self.batch_size

    def figures(self) -> dict[str, Any]:
        """The figures of the untrained and of the final encoder."""
        first, last = self.curve[0], self.curve[-1]
        return {
            "knn": last["knn"],
            "knn_untrained": first["knn"],
            "feature_std": last["feature_std"],
            "rankme": last["rankme"],
            "knn_labels": self.labels,
            "collapse": self.collapse,
            "doubts": self.doubts,
            "loss": last["loss"],
        }

    def print(self, title: str) -> None:
        """Print the kNN accuracies and the doubts."""
        before, after = self.curve[0]["knn"], self.curve[-1]["knn"]
        if after is not None:
            print(
                f"pretrain {title}: kNN accuracy {before:.1%} untrained, {after:.1%} at the end, on "
                f"{self.labels:,} validation labels{few(self.labels)}"
            )
        for doubt in self.doubts:
            print(f"warning: pretrain {title}: {doubt}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Pretrainer:
    """Pretrains the encoder of one method, run after run.

    Attributes:
        pool: uint8 (N, C, H, W), memory-mapped.
        large: the same images with more pixels, for methods that take views of them; None: there are none.
        validation: uint8 images (M, C, H, W); on the device their labels, (M,) int64, -1 for none,
            and their groups, (M,) int64.
        checkpoints: the folder of the checkpoints.
        key: of the checkpoints, without what only one run depends on.
    """

    method: str
    settings: Params
    machine: Machine
    pool: np.ndarray
    large: np.ndarray | None
    validation: tuple[Tensor, Tensor, Tensor]
    checkpoints: Path
    key: str

    def title(self, run: int) -> str:
        """The name of a run in messages: that of the method if it has one run only."""
        return self.method if self.settings.pretrain.runs == 1 else f"{self.method}, run {run}"

    def pretrain(self, run: int, record: Callable[[list[Row]], None]) -> tuple[Encoder, Result]:
        """Build the encoder of a run and train it; returns it on the CPU, and what the run gave.

        Args:
            record: called with the curve's rows so far whenever there is a new one.
        """
        settings, machine, method = self.settings, self.machine, self.method
        section, stream = settings.pretrain[method], stream_of(settings.seeds.training, run)
        encoder = fresh_encoder(settings, self.pool, stream.at("encoder"))
        if (start := getattr(section, "start", None)) is not None:
            encoder = given_encoder(method, start, encoder)
        encoder.to(machine.device)

        monitor = Monitor(self.title(run), encoder, *self.validation, settings.knn, settings.health, machine)
        seconds, batch_size, seen, doubtful = 0.0, 0, 0.0, list[str]()
        labels = int((self.validation[1] >= 0).sum())
        learner: Learner | None = None
        if isinstance(section, Training):
            strengths = settings.views.presets[settings.views.pretrain]
            length = length_of(method, section, len(self.pool))
            print(f"pretrain {self.title(run)}: {as_text(length, len(self.pool))}", flush=True)
            learner = build(method, encoder, section, strengths, stream)
            monitor.uninformative = learner.uninformative
            checkpoint = Checkpoint(self.checkpoints / run_name(run), narrowed(self.key, stream.key))
            if checkpoint.saved:
                monitor.replay(checkpoint.saved.facts["curve"], checkpoint.beside)
            checkpoint.beside = monitor.stored
            pack = learner.pack(self.pool, self.large)
            curve, seconds = train(
                method, learner, pack, section, machine, stream.at(method), monitor, record, checkpoint,
                title=self.title(run),
            )  # fmt: skip
            batch_size, seen = length.batch_size, passes(length, len(self.pool))
            doubtful = doubts(method, curve, length, len(self.pool), section.enough_steps, labels)
        else:
            untrained = {"step": 0, "epoch": 0.0, "loss": None, "learning_rate": None}
            curve = [untrained | monitor(0, None, True)]
        shown = illustration.make_rows(learner, self.pool, machine, stream.at(method, "shown"))
        result = Result(
            curve, monitor.collapse, doubtful, labels, batch_size, seen, seconds, monitor.seconds, shown
        )
        return encoder.to("cpu"), result
