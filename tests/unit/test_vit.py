"""The parts of the transformer against their formulas, one image and one head at a time."""

import math

import pytest
import torch
from torch import Tensor, nn

from stages.networks.vit import Block, VisionTransformer, initialise_transformer, sinusoids
from tests.conftest import tiny_encoder


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def block(size: int = 8, heads: int = 2) -> Block:
    result = Block(size, heads)
    initialise_transformer(result, generator())
    return result


def test_block_is_attention_and_a_perceptron_on_normalised_tokens() -> None:
    layer, x = block(), torch.randn(1, 5, 8, generator=generator(1))
    queries, keys, values = layer.attention(layer.norm1(x))[0].split(8, dim=1)
    mixed = torch.empty(5, 8)
    for head in (slice(0, 4), slice(4, 8)):
        weights = (queries[:, head] @ keys[:, head].T / math.sqrt(4)).softmax(1)
        mixed[:, head] = weights @ values[:, head]
    expected = x[0] + layer.output(mixed)
    expected = expected + layer.perceptron(layer.norm2(expected))
    torch.testing.assert_close(layer(x)[0], expected)


def test_a_block_depends_neither_on_the_order_of_tokens_nor_on_other_images() -> None:
    layer, x = block(), torch.randn(3, 6, 8, generator=generator(1))
    order = torch.randperm(6, generator=generator(2))
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order])
    torch.testing.assert_close(layer(x[1:2]), layer(x)[1:2])


def test_every_position_has_its_own_embedding() -> None:
    positions = sinusoids(7, 16).unflatten(0, (7, 7))  # row, column, dimension
    assert positions.flatten(0, 1).unique(dim=0).shape == (49, 16)
    assert torch.equal(
        positions[2, :, :8], positions[2, :1, :8].expand(7, 8)
    )  # the first half encodes the row
    assert torch.equal(positions[:, 4, 8:], positions[:1, 4, 8:].expand(7, 8))  # the second the column
    torch.testing.assert_close(positions[3, 5, 0], torch.tensor(math.sin(3)))
    torch.testing.assert_close(positions[3, 5, 8], torch.tensor(math.sin(5)))
    torch.testing.assert_close(positions[3, 5, 12], torch.tensor(math.cos(5)))
    torch.testing.assert_close(positions[3, 5, 9], torch.tensor(math.sin(5 / 10)))  # 10,000 ** (1/4) = 10


def test_initialisation_is_glorot_initialisation() -> None:
    layers = nn.Sequential(nn.Linear(300, 400), nn.Conv2d(3, 200, 5))
    initialise_transformer(layers, generator())
    for layer, total in zip(layers, (700, 200 + 75), strict=True):
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / total), rel=0.03)
        assert layer.weight.abs().max().item() <= math.sqrt(6 / total)
        assert (layer.bias == 0).all()


@pytest.mark.parametrize(
    ("size", "patch", "side"), [(8, 4, 2), (28, 4, 7), (30, 4, 8), (32, 4, 8), (64, 5, 13), (224, 16, 14)]
)
def test_patches_are_a_fourteenth_of_the_side_but_at_least_4_pixels(size: int, patch: int, side: int) -> None:
    encoder = vit(image_size=size)
    assert (encoder.patch, encoder.side) == (patch, side)
    images = torch.rand(2, 1, size, size, generator=generator())
    assert encoder.tokens(images).shape == (2, side**2, encoder.features)
    padded = encoder.padded(images)
    assert padded.shape == (2, 1, side * patch, side * patch)
    assert torch.equal(padded[:, :, :size, :size], encoder.normalise(images))
    assert (padded[:, :, size:] == 0).all()  # the mean
    assert (padded[:, :, :, size:] == 0).all()


def test_a_token_depends_only_on_its_patch(floats: Tensor) -> None:
    encoder, changed = vit(), floats[:1].clone()
    changed[:, :, 8:12, 20:24] += 0.5  # row 2, column 5
    differs = (encoder.tokens(changed) != encoder.tokens(floats[:1])).any(2)[0]
    assert differs.nonzero().flatten().tolist() == [2 * 7 + 5]


def vit(**changes: int) -> VisionTransformer:
    encoder = tiny_encoder("vit", **changes)
    assert isinstance(encoder, VisionTransformer)
    return encoder


def test_features_are_the_mean_over_tokens(floats: Tensor) -> None:
    encoder = vit()
    tokens = encoder.attend(encoder.tokens(floats[:3]))
    torch.testing.assert_close(encoder(floats[:3]), tokens.mean(1))


def test_bf16_gives_nearly_the_same_features(floats: Tensor) -> None:
    encoder = vit()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = encoder(floats[:8])
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, encoder(floats[:8]), rtol=0, atol=0.05)
