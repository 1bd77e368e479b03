"""Measures how long a step of pretraining and of finetuning takes, on images of the user's own."""

import time
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from stages.pretrain.learner import build
from stages.pretrain.length import length_of
from stages.pretrain.start import fresh_encoder
from stages.pretrain.train import Pretraining
from stages.settings.schema import Params, Training
from stages.settings.values import PUBLIC
from stages.tasks.classifier import Classifier
from stages.tasks.finetuning import Finetuning, Labelled, steps_for
from stages.training import loop, optimisation
from stages.training.machine import Machine, set_up
from stages.training.progress import progress
from stages.training.randomness import Stream
from stages.views.augment import random_views

IMAGES = 1024  # of the pool, in memory
STEPS = 5  # the first ones are slow
METHOD = "simclr"
# For what comes on top of the trainings of `finetune`: choosing their recipes, distilling and measuring took
# 0.7 to 1.2 times as long on MNIST (benchmarks/results/where_time_goes.csv).
BESIDE = 2.0
PUBLIC_SECONDS = 0.008  # of an image in the network of public weights, on one core


@dataclass(frozen=True)
class Times:
    """Seconds of one step on this machine, and what follows from them.

    Attributes:
        pretrain: of one step of pretraining, with the threads of params.yaml.
        finetune: of one step of finetuning, with one thread.
        pool: the images that the timing has; a step has no more.
    """

    pretrain: float
    finetune: float
    pool: int

    def pretraining(self, settings: Params) -> float:
        """Seconds of one pretraining."""
        return self.pretrain * length_of(METHOD, settings.pretrain[METHOD], self.pool).steps

    def whole(self, settings: Params, labels: int, tested: int, parallel: int) -> float:
        """Seconds of `make repro`, without reading the images.

        Args:
            settings: with the budgets, draws and runs.
            labels: labelled images of the pool.
            tested: images of the test.
            parallel: finetunings that run side by side.
        """
        trained = [name for name in settings.methods if isinstance(settings.pretrain[name], Training)]
        pretraining = len(trained) * settings.pretrain.runs * self.pretraining(settings)
        public = PUBLIC_SECONDS * (labels + tested) if PUBLIC in settings.baselines else 0.0
        return pretraining + self.finetuning(settings, labels, parallel) + public

    def finetuning(self, settings: Params, labels: int, parallel: int) -> float:
        """Seconds of finetuning, with what comes on top of it; arguments as for `whole`."""
        finetune = settings.finetune
        sizes = [labels if budget == "all" else int(budget) for budget in finetune.budgets]
        steps = [steps_for(size, finetune.schedule) for size in sizes if size]
        rounds = -(-finetune.draws // parallel)  # of the longest trainings
        longest = max(finetune.draws * sum(steps) / parallel, rounds * max(steps, default=0))
        return len(settings.methods) * longest * self.finetune * BESIDE


def measure(settings: Params, pool: np.ndarray, classes: int) -> Times:
    """Time some steps.

    Args:
        settings: all of params.yaml.
        pool: uint8 (N, C, H, W).
        classes: number of classes; with fewer than two, finetuning is timed with two.
    """
    images = np.asarray(pool[np.unique(np.linspace(0, len(pool) - 1, IMAGES).astype(int))])
    stream = Stream.of(0, "rehearsal")
    section = settings.pretrain[METHOD]
    length = length_of(METHOD, section, len(pool))

    machine = set_up(settings.runtime, settings.runtime.threads.pretrain)
    encoder = fresh_encoder(settings, images, stream).to(machine.device)
    learner = build(METHOD, encoder, section, settings.views.presets[settings.views.pretrain], stream)
    pretraining = Pretraining(learner, images, length.batch_size, machine)
    seconds = _seconds(pretraining, len(images), length.batch_size, machine, stream)

    machine = set_up(settings.runtime, settings.runtime.threads.finetune)
    classifier = Classifier(fresh_encoder(settings, images, stream), max(classes, 2)).to(machine.device)
    labels = torch.arange(len(images)) % max(classes, 2)  # which labels they are makes no difference
    labelled = Labelled(images, torch.arange(len(images)), labels, len(images))
    views = partial(random_views, strengths=settings.views.presets[settings.views.finetune])
    finetuning = Finetuning(classifier, labelled, settings.finetune.schedule, views, machine)
    batch_size = settings.finetune.schedule.batch_size
    return Times(seconds, _seconds(finetuning, len(images), batch_size, machine, stream), len(pool))


def _seconds(task: loop.Task, items: int, batch_size: int, machine: Machine, stream: Stream) -> float:
    """The time of a step: the shortest of some, because other programs may slow down one or the other."""
    optimiser = optimisation.adamw(optimisation.decayed_groups(task, 1e-4, 0.0))
    times, length = [], loop.Length(1, batch_size, 0.1)
    with progress("init: timing", STEPS * batch_size) as bar:
        for _ in range(STEPS):
            started = time.perf_counter()
            loop.train("init", task, items, length, optimiser, stream, bar)
            if machine.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
    return min(times)
