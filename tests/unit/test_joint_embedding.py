"""The losses of methods that compare views: closed-form values, and the papers' formulas term by term."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from stages.pretrain.learner import Learner, build
from stages.pretrain.methods.barlow_twins import barlow_twins
from stages.pretrain.methods.byol import byol
from stages.pretrain.methods.dino import Method as Dino
from stages.pretrain.methods.dino import dino
from stages.pretrain.methods.lejepa import lejepa, sigreg, slices
from stages.pretrain.methods.simclr import nt_xent
from stages.pretrain.methods.vicreg import vicreg
from stages.settings.load import method_params
from stages.settings.schema import Training
from stages.training.randomness import Stream
from stages.views.augment import two_views
from tests.conftest import strengths, tiny_encoder


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def off_diagonal(matrix: Tensor) -> list[float]:
    size = len(matrix)
    return [matrix[i, j].item() for i in range(size) for j in range(size) if i != j]


# --- the loss of collapsed embeddings

N, D = 32, 8
COLLAPSED: dict[str, tuple[dict[str, float], Callable[[Tensor], Tensor]]] = {
    "simclr": ({"temperature": 0.3}, lambda z: nt_xent(z, z, 0.3)),
    "vicreg": (
        {"invariance": 3.0, "variance": 7.0, "covariance": 2.0}, lambda z: vicreg(z, z, 3, 7, 2)
    ),
    "barlow_twins": ({"redundancy": 0.1}, lambda z: barlow_twins(z, z, 0.1)),
    "lejepa": (
        {"gaussian": 0.2, "slices": 5},
        lambda z: lejepa(torch.stack([z, z]), slices(D, 5, Stream.of(1, "any")), 0.2),
    ),
}  # fmt: skip


def learner(name: str, own: dict[str, float]) -> Learner:
    common = {
        "images": 1,
        "steps": 1,
        "batch_size": N,
        "learning_rate": 0.01,
        "weight_decay": 0.0,
        "warmup": 0.1,
    }
    params = method_params(name).model_validate(
        {**common, "projector_hidden": 16, "projector_output": D, **own}
    )
    assert isinstance(params, Training)
    return build(name, tiny_encoder(), params, strengths(rotate=20), Stream.of(0, "init"))


@pytest.mark.parametrize("name", COLLAPSED)
def test_uninformative_is_the_loss_of_embeddings_at_the_origin(name: str) -> None:
    own, loss = COLLAPSED[name]
    expected = loss(torch.zeros(N, D)).item()
    assert learner(name, own).uninformative == pytest.approx(expected, rel=1e-5)
    if (
        name != "lejepa"
    ):  # whose loss moves the embeddings to the origin; those of the others are the same at all points
        assert loss(torch.full((N, D), 3.0)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", COLLAPSED)
def test_uninformative_is_the_loss_of_a_dead_projector(name: str, floats: Tensor) -> None:
    method = learner(name, COLLAPSED[name][0])
    images, positions, step = floats[:N], torch.arange(N), Stream.of(1, "test").at("step", 0)
    trained = method(images, positions, step).item()
    projector = method.projector
    assert isinstance(projector, nn.Sequential)
    nn.init.zeros_(projector[-1].weight)
    assert method(images, positions, step).item() == pytest.approx(method.uninformative, rel=1e-5)
    assert trained != pytest.approx(method.uninformative, rel=1e-3)


def test_collapsed_byol_has_the_smallest_loss_so_none_is_uninformative() -> None:
    assert learner("byol", {"momentum": 0.9}).uninformative is None
    same = torch.full((2 * N, D), 3.0)
    assert byol(same, same).item() == pytest.approx(0, abs=1e-6)


# --- VICReg


def test_collapsed_vicreg() -> None:
    same = torch.full((16, 8), 3.0)
    assert vicreg(same, same, 25, 25, 1).item() == pytest.approx(24.75, rel=1e-6)


def test_vicreg_of_whitened_embeddings_is_their_distance() -> None:
    z = normals(64, 4)
    white = torch.linalg.qr(z - z.mean(0))[0] * math.sqrt(63) * 2  # uncorrelated, deviation 2
    shifted = white + 0.5
    assert vicreg(white, shifted, 25, 25, 1).item() == pytest.approx(25 * 0.25, rel=1e-6)


def test_vicreg_term_by_term() -> None:
    first, second = normals(12, 5), normals(12, 5, seed=1)
    expected = 3 * ((first - second) ** 2).mean().item()
    for z in (first, second):
        matrix = torch.cov(z.T)
        hinges = [max(0.0, 1 - math.sqrt(matrix[i, i].item() + 1e-4)) for i in range(5)]
        expected += 7 * sum(hinges) / 5 / 2
        expected += 2 * sum(c**2 for c in off_diagonal(matrix)) / 5
    assert vicreg(first, second, 3, 7, 2).item() == pytest.approx(expected, rel=1e-9)


# --- Barlow Twins


def test_collapsed_barlow_twins() -> None:
    same = torch.full((16, 8), 3.0)
    assert barlow_twins(same, same, 0.005).item() == pytest.approx(8, rel=1e-6)


def test_barlow_twins_of_uncorrelated_dimensions_is_zero() -> None:
    z = normals(64, 4)
    white = torch.linalg.qr(z - z.mean(0))[0] * 100
    assert barlow_twins(white, 3 * white + 1, 0.005).item() == pytest.approx(0, abs=1e-6)


def test_barlow_twins_term_by_term() -> None:
    first, second = normals(12, 5), normals(12, 5, seed=1)
    matrix = torch.corrcoef(torch.cat([first, second], 1).T)[:5, 5:]
    expected = sum((1 - matrix[i, i].item()) ** 2 for i in range(5))
    expected += 0.3 * sum(c**2 for c in off_diagonal(matrix))
    assert barlow_twins(first, second, 0.3).item() == pytest.approx(expected, rel=1e-4)


# --- BYOL


@pytest.mark.parametrize(("cosine", "loss"), [(1, 0), (0, 2), (-1, 4)])
def test_byol_at_known_angles(cosine: float, loss: float) -> None:
    target = torch.tensor([[2.0, 0.0]] * 3)
    prediction = 5 * torch.tensor([[cosine, math.sqrt(1 - cosine**2)]] * 3)
    assert byol(prediction, target).item() == pytest.approx(loss, abs=1e-6)


# --- LeJEPA


def test_slices_are_unit_vectors_of_their_stream() -> None:
    directions = slices(7, 50, Stream.of(1, "a"))
    torch.testing.assert_close(directions.norm(dim=0), torch.ones(50))
    assert torch.equal(directions, slices(7, 50, Stream.of(1, "a")))
    assert not torch.equal(directions, slices(7, 50, Stream.of(1, "b")))


def test_sigreg_prefers_the_gaussian() -> None:
    gaussian = normals(1, 2000, 4).float()
    directions = slices(4, 64, Stream.of(1, "a"))
    least = sigreg(gaussian, directions).item()
    uniform = (torch.rand(1, 2000, 4, generator=torch.Generator().manual_seed(0)) - 0.5) * math.sqrt(12)
    collapsed, narrow, shifted = torch.zeros(1, 2000, 4), 0.5 * gaussian, gaussian + 1
    for other in (uniform, collapsed, narrow, shifted):
        assert sigreg(other, directions).item() > 3 * least


def test_sigreg_of_a_collapsed_batch_is_the_integral() -> None:
    """All embeddings are at the origin, so their characteristic function is 1 everywhere."""
    t = torch.linspace(-3, 3, 20001, dtype=torch.float64)
    phi = torch.exp(-(t**2) / 2)
    expected = 50 * torch.trapezoid((1 - phi) ** 2 * phi, t).item()
    got = sigreg(torch.zeros(2, 50, 4), slices(4, 8, Stream.of(1, "a"))).item()
    assert got == pytest.approx(expected, rel=0.01)  # 17 knots against 20,001


def test_lejepa_adds_the_distance_to_the_mean_of_the_views() -> None:
    embeddings = normals(2, 16, 4).float()
    directions = slices(4, 8, Stream.of(1, "a"))
    distance = (
        F.mse_loss(embeddings[0], embeddings[1]) / 4
    )  # each view differs from the mean by half of the difference
    expected = 0.9 * distance + 0.1 * sigreg(embeddings, directions)
    torch.testing.assert_close(lejepa(embeddings, directions, 0.1), expected)


# --- DINO

DINO = {
    "prototypes": 12, "student_temperature": 0.1, "teacher_temperature": 0.04,
    "momentum": 0.9, "centre_momentum": 0.75,
}  # fmt: skip


def test_dino_of_a_student_that_is_equally_near_to_all_prototypes() -> None:
    equal = torch.full((N, 12), 0.3)
    loss = dino(equal, normals(N, 12).float(), torch.zeros(12), 0.1, 0.04).item()
    assert loss == pytest.approx(math.log(12), rel=1e-6)


def test_dino_term_by_term() -> None:
    student, teacher, centre = normals(6, 4), normals(6, 4, seed=1), normals(4, seed=2)
    expected = 0.0
    for row in range(6):
        targets = [math.exp((teacher[row, k] - centre[k]) / 0.5) for k in range(4)]
        predictions = [math.exp(student[row, k] / 0.8) for k in range(4)]
        for target, prediction in zip(targets, predictions, strict=True):
            expected -= target / sum(targets) * math.log(prediction / sum(predictions)) / 6
    assert dino(student, teacher, centre, 0.8, 0.5).item() == pytest.approx(expected, rel=1e-9)


def test_the_teachers_temperature_must_be_lower_than_the_students() -> None:
    with pytest.raises(ValidationError, match=r"teacher_temperature is 0\.1; allowed: less than"):
        learner("dino", {**DINO, "teacher_temperature": 0.1})


def test_dinos_centre_follows_the_teacher_and_its_prototypes_are_constant(floats: Tensor) -> None:
    method = learner("dino", DINO)
    assert isinstance(method, Dino)
    prototypes = method.prototypes.clone()
    torch.testing.assert_close(prototypes.norm(dim=1), torch.ones(12))
    images, positions, step = floats[:N], torch.arange(N), Stream.of(1, "test").at("step", 0)
    both = two_views(images, positions, method.views, step)
    outputs = F.normalize(method.teacher(both), dim=1) @ prototypes.T
    method(images, positions, step).backward()
    torch.testing.assert_close(method.centre, 0.25 * outputs.mean(0))
    assert torch.equal(method.prototypes, prototypes)
    assert all(parameter.grad is None for parameter in method.teacher.parameters())
