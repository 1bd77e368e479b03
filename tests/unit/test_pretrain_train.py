"""Pretraining: every method on real digits, and a scripted learner."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stages.errors import InputError
from stages.pretrain.curve import Look
from stages.pretrain.learner import Learner, build
from stages.pretrain.train import train
from stages.settings.schema import Training, Views
from stages.training.loop import Row
from stages.training.machine import Machine
from stages.training.randomness import Stream
from tests.conftest import MOVING, strengths
from tests.tiny_methods import METHODS, constant_knn, encoder_for, parameters, tiny_learner

Labelled = tuple[Tensor, Tensor]
STREAM = Stream.of(1, "run")
CPU = Machine(torch.device("cpu"), "fp32")


def learn(
    method: str, images: np.ndarray, seed: int = 1, views: Views | None = None, **changes: object
) -> tuple[list[Row], dict[str, Tensor]]:
    """Train a method on a tiny encoder: the curve and all weights."""
    stream = Stream.of(seed, "pretrain")
    params = parameters(method, **changes)
    learner = build(method, encoder_for(method, seed), params, views or strengths(**MOVING), stream)
    curve, seconds = train(method, learner, images, params, CPU, stream, constant_knn(0.5))
    assert seconds > 0
    return curve, learner.state_dict()


# --- every method


def test_the_autoencoder_learns(digits: Labelled) -> None:
    curve, _ = learn("autoencoder", digits[0].numpy())
    losses = [row["loss"] for row in curve[1:]]
    assert len(losses) == 4 * 8
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])


def test_simclr_learns(digits: Labelled) -> None:
    mild = strengths(shift=0.05, rotate=10)
    curve, _ = learn("simclr", digits[0].numpy(), learning_rate=0.03, views=mild)
    losses = [row["loss"] for row in curve[1:]]
    assert losses[-1] < losses[0]
    # ln(2N − 1) is the loss of a random choice among the 127 other views, and that of a collapsed encoder.
    assert np.mean(losses[-4:]) < 0.85 * math.log(127)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_in_bf16_is_near_the_one_in_fp32(method: str, floats: Tensor) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        learner = tiny_learner(method)
        learner.train()
        with Machine(torch.device("cpu"), precision).autocast():
            loss = learner(floats[:64], torch.arange(64), STREAM.at("step", 0))
        loss.backward()
        losses[precision] = loss.item()
        gradients = [p.grad for p in learner.parameters() if p.grad is not None]
        assert gradients
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_equal_seeds_give_equal_weights(method: str, digits: Labelled) -> None:
    images, results = digits[0][:128].numpy(), []
    for torch_seed, seed in ((1, 1), (2, 1), (2, 7)):
        torch.manual_seed(torch_seed)
        results.append(learn(method, images, seed=seed, steps=4))
    (curve, weights), (same_curve, same), (_, other) = results
    assert curve == same_curve
    assert all(torch.equal(weights[key], same[key]) for key in weights)
    first = next(key for key in weights if key.startswith("encoder.") and key.endswith(".weight"))
    assert not torch.equal(weights[first], other[first])


@pytest.mark.parametrize("method", METHODS)
def test_pretraining_changes_every_weight(method: str, digits: Labelled) -> None:
    _, before = learn(method, digits[0][:64].numpy(), steps=2, learning_rate=0.0)
    _, after = learn(method, digits[0][:64].numpy(), steps=2)
    constant = (".mean", ".std", "positions", "prototypes", "num_batches_tracked")
    for key in before:
        assert torch.equal(before[key], after[key]) == key.endswith(constant), key


def test_a_huge_learning_rate_stops_with_a_message(digits: Labelled) -> None:
    # The temperature makes the gradients large; a rate of 10 does the rest.
    with pytest.raises(
        InputError, match=r"^pretrain simclr: the loss is (nan|-?inf) at step \d+; last good figures"
    ):
        learn("simclr", digits[0][:128].numpy(), steps=16, learning_rate=10.0, temperature=1e-38)


# --- a scripted learner


class Recording(Learner):
    """A learner with a constant loss, which records its arguments and the number format of a product."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.calls: list[tuple[list[int], list[int], Stream]] = []
        self.formats: list[tuple[torch.dtype, torch.dtype]] = []
        self.progress: list[float] = []

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        numbers = (images.flatten() * 255).round().long().tolist()
        self.calls.append((numbers, positions.tolist(), stream))
        self.formats.append((images.dtype, self.layer(torch.ones(1, 2)).dtype))
        return sum(0 * p.sum() for p in self.parameters()) + torch.tensor(1.0)

    def after_step(self, progress: float) -> None:
        self.progress.append(progress)


def numbered(n: int) -> np.ndarray:
    """Images of one pixel, which is the image's number."""
    return np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)


def run(learner: Learner, n: int, look: Look, precision: str = "fp32", **changes: object) -> list[Row]:
    common = {
        "images": 1,
        "steps": 10,
        "batch_size": 4,
        "learning_rate": 0.1,
        "weight_decay": 0.0,
        "warmup": 0.1,
    }
    machine = Machine(torch.device("cpu"), precision)
    return train("simclr", learner, numbered(n), Training(**{**common, **changes}), machine, STREAM, look)[0]


def test_an_epoch_is_each_image_once_with_its_position_in_the_batch() -> None:
    learner = Recording()
    run(learner, 20, constant_knn(0.0), images=60, steps=1)
    assert len(learner.calls) == 3 * 5
    for epoch in range(3):
        images = [number for numbers, *_ in learner.calls[5 * epoch :][:5] for number in numbers]
        assert sorted(images) == list(range(20))
    assert all(positions == [0, 1, 2, 3] for _, positions, _ in learner.calls)
    assert [stream for *_, stream in learner.calls] == [STREAM.at("step", step) for step in range(15)]
    assert learner.progress == [step / 15 for step in range(1, 16)]


def test_the_encoder_is_examined_at_the_start_and_the_end_on_all_images() -> None:
    learner, looks = Recording(), []

    def look(step: int, loss: float | None, full: bool) -> dict[str, float]:
        assert step == len(learner.calls)
        looks.append((step, loss, full))
        return {"knn": 0.25} if full else {}

    curve = run(learner, 20, look, steps=15)
    assert [step for step, _, full in looks if full] == [0, 15]
    assert [loss for _, loss, _ in looks] == [None] + [1.0] * (len(looks) - 1)
    assert [row["step"] for row in curve if "knn" in row] == [0, 15]
    assert [row["epoch"] for row in curve if "knn" in row] == [0, 3]


def test_a_batch_has_no_more_images_than_the_pool() -> None:
    learner = Recording()
    run(learner, 20, constant_knn(0.0), batch_size=128, steps=3)
    assert [sorted(numbers) for numbers, *_ in learner.calls] == [list(range(20))] * 3


def test_a_pool_that_is_too_small_for_a_loss_is_refused_before_any_work() -> None:
    learner, looks = Recording(), []
    with pytest.raises(
        InputError, match=r"^pretrain simclr: the pool has 1 image\(s\); allowed: at least 2$"
    ):
        run(learner, 1, lambda *_arguments: looks.append(1) or {})
    assert not learner.calls
    assert not looks


def test_the_learner_runs_in_the_machines_precision() -> None:
    formats = {}
    for precision in ("fp32", "bf16"):
        learner = Recording()
        run(learner, 4, constant_knn(0.0), precision, steps=1)
        (formats[precision],) = learner.formats
    assert formats == {"fp32": (torch.float32, torch.float32), "bf16": (torch.float32, torch.bfloat16)}
