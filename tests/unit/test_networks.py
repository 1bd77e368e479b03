import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from stages.networks.build import build
from stages.networks.encoder import Declaration, Encoder, initialise
from stages.networks.residual import generalised_mean
from stages.tasks.classifier import Classifier
from tests.conftest import tiny_encoder

EACH = pytest.mark.parametrize("name", ["cnn", "residual", "vit"])


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def full_size(name: str, width: int = 32) -> Encoder:
    return build(Declaration(name=name, width=width, channels=1, image_size=28), generator(0))


@EACH
@pytest.mark.parametrize("size", [8, 14, 28, 33, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_become_features(name: str, size: int, channels: int) -> None:
    encoder = tiny_encoder(name, image_size=size, channels=channels)
    features = encoder(torch.rand(5, channels, size, size, generator=generator(0)))
    assert features.shape == (5, encoder.features)
    assert features.dtype == torch.float32
    assert (features >= 0).all() or name == "vit"  # the others end in a ReLU
    assert features.std(0).max() > 0  # different images, different features


@EACH
def test_every_parameter_is_used(name: str) -> None:
    encoder = tiny_encoder(name)
    encoder(torch.rand(8, 1, 28, 28, generator=generator(0))).square().sum().backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


def test_classic_cnn_is_that_of_pytorchs_mnist_example() -> None:
    # PyTorch's MNIST example has 1,199,882 parameters, including its head for ten classes.
    assert count(Classifier(full_size("cnn"), 10)) == 1_199_882


def test_residual_has_the_feature_maps_of_its_docstring() -> None:
    encoder, shapes = full_size("residual"), []
    for layer in (encoder.norm, *encoder.blocks):
        layer.register_forward_hook(lambda _module, _input, out: shapes.append(tuple(out.shape[1:])))
    assert encoder(torch.zeros(2, 1, 28, 28)).shape == (2, 128)
    assert shapes == [(32, 14, 14), (32, 14, 14), (64, 7, 7), (128, 4, 4)]
    assert 200_000 < count(encoder) < 400_000


def test_pooling_is_between_average_and_maximum() -> None:
    maps = torch.rand(2, 3, 4, 5, generator=generator(0)) + 0.1
    torch.testing.assert_close(generalised_mean(maps, 1.0), maps.mean((2, 3)))
    torch.testing.assert_close(generalised_mean(maps, 200.0), maps.amax((2, 3)), rtol=0.02, atol=0)
    torch.testing.assert_close(generalised_mean(maps), (maps**3).mean((2, 3)) ** (1 / 3))
    torch.testing.assert_close(generalised_mean(torch.full((1, 1, 2, 2), 0.7)), torch.tensor([[0.7]]))


def test_pooling_of_dead_channels_has_finite_gradients() -> None:
    maps = torch.zeros(1, 2, 3, 3, requires_grad=True)  # the slope of the root is infinite at zero
    generalised_mean(maps).sum().backward()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()


@EACH
def test_doubling_the_width_gives_about_four_times_the_parameters(name: str) -> None:
    assert 3.5 < count(full_size(name, 32)) / count(full_size(name, 16)) < 4.1


@EACH
def test_statistics_normalise_the_images(name: str, floats: Tensor) -> None:
    images = floats.repeat(1, 3, 1, 1) * torch.tensor([1.0, 0.5, 0.2])[:, None, None]
    encoder = tiny_encoder(name, channels=3)
    encoder.set_statistics(images.mean((0, 2, 3)), images.std((0, 2, 3)))
    normalised = encoder.normalise(images)
    torch.testing.assert_close(normalised.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(normalised.std((0, 2, 3)), torch.ones(3), rtol=0, atol=1e-4)
    assert normalised.is_contiguous(memory_format=torch.channels_last)
    assert {"mean", "std"} <= encoder.state_dict().keys()  # they are saved with the weights
    assert not {"mean", "std"} & dict(encoder.named_parameters()).keys()  # and not trained


@EACH
def test_a_forward_pass_normalises(name: str, floats: Tensor) -> None:
    encoder = tiny_encoder(name).eval()
    encoder.set_statistics(torch.tensor([0.2]), torch.tensor([0.5]))
    features = encoder(floats[:4])
    encoder.set_statistics(torch.tensor([0.4]), torch.tensor([1.0]))
    torch.testing.assert_close(encoder(2 * floats[:4]), features)


@EACH
def test_constant_channel_does_not_divide_by_zero(name: str) -> None:
    encoder = tiny_encoder(name, channels=3)
    encoder.set_statistics(torch.tensor([0.5, 0.1, 0.1]), torch.tensor([0.0, 0.3, 0.3]))
    images = torch.rand(4, 3, 28, 28, generator=generator(0))
    images[:, 0] = 0.5
    assert (encoder.normalise(images)[:, 0] == 0).all()
    assert encoder(images).isfinite().all()


@EACH
def test_weights_depend_only_on_the_generator(name: str) -> None:
    torch.manual_seed(1)
    first = tiny_encoder(name, seed=3).state_dict()
    torch.manual_seed(2)
    same, other = tiny_encoder(name, seed=3).state_dict(), tiny_encoder(name, seed=4).state_dict()
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_initialisation_is_he_initialisation() -> None:
    layers = nn.Sequential(nn.Conv2d(16, 200, 3), nn.Linear(300, 400))
    initialise(layers, generator(0))
    for layer, inputs in zip(layers, (16 * 9, 300), strict=True):
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / inputs), rel=0.02)
        assert layer.weight.mean().item() == pytest.approx(0, abs=0.002)
        assert (layer.bias == 0).all()


@EACH
def test_weights_are_channels_last(name: str) -> None:
    convolutions = [m for m in tiny_encoder(name).modules() if isinstance(m, nn.Conv2d)]
    assert convolutions
    assert all(m.weight.is_contiguous(memory_format=torch.channels_last) for m in convolutions)


def test_a_new_classifier_gives_all_classes_the_same_logit(floats: Tensor) -> None:
    classifier = Classifier(tiny_encoder(), 7)
    assert torch.equal(classifier(floats[:3]), torch.zeros(3, 7))
    nn.init.ones_(classifier.head.weight)
    classifier.eval()
    features = classifier.encoder(floats[:3])
    torch.testing.assert_close(classifier(floats[:3]), features.sum(1, keepdim=True).expand(3, 7))


@pytest.mark.parametrize(
    "changes", [{"name": "resnet"}, {"width": 0}, {"channels": 5}, {"image_size": 7}, {"depth": 3}]
)
def test_declaration_refuses_what_cannot_be_built(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        Declaration(**{"name": "cnn", "width": 4, "channels": 1, "image_size": 28, **changes})
