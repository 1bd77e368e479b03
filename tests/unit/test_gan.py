import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stages.pretrain.methods.gan import Method, Params, discriminator_loss, generator_loss
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
OWN = {"noise": 0.3, "latent": 6, "information": 1.0, "generator_width": 4}
STEP = Stream.of(1, "test").at("step", 0)


def method(encoder: dict[str, object] | None = None, seed: int = 0, **changes: object) -> Method:
    params = Params(**{**COMMON, **OWN, **changes})
    return Method(tiny_encoder(**(encoder or {})), params, strengths(), Stream.of(seed, "init"))


def test_logits_of_zero_cost_ln_2_each() -> None:
    zeros = torch.zeros(7)
    assert discriminator_loss(zeros, zeros).item() == pytest.approx(2 * math.log(2))
    assert generator_loss(zeros).item() == pytest.approx(math.log(2))


def test_losses_are_those_of_the_probabilities() -> None:
    real, fake = torch.randn(2, 50, generator=torch.Generator().manual_seed(0)).double()
    expected = F.binary_cross_entropy(real.sigmoid(), torch.ones(50).double())
    expected += F.binary_cross_entropy(fake.sigmoid(), torch.zeros(50).double())
    torch.testing.assert_close(discriminator_loss(real, fake), expected)
    torch.testing.assert_close(generator_loss(fake), -fake.sigmoid().log().mean())


def test_without_a_code_no_loss_is_uninformative() -> None:
    # 3 ln 2 is the loss of untrained networks, and also that of an ideal pair.
    assert method(information=0.0).uninformative is None


def test_a_discriminator_without_weights_is_uninformative(floats: Tensor) -> None:
    learner = method(information=0.5)
    torch.nn.init.zeros_(learner.output.weight)
    losses = torch.stack([learner(floats, torch.arange(512), STEP.at(k)) for k in range(4)])
    assert learner.uninformative == pytest.approx(3 * math.log(2) + 1)
    assert losses.mean().item() == pytest.approx(learner.uninformative, abs=0.02)  # codes are random


@pytest.mark.parametrize("name", ["cnn", "residual", "vit"])
@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_fakes_have_the_images_shape_and_range(name: str, size: int, channels: int) -> None:
    learner = method({"name": name, "image_size": size, "channels": channels})
    fakes = learner.generator(torch.randn(5, 6, generator=torch.Generator().manual_seed(0)))
    assert fakes.shape == (5, channels, size, size)
    assert 0 <= fakes.min() < fakes.max() <= 1
    assert learner(fakes.detach(), torch.arange(5), STEP).isfinite()


def test_each_loss_trains_its_own_network(floats: Tensor) -> None:
    learner = method()
    fakes = learner.generator(torch.randn(8, 6, generator=torch.Generator().manual_seed(0)))
    logits, _ = learner.discriminate(fakes, trained=False)
    generator_loss(logits).backward()
    assert all(p.grad is None for p in [*learner.encoder.parameters(), *learner.output.parameters()])
    assert all(p.grad is not None for p in learner.generator.parameters())


def test_fakes_do_not_change_the_running_statistics(floats: Tensor) -> None:
    learner = method()
    before = learner.encoder.norm.running_mean.clone()
    learner.discriminate(floats[:16])
    assert torch.equal(learner.encoder.norm.running_mean, before)
    learner(floats[:16], torch.arange(16), STEP)
    assert not torch.equal(learner.encoder.norm.running_mean, before)


def test_fakes_depend_on_position_and_step(floats: Tensor) -> None:
    learner, outputs = method().eval(), []
    learner.generator.register_forward_hook(lambda _module, _input, out: outputs.append(out))
    learner(floats[:16], torch.arange(16), STEP)
    learner(floats[4:9], torch.arange(4, 9), STEP)
    learner(floats[:16], torch.arange(16), Stream.of(1, "test").at("step", 1))
    torch.testing.assert_close(outputs[1], outputs[0][4:9])
    assert not torch.allclose(outputs[2], outputs[0])


def test_gradients_reach_every_parameter(floats: Tensor) -> None:
    assert_gradients_reach_every_parameter(method(), floats[:32], STEP)
