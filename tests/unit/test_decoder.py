"""The decoder of the autoencoder and the GAN: shapes, and the number of parameters."""

import pytest
import torch
from torch import nn

from stages.networks.encoder import Declaration
from stages.pretrain.decoder import Decoder
from stages.training.randomness import Stream


def decoder(size: int, inputs: int = 16, width: int = 4, channels: int = 1) -> Decoder:
    declaration = Declaration(name="residual", width=8, channels=channels, image_size=size)
    return Decoder(inputs, declaration, width, Stream.of(1, "test"))


def parameter_count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 27, 28, 32, 33, 45, 64, 65, 224])
def test_images_have_the_declared_size_and_depend_on_the_vector(size: int, channels: int) -> None:
    vectors = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    images = decoder(size, channels=channels)(vectors)
    assert images.shape == (2, channels, size, size)
    assert 0 <= images.min() < images.max() <= 1
    # Up to the last row and column: what is cut off is beyond the image.
    assert (images[0, :, -1] != images[1, :, -1]).any()
    assert (images[0, :, :, -1] != images[1, :, :, -1]).any()


@pytest.mark.parametrize(("size", "side"), [(28, 7), (32, 8)])
def test_at_28_and_32_pixels_a_map_of_a_quarter_of_the_side_is_doubled_twice(size: int, side: int) -> None:
    network = decoder(size, inputs=16, width=4, channels=3)
    assert {name: tuple(p.shape) for name, p in network.named_parameters()} == {
        "expand.weight": (8 * side**2, 16),
        "expand.bias": (8 * side**2,),
        "layers.0.weight": (8,),
        "layers.0.bias": (8,),
        "layers.2.weight": (8, 4, 4, 4),
        "layers.3.weight": (4,),
        "layers.3.bias": (4,),
        "layers.5.weight": (4, 3, 4, 4),
        "layers.5.bias": (3,),
    }
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds == ["BatchNorm2d", "ReLU", "ConvTranspose2d", "BatchNorm2d", "ReLU", "ConvTranspose2d"]


def test_the_number_of_parameters_hardly_grows_with_the_image_size() -> None:
    # A ResNet-50 has 2,048 features. A larger image needs more convolutions, but no larger linear layer.
    counts = {size: parameter_count(decoder(size, 2048, 32, 3)) for size in (28, 32, 64, 224, 512)}
    assert counts[28] < counts[32]
    assert counts[224] < 10_000_000
    assert counts[512] < 1.05 * counts[32]
    linear = {size: parameter_count(decoder(size, 2048, 32, 3).expand) for size in (32, 64, 224, 512)}
    assert max(linear.values()) == linear[32]
