import pytest
import torch
from torch import nn

from stages.pretrain.teacher import Teacher, rising_momentum
from stages.pretrain.two_views import perceptron
from stages.training import optimisation


def test_momentum_rises_to_one() -> None:
    values = [rising_momentum(0.9, progress) for progress in (0.0, 0.25, 0.5, 1.0)]
    assert values[0] == pytest.approx(0.9)
    assert values[2] == pytest.approx(0.95)
    assert values[-1] == pytest.approx(1.0)
    assert values == sorted(values)


def test_teacher_is_the_average_of_its_student() -> None:
    student = nn.Linear(3, 2)
    teacher = Teacher(student)
    start = student.weight.detach().clone()
    assert torch.equal(teacher.network.weight, start)
    nn.init.constant_(student.weight, 5.0)
    assert torch.equal(teacher.network.weight, start)  # it is a copy
    teacher.follow(student, 0.75)
    torch.testing.assert_close(teacher.network.weight, 0.75 * start + 0.25 * 5)
    teacher.follow(student, 0.0)
    assert torch.equal(teacher.network.weight, student.weight)


def test_teacher_is_neither_trained_nor_decayed() -> None:
    student = nn.Linear(3, 2)
    both = nn.ModuleDict({"student": student, "teacher": Teacher(student)})
    out = both["teacher"](torch.ones(1, 3))
    assert not out.requires_grad
    before = both["teacher"].network.weight.clone()
    optimiser = optimisation.adamw(optimisation.decayed_groups(both, 0.1, 0.1))
    student(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    assert torch.equal(both["teacher"].network.weight, before)
    assert not torch.equal(student.weight, before)


def test_perceptron_has_norms_between_its_layers_only() -> None:
    kinds = [type(layer).__name__ for layer in perceptron(4, 8, 8, 3)]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert perceptron(4, 8, 3)(torch.zeros(5, 4)).shape == (5, 3)
    assert [type(layer).__name__ for layer in perceptron(4, 3)] == ["Linear"]
