import pytest
import torch
from torch import Tensor

from stages.pretrain.methods.mae import Method, Params, gather_tokens, patches, standardised
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
OWN = {"masked": 0.6, "decoder_width": 4, "decoder_depth": 2, "normalise_patches": False}
STEP = Stream.of(1, "test").at("step", 0)


def method(encoder: dict[str, object] | None = None, seed: int = 0, **changes: object) -> Method:
    params = Params(**{**COMMON, **OWN, **changes})
    return Method(tiny_encoder("vit", **(encoder or {})), params, strengths(), Stream.of(seed, "init"))


def split(learner: Method, *positions: int, step: int = 0) -> tuple[Tensor, Tensor]:
    return learner.split(torch.tensor(positions), Stream.of(1, "test").at("step", step))


@pytest.mark.parametrize(("masked", "visible"), [(0.6, 20), (0.75, 12), (0.001, 48), (0.999, 1)])
def test_each_patch_is_either_visible_or_masked(masked: float, visible: int) -> None:
    visible_patches, masked_patches = split(method(masked=masked), *range(9))
    assert visible_patches.shape == (9, visible)
    assert torch.equal(
        torch.cat([visible_patches, masked_patches], 1).sort(1).values, torch.arange(49).expand(9, 49)
    )


def test_position_and_step_decide_the_mask() -> None:
    learner = method()
    visible, _ = split(learner, 0, 1, 2, 3, 4)
    assert torch.equal(split(learner, 3, 1)[0], visible[[3, 1]])
    assert not torch.equal(visible[0], visible[1])
    assert not torch.equal(split(learner, 0, step=1)[0], visible[:1])


def test_every_patch_is_masked_equally_often() -> None:
    _, masked = split(method(), *range(4000))
    frequencies = torch.bincount(masked.flatten(), minlength=49) / 4000
    torch.testing.assert_close(frequencies, torch.full((49,), 29 / 49), rtol=0, atol=0.04)  # 5 deviations


def test_patches_are_the_encoders_tokens() -> None:
    images = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    cut = patches(images, 4)
    assert cut.shape == (2, 9, 48)
    for row in range(3):
        for column in range(3):
            square = images[:, :, 4 * row :, 4 * column :][:, :, :4, :4]
            assert torch.equal(cut[:, 3 * row + column], square.flatten(1))


def test_loss_is_the_error_of_the_masked_patches_only(floats: Tensor) -> None:
    learner, images = method(), floats[:6]
    visible, masked = split(learner, *range(6))
    predicted = learner.reconstruct(learner.encoder.tokens(images), visible, masked)
    errors = []
    for i in range(6):
        for k, number in enumerate(masked[i].tolist()):
            row, column = divmod(number, 7)
            square = images[i, 0, 4 * row :, 4 * column :][:4, :4]
            errors.append((predicted[i, k] - (square.flatten() - 0.13) / 0.31).square().mean())
    torch.testing.assert_close(learner(images, torch.arange(6), STEP), torch.stack(errors).mean())


def test_predictions_depend_on_visible_tokens_only(floats: Tensor) -> None:
    learner = method()
    visible, masked = split(learner, *range(6))
    tokens = learner.encoder.tokens(floats[:6])
    predictions = learner.reconstruct(tokens, visible, masked)
    for indices, matters in ((masked, False), (visible, True)):
        changed = tokens.scatter_add(1, indices[:, :, None].expand(-1, -1, 16), torch.ones_like(tokens))
        assert torch.allclose(learner.reconstruct(changed, visible, masked), predictions) != matters


def test_tokens_are_identified_by_position_not_by_order(floats: Tensor) -> None:
    learner = method()
    visible, masked = split(learner, *range(6))
    tokens = learner.encoder.tokens(floats[:6])
    predictions = learner.reconstruct(tokens, visible, masked)
    reversed_order = learner.reconstruct(tokens, visible.flip(1), masked.flip(1))
    torch.testing.assert_close(reversed_order.flip(1), predictions)
    assert not torch.allclose(predictions[:, 0], predictions[:, 1])  # two mask tokens at two positions


def test_standardised_patches(floats: Tensor) -> None:
    targets = standardised(patches(floats[:50], 4))
    variance, mean = torch.var_mean(targets, 2)
    torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-4)
    assert (variance[variance > 0.01] < 1.001).all()
    flat = patches(floats[:50], 4).std(2) == 0
    assert (targets[flat] == 0).all()
    learner = method(normalise_patches=True)
    _, masked = split(learner, *range(50))
    target = gather_tokens(standardised(patches(learner.encoder.padded(floats[:50]), 4)), masked)
    torch.nn.init.zeros_(learner.decoder[-1].weight)
    torch.testing.assert_close(learner(floats[:50], torch.arange(50), STEP), target.square().mean())


@pytest.mark.parametrize("size", [28, 30, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_of_images(channels: int, size: int) -> None:
    learner = method({"image_size": size, "channels": channels})
    images = torch.rand(5, channels, size, size, generator=torch.Generator().manual_seed(0))
    visible, masked = split(learner, *range(5))
    predictions = learner.reconstruct(learner.encoder.tokens(images), visible, masked)
    assert predictions.shape == (5, masked.shape[1], channels * 16)
    assert visible.shape[1] + masked.shape[1] == (49 if size == 28 else 64)
    assert learner(images, torch.arange(5), STEP).isfinite()


def test_initial_weights_depend_only_on_the_stream() -> None:
    first, same, other = (method(seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first["blank"], other["blank"])


def test_gradients_reach_every_parameter(floats: Tensor) -> None:
    assert_gradients_reach_every_parameter(method(), floats[:32], STEP)
