import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stages.pretrain.methods.autoencoder import Method, Params
from stages.training.randomness import Stream
from tests.conftest import assert_gradients_reach_every_parameter, strengths, tiny_encoder

COMMON = {
    "images": 1,
    "steps": 1,
    "batch_size": 32,
    "learning_rate": 0.01,
    "weight_decay": 0.0,
    "warmup": 0.1,
}
STEP = Stream.of(1, "test").at("step", 0)


def method(encoder: dict[str, object] | None = None, seed: int = 0, **changes: object) -> Method:
    params = Params(**{**COMMON, "noise": 0.3, "erase": 0.5, "decoder_width": 4, **changes})
    return Method(tiny_encoder(**(encoder or {})), params, strengths(), Stream.of(seed, "init"))


@pytest.mark.parametrize("name", ["cnn", "residual", "vit"])
@pytest.mark.parametrize("size", [28, 30, 33])
@pytest.mark.parametrize("channels", [1, 3])
def test_reconstruction_has_the_images_shape_and_range(name: str, size: int, channels: int) -> None:
    images = torch.rand(3, channels, size, size, generator=torch.Generator().manual_seed(0))
    out = method({"name": name, "image_size": size, "channels": channels}).reconstruct(images)
    assert out.shape == images.shape
    assert out.min() >= 0
    assert out.max() <= 1
    assert (out[0] - out[1]).abs().max() > 1e-3  # it depends on the image


def test_corruption_adds_noise_and_a_square_to_each_image(floats: Tensor) -> None:
    positions = torch.arange(16)
    corrupted = method().corrupt(floats[:16], positions, STEP)
    assert corrupted.shape == (16, 1, 28, 28)
    assert corrupted.min() >= 0
    assert corrupted.max() <= 1
    assert ((corrupted - floats[:16]).abs().amax((1, 2, 3)) > 0.1).all()
    noise = method(erase=0.0).corrupt(torch.full((16, 1, 28, 28), 0.5), positions, STEP)
    assert noise.std().item() == pytest.approx(0.3, rel=0.15)  # a little less, as it is clipped
    assert (noise[0] - noise[1]).abs().max() > 0.1
    squares = method(noise=0.0).corrupt(torch.ones(16, 1, 28, 28), positions, STEP)
    assert set(squares.unique().tolist()) == {0.0, 1.0}
    erased = (squares == 0).flatten(1).sum(1)
    assert len(erased.unique()) > 5
    assert erased.max() <= 15**2


def test_without_corruption_images_are_unchanged(floats: Tensor) -> None:
    out = method(noise=0.0, erase=0.0).corrupt(floats[:8], torch.arange(8), STEP)
    assert torch.equal(out, floats[:8])


def test_corruption_depends_on_position_and_step(floats: Tensor) -> None:
    learner, positions = method(), torch.arange(16)
    all_corrupted = learner.corrupt(floats[:16], positions, STEP)
    assert torch.equal(learner.corrupt(floats[4:9], positions[4:9], STEP), all_corrupted[4:9])
    following = learner.corrupt(floats[:16], positions, Stream.of(1, "test").at("step", 1))
    assert not torch.equal(following, all_corrupted)


def test_loss_compares_the_reconstruction_with_the_clean_image(floats: Tensor) -> None:
    learner, positions = method(), torch.arange(16)
    out = learner.reconstruct(learner.corrupt(floats[:16], positions, STEP))
    loss = learner(floats[:16], positions, STEP)
    torch.testing.assert_close(loss, F.mse_loss(out, floats[:16]))


def test_gradients_reach_every_parameter(floats: Tensor) -> None:
    assert_gradients_reach_every_parameter(method(), floats[:32], STEP)


def test_decoder_depends_only_on_its_stream() -> None:
    torch.manual_seed(1)
    first = method(seed=3).state_dict()
    torch.manual_seed(2)
    same, other = method(seed=3).state_dict(), method(seed=4).state_dict()
    assert all(torch.equal(first[key], same[key]) for key in first)
    for key in ("decoder.expand.weight", "decoder.layers.2.weight", "decoder.layers.5.weight"):
        assert not torch.equal(first[key], other[key])
