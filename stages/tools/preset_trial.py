"""A short pretraining with one preset of views, and the linear probe of the user's own labels on it."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from stages.errors import InputError
from stages.files.digests import require_files_as_written
from stages.files.packs import read_pack, read_pack_if_any
from stages.files.paths import IMAGES, LABELS, LARGE_POOL
from stages.images.tensors import as_tensor, pixels
from stages.networks.encoder import Encoder
from stages.pretrain.learner import build
from stages.pretrain.length import length_of
from stages.pretrain.start import fresh_encoder, given_encoder
from stages.pretrain.train import Pretraining
from stages.settings import load
from stages.settings.schema import Params, Views
from stages.tasks import folds
from stages.tasks.draws import draw_labelled
from stages.tasks.features import encode
from stages.tasks.labels import read_groups, read_labels, read_pool_labels
from stages.training import loop, optimisation
from stages.training.checkpoint import CHECKPOINTS, Checkpoint, Origin, narrowed
from stages.training.machine import Machine, set_up
from stages.training.progress import Bar
from stages.training.randomness import Stream
from stages.views.augment import random_views

MOST_LABELS = 2000  # images that are measured on at most, a random choice: more take longer and tell little
FEWEST_UNITS = 10  # labelled images, or groups of them: fewer cannot tell presets apart
FOLDS, SPLITS = 5, 3  # of the cross-validation
SAMPLE = 256  # images of the pool on which the change by a preset is measured
FOLDER = CHECKPOINTS / "views"


@dataclass(frozen=True)
class LabelledImages:
    """The images that have a label, of the pool and of validation.

    Attributes:
        images: uint8 (n, C, H, W).
        labels: (n,) int64.
        units: (n,), the group of each image; an image without a group is a unit of its own.
    """

    images: np.ndarray
    labels: Tensor
    units: np.ndarray

    @staticmethod
    def read(stream: Stream) -> "LabelledImages":
        """Read them from the prepared data; if there are more than MOST_LABELS, a random choice, balanced.

        Raises:
            InputError: there are too few, or they have one class only.
        """
        of_pool, classes = read_pool_labels()
        labels = [of_pool, read_labels(IMAGES / "validation.csv", len(classes))]
        units = [read_groups(IMAGES / f"{part}.csv").numpy() for part in ("pool", "validation")]
        units[1] = units[1] + len(units[0])  # numbers of their own: no group is in both parts
        packs = [read_pack(IMAGES / f"{part}.npy") for part in ("pool", "validation")]
        place = torch.cat([part >= 0 for part in labels]).nonzero()[:, 0]
        if len(place) > MOST_LABELS:  # as in a draw, equally many of each class, as far as it has them
            drawn = draw_labelled(torch.cat(labels)[place], len(classes), MOST_LABELS, 0, stream.key)
            place = place[drawn.sort().values]
        of_all, unit = torch.cat(labels)[place], np.concatenate(units)[place.numpy()]
        count = len(np.unique(unit))
        if count < FEWEST_UNITS or len(of_all.unique()) < 2:
            raise InputError(
                f"{LABELS / 'pool.csv'}: pool and validation have {len(place)} labelled images in {count} "
                f"groups, of {len(of_all.unique())} classes; allowed: {FEWEST_UNITS} groups (or images "
                "without a group) and 2 classes at least, to choose views on"
            )
        at_pool = place < len(packs[0])
        parts = [packs[0][place[at_pool].numpy()], packs[1][(place[~at_pool] - len(packs[0])).numpy()]]
        return LabelledImages(np.concatenate(parts), of_all, unit)


@dataclass(frozen=True)
class Measured:
    """What a preset gave.

    Attributes:
        right: what each labelled image contributes to the probe's balanced accuracy, (n,): it is their mean.
        change: the mean absolute difference between an image and its view, where 1 is from black to white.
    """

    right: np.ndarray
    change: float


class Trial:
    """Trains a method's encoder with one preset after another, and measures it.

    Attributes:
        labelled: the images that the probe is measured on.
        key: of the checkpoints, without the preset.
    """

    def __init__(self, method: str, steps: int, settings: Params, machine: Machine, key: str) -> None:
        self.method, self.steps, self.settings, self.machine = method, steps, settings, machine
        self.key = key
        self.pool = read_pack(IMAGES / "pool.npy")
        self.stream = Stream.of(settings.seeds.training, "views")
        self.labelled = LabelledImages.read(self.stream.at("labelled"))

    @staticmethod
    def open(method: str, steps: int, worker: int) -> "Trial":
        """Set up the machine and read the data; called in each worker."""
        raw = load.read(load.PARAMS)
        settings = load.validated(raw)
        machine = set_up(settings.runtime, settings.runtime.threads.pretrain, worker)
        chosen = settings.views.pretrain
        not_in_key = ("pretrain.runs", "views.pretrain", f"views.presets.{chosen}")
        key = Origin.of("pretrain", method, machine, raw).key(without=not_in_key)
        require_files_as_written(LABELS, "pool.csv", "classes.json")  # which pretraining does not read
        return Trial(method, steps, settings, machine, key)

    def measure(self, preset: str | None, bar: Bar) -> Measured:
        """Train with a preset and measure; None: the encoder is not trained."""
        if preset is None:
            return Measured(self.probed(self.encoder()), 0.0)
        views = self.settings.views.presets[preset]
        return Measured(self.probed(self.pretrained(preset, views, bar)), self.change(views))

    def encoder(self) -> Encoder:
        """The encoder that every pretraining starts from, on the machine's device."""
        section = self.settings.pretrain[self.method]
        encoder = fresh_encoder(self.settings, self.pool, self.stream.at("encoder"))
        if section.start is not None:
            encoder = given_encoder(self.method, section.start, encoder)
        return encoder.to(self.machine.device)

    def pretrained(self, preset: str, views: Views, bar: Bar) -> Encoder:
        """The encoder after `steps` steps; what an earlier run has trained is not trained again."""
        section, title = self.settings.pretrain[self.method], f"views {preset}"
        encoder = self.encoder()
        learner = build(self.method, encoder, section, views, self.stream)
        key = narrowed(self.key, self.stream.key, self.steps, views.model_dump())
        checkpoint = Checkpoint(FOLDER / preset, key)
        groups = optimisation.decayed_groups(learner, section.learning_rate, section.weight_decay)
        length = replace(length_of(self.method, section, len(self.pool)), steps=self.steps)
        pack = learner.pack(self.pool, read_pack_if_any(LARGE_POOL, rows=len(self.pool)))
        task = Pretraining(learner, pack, length.batch_size, self.machine)
        optimiser = optimisation.adamw(groups, learner.betas)
        loop.train(
            title, task, len(self.pool), length, optimiser, self.stream.at("training"), bar,
            loop.Watch(preset), checkpoint,
        )  # fmt: skip
        return encoder

    def probed(self, encoder: Encoder) -> np.ndarray:
        """What each labelled image contributes to the probe's balanced accuracy, (n,)."""
        labelled, l2 = self.labelled, self.settings.probe.l2
        features = encode(encoder, labelled.images, self.machine)
        labels = labelled.labels.to(features.device)
        correct = folds.probe_correct(
            features, labels, labelled.units, l2, FOLDS, SPLITS, self.stream.at("folds")
        )
        return folds.balanced(correct, labelled.labels.numpy())

    def change(self, views: Views) -> float:
        """How much a preset changes images of the pool: see `Measured`."""
        chosen = np.unique(np.linspace(0, len(self.pool) - 1, SAMPLE).astype(int))
        images = pixels(as_tensor(self.pool[chosen]), self.machine.device)
        positions = torch.arange(len(images), device=images.device)
        changed = random_views(images, positions, views, self.stream.at("change"))
        return float((changed - images).abs().mean())
