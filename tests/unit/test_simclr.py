import math

import pytest
import torch
from torch import Tensor

from stages.pretrain.methods.simclr import Method, Params, nt_xent
from stages.settings.schema import Views
from stages.training.randomness import Stream
from stages.views import augment
from tests.conftest import MOVING, assert_gradients_reach_every_parameter, strengths, tiny_encoder

STRONG = Views(**MOVING)
COMMON = {
    "images": 1,
    "steps": 1,
    "batch_size": 32,
    "learning_rate": 0.01,
    "weight_decay": 0.0,
    "warmup": 0.1,
}
STEP = Stream.of(1, "test").at("step", 0)


def method(seed: int = 0, views: Views = STRONG, **changes: object) -> Method:
    own = {"temperature": 0.5, "projector_hidden": 16, "projector_output": 8}
    return Method(tiny_encoder(), Params(**{**COMMON, **own, **changes}), views, Stream.of(seed, "init"))


def random_pairs(n: int = 6, size: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    both = torch.randn(2, n, size, generator=generator, dtype=torch.float64)
    return both[0], both[1]


def naive(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Equation 1 of the paper, term by term."""
    z = [*first, *second]
    n = len(first)

    def similarity(i: int, j: int) -> Tensor:
        return z[i] @ z[j] / (z[i].norm() * z[j].norm())

    total = first.new_zeros(())
    for i in range(2 * n):
        j = i + n if i < n else i - n
        others = [torch.exp(similarity(i, k) / temperature) for k in range(2 * n) if k != i]
        total = total - torch.log(torch.exp(similarity(i, j) / temperature) / sum(others))
    return total / (2 * n)


@pytest.mark.parametrize("n", [2, 7, 50])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_equal_embeddings_make_the_other_views_equally_likely(n: int, temperature: float) -> None:
    same = torch.ones(n, 5)
    assert nt_xent(same, same, temperature).item() == pytest.approx(math.log(2 * n - 1), rel=1e-5)


@pytest.mark.parametrize("n", [2, 7, 16])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_orthonormal_images_with_perfect_positives(n: int, temperature: float) -> None:
    basis = torch.eye(16, dtype=torch.float64)[:n]
    expected = math.log(1 + (2 * n - 2) * math.exp(-1 / temperature))
    # Only directions count, not lengths.
    assert nt_xent(3 * basis, 0.1 * basis, temperature).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_loss_and_gradient_are_those_of_equation_1(temperature: float) -> None:
    losses, gradients = [], []
    for function in (nt_xent, naive):
        pair = [part.clone().requires_grad_() for part in random_pairs()]
        loss = function(*pair, temperature)
        loss.backward()
        losses.append(loss.detach())
        gradients.append(torch.stack([part.grad for part in pair]))
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(gradients[0], gradients[1])
    assert gradients[1].abs().min() > 0


def test_the_two_views_are_interchangeable() -> None:
    first, second = random_pairs()
    torch.testing.assert_close(nt_xent(first, second, 0.3), nt_xent(second, first, 0.3))


def test_wrong_partners_cost_more() -> None:
    first, _ = random_pairs()
    assert nt_xent(first, first.roll(1, 0), 0.3) > nt_xent(first, first, 0.3) + 0.5


def test_a_batch_is_two_views_through_encoder_and_projector(floats: Tensor) -> None:
    learner, positions = method(), torch.arange(16)
    loss = learner(floats[:16], positions, STEP)
    both = augment.two_views(floats[:16], positions, learner.views, STEP)
    first, second = learner.projector(learner.encoder(both)).chunk(2)
    torch.testing.assert_close(loss, nt_xent(first, second, 0.5))
    assert first.shape == (16, 8)
    assert loss.item() != pytest.approx(learner(floats[:16], positions, STEP.at("other")).item(), abs=1e-4)


def test_temperature_and_views_come_from_the_parameters(floats: Tensor) -> None:
    batch, positions = floats[:16], torch.arange(16)
    assert method(temperature=0.1)(batch, positions, STEP) != method()(batch, positions, STEP)
    still = method(views=strengths())  # both views are the image itself: perfect positives
    assert still(batch, positions, STEP) < method()(batch, positions, STEP)


def test_gradients_reach_every_parameter(floats: Tensor) -> None:
    assert_gradients_reach_every_parameter(method(), floats[:32], STEP)


def test_projector_depends_only_on_its_stream() -> None:
    torch.manual_seed(1)
    first = method(seed=3).projector.state_dict()
    torch.manual_seed(2)
    same, other = method(seed=3).projector.state_dict(), method(seed=4).projector.state_dict()
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])
