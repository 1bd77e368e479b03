"""Run one contender in its own process: one request per line on stdin, one answer per line on stdout.

    echo '{"setting": {"workers": 0, "precision": "bf16"}, "steps": 20}' |
        python -m benchmarks.contender lightly

The process keeps running, so that the contenders can take turns without importing everything again. The
output of the libraries goes to stderr.
"""

import importlib
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import torch

from benchmarks.contenders.common import Clock, Recipe, Setting
from stages.errors import reported
from stages.files.packs import read_pack
from stages.files.paths import IMAGES, TEST
from stages.images.tensors import as_tensor
from stages.networks.encoder import Encoder
from stages.pretrain.start import fresh_encoder
from stages.settings import load
from stages.tasks import probe
from stages.tasks.draws import draw_labelled
from stages.tasks.features import encode
from stages.tasks.labels import read_labels, read_pool_labels
from stages.training.machine import set_up
from stages.training.randomness import Stream

NAMES = ("headstart", "compute_limit", "lightly", "stable_pretraining", "lightly_train")
TEST_DRAWS = range(5)  # for reported accuracies: nothing is chosen with them
VALIDATION_DRAWS = range(200, 220)  # for choices: other draws than the reported ones


@dataclass(frozen=True)
class Request:
    """What a contender has to do.

    Attributes:
        setting: workers, precision, views, as in `Setting`.
        steps: number of timed steps.
        warmup: number of steps before them that are not timed.
        seconds: time limit for the timed steps; None: no limit.
        budgets: numbers of labels for the linear probes that follow the pretraining.
        split: the images that the probes are measured on: "test", or "validation" for making choices.
    """

    setting: dict[str, Any]
    steps: int
    warmup: int = 4
    seconds: float | None = None
    budgets: Sequence[int] = field(default_factory=tuple)
    split: str = "test"


def main(name: str) -> None:
    """Answer requests until stdin ends."""
    torch.manual_seed(0)
    answers = sys.stdout
    with redirect_stdout(sys.stderr):
        module = importlib.import_module(f"benchmarks.contenders.{name}")
        settings = [asdict(setting) for setting in module.SETTINGS]
        print(json.dumps({"settings": settings}), file=answers, flush=True)
        for line in sys.stdin:
            answer = respond(module, Request(**json.loads(line)))
            print(json.dumps(answer), file=answers, flush=True)


def respond(module: ModuleType, request: Request) -> dict[str, Any]:
    """Pretrain a fresh encoder as requested; returns steps, images, seconds, and accuracies by budget."""
    settings = load.validated(load.read(load.PARAMS))
    recipe = Recipe.of(settings)
    pool = read_pack(IMAGES / "pool.npy")
    if request.seconds is None:  # exactly one epoch, the same for all contenders
        pool = pool[: (request.warmup + request.steps) * recipe.batch_size]
    encoder = fresh_encoder(settings, pool, Stream.of(settings.seeds.training, "pretrain").at("encoder"))
    clock = Clock(request.warmup, request.steps, request.seconds)
    module.pretrain(encoder, pool, recipe, Setting(**request.setting), clock.total, clock)
    answer: dict[str, Any] = {
        "steps": clock.steps,
        "images": clock.steps * recipe.batch_size,
        "seconds": clock.seconds,
    }
    if request.budgets:
        answer["accuracies"] = accuracies(encoder, request)
    return answer


def accuracies(encoder: Encoder, request: Request) -> dict[int, list[float]]:
    """Accuracy of the linear probe for each draw of labels, by budget."""
    settings = load.validated(load.read(load.PARAMS))
    machine = set_up(settings.runtime, settings.runtime.threads.pretrain)
    on_test = request.split == "test"
    draws = TEST_DRAWS if on_test else VALIDATION_DRAWS
    folder, table = (TEST, "index.csv") if on_test else (IMAGES, "validation.csv")
    images = read_pack(folder / ("images.npy" if on_test else "validation.npy"))
    expected = read_labels(folder / table).to(machine.device)
    encoder = encoder.to(machine.device)
    features = encode(encoder, as_tensor(images), machine)
    pool = read_pack(IMAGES / "pool.npy")
    labels, classes = read_pool_labels()

    def accuracy(budget: int, draw: int) -> float:
        rows = draw_labelled(labels, len(classes), budget, draw, settings.seeds.draws)
        bank = encode(encoder, as_tensor(np.asarray(pool[rows.numpy()])), machine)
        head = probe.fit_linear(bank, labels[rows].to(machine.device), len(classes), settings.probe.l2)
        return float((head(features).argmax(1) == expected).float().mean())

    return {budget: [accuracy(budget, draw) for draw in draws] for budget in request.budgets}


if __name__ == "__main__":
    with reported():
        main(sys.argv[1])
