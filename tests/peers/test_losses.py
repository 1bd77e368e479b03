"""Losses and their gradients compared with lightly's, on random inputs."""

from collections.abc import Callable

import pytest
import torch
from lightly import loss
from torch import Tensor

from stages.pretrain.learner import build
from stages.pretrain.methods import dino as dino_module
from stages.pretrain.methods.barlow_twins import barlow_twins
from stages.pretrain.methods.byol import byol
from stages.pretrain.methods.dino import dino
from stages.pretrain.methods.lejepa import lejepa, sigreg
from stages.pretrain.methods.simclr import nt_xent
from stages.pretrain.methods.vicreg import vicreg
from stages.training.randomness import Stream
from stages.views.augment import two_views
from tests.conftest import strengths, tiny_encoder

Loss = Callable[[Tensor, Tensor], Tensor]


def lightly_byol(first: Tensor, second: Tensor) -> Tensor:
    # lightly's loss is −cos, of one direction.
    return 2 + 2 * loss.NegativeCosineSimilarity()(first, second)


SLICES = 64


def lightly_lejepa(first: Tensor, second: Tensor) -> Tensor:
    torch.manual_seed(0)  # it draws its slices from the global generator
    criterion = loss.LeJEPALoss(lambda_param=0.05, sigreg_num_vectors=SLICES)
    both = torch.stack([first, second])
    return criterion(local_proj=both, global_proj=both)  # each view twice, which changes no mean


def lightly_sigreg(first: Tensor, second: Tensor) -> Tensor:
    torch.manual_seed(0)
    return loss.SIGReg(num_vectors=SLICES)(torch.stack([first, second]))


def lightlys_slices(size: int) -> Tensor:
    """The same unit vectors, (size, SLICES), without the global generator."""
    directions = torch.randn(size, SLICES, generator=torch.Generator().manual_seed(0))
    return directions / directions.norm(dim=0)


def centre(size: int) -> Tensor:
    return torch.linspace(-1, 1, size)


def our_dino(first: Tensor, second: Tensor) -> Tensor:
    student, other = torch.cat([first, second]), torch.cat([second, first])
    return dino(student, other.detach(), centre(student.shape[1]), 0.2, 0.1)


def lightly_dino(first: Tensor, second: Tensor) -> Tensor:
    criterion = loss.DINOLoss(first.shape[1], teacher_temp=0.1, student_temp=0.2)
    criterion.center.data = centre(first.shape[1])[None, None]
    return criterion([first.detach(), second.detach()], [first, second])


CASES: dict[str, tuple[Loss, Loss]] = {
    "nt-xent 0.1": (lambda a, b: nt_xent(a, b, 0.1), loss.NTXentLoss(temperature=0.1)),
    "nt-xent 0.5": (lambda a, b: nt_xent(a, b, 0.5), loss.NTXentLoss(temperature=0.5)),
    "vicreg": (lambda a, b: vicreg(a, b, 25, 25, 1), loss.VICRegLoss()),
    "barlow twins": (lambda a, b: barlow_twins(a, b, 0.005), loss.BarlowTwinsLoss(lambda_param=0.005)),
    "byol": (byol, lightly_byol),
    "dino": (our_dino, lightly_dino),
    "lejepa": (lambda a, b: lejepa(torch.stack([a, b]), lightlys_slices(a.shape[1]), 0.05), lightly_lejepa),
    "sigreg": (lambda a, b: sigreg(torch.stack([a, b]), lightlys_slices(a.shape[1])), lightly_sigreg),
}


def test_dinos_centre_changes_as_lightlys() -> None:
    params = dino_module.Params(
        images=16, steps=1, batch_size=16, learning_rate=0.01, weight_decay=0.0, warmup=0.1,
        projector_hidden=16, projector_output=8, prototypes=12, student_temperature=0.2,
        teacher_temperature=0.1, momentum=0.9, centre_momentum=0.75,
    )  # fmt: skip
    learner = build("dino", tiny_encoder(), params, strengths(rotate=20), Stream.of(0, "init"))
    assert isinstance(learner, dino_module.Method)
    criterion = loss.DINOLoss(12, teacher_temp=0.1, student_temp=0.2, center_momentum=0.75)
    for step in range(3):
        images = torch.rand(16, 1, 28, 28, generator=torch.Generator().manual_seed(step))
        stream = Stream.of(1, "step", step)
        both = two_views(images, torch.arange(16), learner.views, stream)
        with torch.no_grad():
            student = learner.similarities(learner.projector(learner.encoder(both))).chunk(2)
            teacher = learner.similarities(learner.teacher(both)).chunk(2)
        value = learner(images, torch.arange(16), stream)
        torch.testing.assert_close(value.detach(), criterion(list(teacher), list(student)))
        torch.testing.assert_close(learner.centre, criterion.center[0, 0])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("n", "size", "scale"), [(8, 4, 1.0), (64, 128, 0.3), (256, 32, 5.0)])
def test_loss_and_gradient_are_lightlys(name: str, n: int, size: int, scale: float) -> None:
    (value, gradients), (expected, expected_gradients) = (
        loss_and_gradients(function, n, size, scale) for function in CASES[name]
    )
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-5 * float(other.abs().max()) + 1e-9)


def loss_and_gradients(function: Loss, n: int, size: int, scale: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(n)
    shared = torch.randn(n, size, generator=generator)
    pair = [scale * (shared + 0.5 * torch.randn(n, size, generator=generator)) for _ in range(2)]
    inputs = [z.requires_grad_() for z in pair]
    value = function(*inputs)
    return value.detach(), torch.autograd.grad(value, inputs)
