import importlib
import math
import tracemalloc
import types
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stages.errors import InputError
from stages.files.packs import PART
from stages.networks.encoder import Encoder
from stages.pretrain.learner import Learner, build
from stages.pretrain.start import fresh_encoder
from stages.pretrain.train import CURVE_POINTS, LOOKS, Watch, train
from stages.settings.schema import EncoderParams, Training, Views
from stages.training import optimisation
from stages.training.machine import Machine
from stages.training.randomness import Stream
from tests.conftest import MOVING, strengths, tiny_encoder

Labelled = tuple[Tensor, Tensor]
Curve = list[dict[str, Any]]
RUN = Stream.of(1, "run")


def training(**changes: Any) -> Training:
    plain = {"epochs": 2, "batch_size": 4, "learning_rate": 0.1, "weight_decay": 0.0, "warmup": 0.1}
    return Training(**(plain | changes))


def numbered(n: int) -> np.ndarray:
    """Images of one pixel that is the image's number."""
    return np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)


class Scripted(Learner):
    """A method whose loss at the k-th step is `script(k)`, k from 1; it notes what it is given."""

    def __init__(self, script: Callable[[int], float] = lambda _step: 1.0) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.script, self.calls = script, []

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        numbers = (images.flatten() * 255).round().long().tolist()
        self.calls.append((numbers, positions.tolist(), stream, self.training))
        nothing = sum(0 * p.sum() for p in self.parameters())  # gradients of zero
        return nothing + self.script(len(self.calls))


# 3 × 91 steps: more than the curve has points, and epochs end between its points.
LONG = numbered(182), training(epochs=3, batch_size=2)
POINTS = sorted({*range(0, 274, 3), 91, 182, 273})


def run(method: Learner, images: np.ndarray, params: Training, watch: Watch) -> Curve:
    here = Machine(torch.device("cpu"), "fp32")
    return train("title", method, images, params, here, RUN, watch)[0]


def seeing(knn: float) -> Watch:
    """A look that finds `knn` at each epoch's end."""
    return lambda _step, _loss, at_epoch: {"knn": knn} if at_epoch else {}


# --- the real methods on real digits

JOINT = {"projector_hidden": 16, "projector_output": 8}
OWN: dict[str, dict[str, Any]] = {
    "autoencoder": {"noise": 0.2, "erase": 0.3, "decoder_width": 8},
    "gan": {"noise": 0.3, "latent": 4, "information": 1.0, "generator_width": 8},
    "mae": {"masked": 0.6, "decoder_width": 8, "decoder_depth": 1, "normalise_patches": False},
    "simclr": {"temperature": 0.5, **JOINT},
    "vicreg": {"invariance": 25.0, "variance": 25.0, "covariance": 1.0, **JOINT},
    "barlow_twins": {"redundancy": 0.005, **JOINT},
    "byol": {"momentum": 0.9, **JOINT},
    "dino": {
        "prototypes": 12, "student_temperature": 0.1, "teacher_temperature": 0.05,
        "momentum": 0.9, "centre_momentum": 0.9, **JOINT,
    },
    "lejepa": {"gaussian": 0.05, "slices": 16, **JOINT},
}  # fmt: skip
ENCODERS = {"mae": "vit"}  # residual is the others'


def knobs(name: str, **changes: Any) -> Training:
    """A method's parameters for a tiny run."""
    module = importlib.import_module(f"stages.pretrain.methods.{name}")
    plain = {"epochs": 4, "batch_size": 64, "learning_rate": 0.01, "weight_decay": 1e-4, "warmup": 0.1}
    params: Training = module.Params(**{**plain, **OWN[name], **changes})
    return params


def learner_of(name: str, encoder: Encoder) -> Learner:
    return build(name, encoder, knobs(name), strengths(**MOVING), Stream.of(1, "pretrain"))


def learn(
    name: str, images: np.ndarray, seed: int = 1, views: Views | None = None, **changes: Any
) -> tuple[Curve, dict[str, Tensor]]:
    """A few epochs of a method on a tiny encoder: the curve and all weights."""
    stream = Stream.of(seed, "pretrain")
    params = knobs(name, **changes)
    encoder = tiny_encoder(ENCODERS.get(name, "residual"), seed)
    method = build(name, encoder, params, views or strengths(**MOVING), stream)
    here = Machine(torch.device("cpu"), "fp32")
    curve, seconds = train(name, method, images, params, here, stream, seeing(0.5))
    assert seconds > 0
    return curve, method.state_dict()


def test_the_autoencoder_learns(digits: Labelled) -> None:
    curve, _ = learn("autoencoder", digits[0].numpy())
    losses = [row["loss"] for row in curve[1:]]
    assert len(losses) == 4 * 8
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])


def test_simclr_learns(digits: Labelled) -> None:
    gentle = strengths(shift=0.05, rotate=10)
    curve, _ = learn("simclr", digits[0].numpy(), learning_rate=0.03, views=gentle)
    losses = [row["loss"] for row in curve[1:]]
    assert losses[-1] < losses[0]
    # ln(2N − 1) is what a guess among the 127 other views costs, and what a collapsed encoder stays at.
    assert np.mean(losses[-4:]) < 0.85 * math.log(127)


@pytest.mark.parametrize("name", OWN)
def test_a_step_in_bf16_is_near_the_one_in_fp32(name: str, floats: Tensor) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        method = learner_of(name, tiny_encoder(ENCODERS.get(name, "residual")))
        method.train()
        here = Machine(torch.device("cpu"), precision)
        with here.autocast():
            loss = method(floats[:64], torch.arange(64), RUN.at("step", 0))
        loss.backward()
        losses[precision] = loss.item()
        assert all(bool(p.grad.isfinite().all()) for p in method.parameters() if p.grad is not None)
        assert any(p.grad is not None for p in method.parameters())
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)


@pytest.mark.parametrize("name", OWN)
def test_equal_seeds_give_equal_weights(name: str, digits: Labelled) -> None:
    images, results = digits[0][:128].numpy(), []
    for torch_seed, seed in ((1, 1), (2, 1), (2, 7)):
        torch.manual_seed(torch_seed)
        results.append(learn(name, images, seed=seed, epochs=2))
    (curve, weights), (again, same), (_, other) = results
    assert curve == again
    assert all(torch.equal(weights[key], same[key]) for key in weights)
    first = next(key for key in weights if key.startswith("encoder.") and key.endswith(".weight"))
    assert not torch.equal(weights[first], other[first])


@pytest.mark.parametrize("name", OWN)
def test_pretraining_moves_every_weight(name: str, digits: Labelled) -> None:
    _, before = learn(name, digits[0][:64].numpy(), epochs=2, learning_rate=0.0)
    _, after = learn(name, digits[0][:64].numpy(), epochs=2)
    kept = (".mean", ".std", "positions", "prototypes")  # the images', the tokens', and DINO's
    for key in before:
        counter = key.endswith("num_batches_tracked")
        assert torch.equal(before[key], after[key]) == (key.endswith(kept) or counter), key


def test_a_huge_learning_rate_is_stopped_and_named(digits: Labelled) -> None:
    # The temperature makes the gradients large; a rate of 10 does the rest.
    with pytest.raises(
        InputError, match=r"^pretrain simclr: the loss is (nan|-?inf) at step \d+; last good figures"
    ):
        learn("simclr", digits[0][:128].numpy(), epochs=8, learning_rate=10.0, temperature=1e-38)


# --- the loop


def test_every_image_once_an_epoch_with_its_position_and_its_steps_stream() -> None:
    method = Scripted()
    run(method, numbered(20), training(epochs=3), seeing(0.0))
    assert len(method.calls) == 3 * 5
    for epoch in range(3):
        seen = [n for numbers, *_ in method.calls[5 * epoch :][:5] for n in numbers]
        assert sorted(seen) == list(range(20))
    for step, (numbers, positions, stream, _) in enumerate(method.calls):
        assert positions == [0, 1, 2, 3]
        assert stream == RUN.at("step", step)
        assert numbers == optimisation.batch_indices(step, 4, 20, RUN.at("order")).tolist()


def test_measuring_in_evaluation_mode_does_not_outlast_it() -> None:
    method, measured = Scripted(), []

    def watch(step: int, _loss: float | None, at_epoch: bool) -> dict[str, Any]:
        method.eval()
        assert step == len(method.calls)
        measured.append((step, at_epoch))
        return {"knn": 0.25} if at_epoch else {}

    curve = run(method, numbered(20), training(epochs=3), watch)
    assert [step for step, at_epoch in measured if at_epoch] == [0, 5, 10, 15]
    assert all(in_training for *_, in_training in method.calls)
    assert [row["step"] for row in curve if "knn" in row] == [0, 5, 10, 15]


def test_a_long_run_is_looked_at_between_its_epochs_too() -> None:
    seen: list[tuple[int, float | None]] = []

    def watch(step: int, loss: float | None, _at_epoch: bool) -> dict[str, Any]:
        seen.append((step, loss))
        return {"feature_std": step}

    curve = run(Scripted(float), numbered(2000), training(epochs=1, batch_size=2), watch)
    assert LOOKS <= len(seen) <= LOOKS + 2
    assert max(later - step for (step, _), (later, _) in pairwise(seen)) <= 1000 / LOOKS
    assert dict(seen) == {row["step"]: row["loss"] for row in curve if "feature_std" in row}


def test_curve_is_short_and_its_losses_are_means_since_the_last_row() -> None:
    curve = run(Scripted(float), *LONG, seeing(0.0))
    assert curve[0] == {"step": 0, "epoch": 0.0, "loss": None, "learning_rate": 0.0, "knn": 0.0}
    assert [row["step"] for row in curve] == POINTS
    assert 50 < len(curve) <= CURVE_POINTS + 1 + 3
    for before, row in pairwise(curve):
        since = range(before["step"] + 1, row["step"] + 1)
        assert row["loss"] == pytest.approx(np.mean(since))
        assert row["epoch"] == pytest.approx(row["step"] / 91, abs=1e-3)
        factor = optimisation.warmup_cosine(row["step"] - 1, 273, 0.1)
        assert row["learning_rate"] == pytest.approx(0.1 * factor, rel=1e-3)


def test_rates_follow_the_schedule_and_decay_spares_biases() -> None:
    method = Scripted()  # its gradients are zero, so all that moves is decay
    weight, bias = method.layer.weight.detach().clone(), method.layer.bias.detach().clone()
    run(method, numbered(20), training(epochs=2, weight_decay=0.5, warmup=0.3), seeing(0.0))
    rates = [0.1 * optimisation.warmup_cosine(step, 10, 0.3) for step in range(10)]
    torch.testing.assert_close(method.layer.weight, weight * math.prod(1 - 0.5 * rate for rate in rates))
    assert torch.equal(method.layer.bias, bias)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 90, 91, 92, 93, 136, 272, 273])
def test_the_first_bad_step_is_named_with_the_last_good_figures(step: int, bad: float) -> None:
    # The step is found exactly, also where it lies between two points of the curve.
    method = Scripted(lambda k: bad if k >= step else 0.125)
    with pytest.raises(InputError) as caught:
        run(method, *LONG, seeing(0.75))
    (message,) = caught.value.args
    assert f"title: the loss is {bad} at step {step};" in message
    assert len(method.calls) == min(point for point in POINTS if point >= step)
    good = message.partition("last good figures: ")[2]
    last = max(point for point in POINTS if point < step)
    assert good.startswith(f"step {last}, ")
    assert ("loss 0.125" in good) == (last > 0)
    assert ("knn 0.75" in good) == (last % 91 == 0)
    assert "None" not in good


def test_one_bad_step_among_good_ones_is_found() -> None:
    method = Scripted(lambda k: math.nan if k == 5 else 1.0)
    with pytest.raises(InputError, match="at step 5;"):
        run(method, *LONG, seeing(0.0))


def test_batch_larger_than_the_pool_is_refused_before_any_work() -> None:
    method, measured = Scripted(), []
    with pytest.raises(
        InputError, match=r"pretrain\.title\.batch_size is 21; allowed: at most the pool's 20 images"
    ):
        run(method, numbered(20), training(batch_size=21), lambda *_look: measured.append(1) or {})
    assert not method.calls
    assert not measured
    run(method, numbered(20), training(batch_size=20), seeing(0.0))
    assert len(method.calls) == 2


def test_autocast_is_the_machines(digits: Labelled) -> None:
    seen = []

    class Product(Scripted):
        """Notes the number format of a matrix product."""

        def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
            seen.append((images.dtype, self.layer(torch.ones(1, 2)).dtype))
            return super().forward(images, positions, stream)

    for precision in ("fp32", "bf16"):
        here = Machine(torch.device("cpu"), precision)
        train("title", Product(), numbered(4), training(epochs=1), here, RUN, seeing(0.0))
    assert seen == [(torch.float32, torch.float32), (torch.float32, torch.bfloat16)]


# --- the encoder that pretraining starts from


def settings(**changes: Any) -> Any:
    return types.SimpleNamespace(
        encoder=EncoderParams(**({"name": "residual", "width": 8, "weights": "random"} | changes))
    )


def test_fresh_encoder_is_normalised_for_the_pool(digits: Labelled) -> None:
    pool = digits[0].repeat(10, 3, 1, 1).numpy()  # 5,120 images: more than are read at once
    pool[:, 1] //= 2
    pool[5000:, 2] = 9
    encoder = fresh_encoder(settings(), pool, RUN)
    assert encoder.declaration.model_dump() == {
        "name": "residual", "width": 8, "channels": 3, "image_size": 28,
    }  # fmt: skip
    scaled = pool.astype(np.float64) / 255
    np.testing.assert_allclose(encoder.mean.numpy(), scaled.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(encoder.std.numpy(), scaled.std((0, 2, 3)), rtol=1e-5)


def test_statistics_of_large_images_take_no_more_memory_than_small_ones() -> None:
    pool = np.full((40, 3, 512, 512), 51, np.uint8)  # 252 MB in double precision
    tracemalloc.start()
    encoder = fresh_encoder(settings(), pool, RUN)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 8 * PART
    torch.testing.assert_close(encoder.mean, torch.full((3,), 0.2))


def test_fresh_encoder_depends_on_its_stream_alone(digits: Labelled) -> None:
    pool = digits[0][:64].numpy()
    first = fresh_encoder(settings(), pool, RUN).state_dict()
    torch.manual_seed(5)
    same = fresh_encoder(settings(), pool, Stream.of(1, "run")).state_dict()
    assert all(torch.equal(first[key], same[key]) for key in first)
    other = fresh_encoder(settings(), pool, Stream.of(2, "run"))
    assert not torch.equal(first["stem.weight"], other.stem.weight)


@pytest.mark.parametrize("value", [0, 255, 7, 100])
def test_a_constant_channel_gives_finite_statistics(value: int) -> None:
    # Such as an opacity that is the same everywhere.
    pool = np.full((300, 1, 28, 28), value, np.uint8)
    encoder = fresh_encoder(settings(), pool, RUN)
    assert encoder.std.isfinite().all()
    assert encoder(torch.from_numpy(pool[:2]).float() / 255).isfinite().all()
