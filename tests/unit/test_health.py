import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stages.errors import InputError
from stages.pretrain import health
from stages.pretrain.health import PATIENCE, Monitor, feature_std, rankme
from stages.settings.schema import Health, Neighbours
from stages.training.machine import Machine
from tests.conftest import tiny_encoder

Labelled = tuple[Tensor, Tensor]
CPU = Machine(torch.device("cpu"), "fp32")


def monitor_of(
    digits: Labelled, on_collapse: str = "warn", groups: Tensor | None = None, k: int = 5
) -> Monitor:
    neighbours = Neighbours(k=k, temperature=0.07)
    groups = torch.arange(len(digits[1])) if groups is None else groups
    return Monitor("byol", tiny_encoder(), *digits, groups, neighbours, Health(on_collapse=on_collapse), CPU)


def collapse(encoder: nn.Module) -> None:
    """Make the features of all images equal."""
    for parameter in encoder.parameters():
        nn.init.zeros_(parameter)
    nn.init.ones_(encoder.blocks[-1].norm2.bias)


def normals(n: int, size: int) -> Tensor:
    return torch.randn(n, size, generator=torch.Generator().manual_seed(0))


# --- spread and rank


def test_spread_of_features_in_all_directions_is_one() -> None:
    assert feature_std(normals(4000, 32)) == pytest.approx(1, abs=0.02)
    assert feature_std(5 * normals(4000, 32)) == pytest.approx(1, abs=0.02)  # lengths have no effect


def test_spread_of_equal_features_is_zero() -> None:
    assert feature_std(torch.ones(50, 8)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("rank", [1, 3, 16])
def test_rankme_of_equal_singular_values_is_their_number(rank: int) -> None:
    left, right = (torch.linalg.qr(normals(64, size))[0] for size in (32, 32))
    assert rankme(left[:, :rank] @ right[:, :rank].T) == pytest.approx(rank, rel=1e-3)


def test_rankme_is_the_exponential_of_the_entropy() -> None:
    share = np.array([0.5, 0.3, 0.2])
    expected = math.exp(-(share * np.log(share)).sum())
    assert rankme(7 * torch.diag(torch.tensor(share)).float()) == pytest.approx(expected, rel=1e-4)


# --- the alarm


def test_a_healthy_encoder_raises_no_alarm(digits: Labelled, capsys: pytest.CaptureFixture[str]) -> None:
    monitor = monitor_of(digits)
    first = monitor(0, None, True)
    again = monitor(10, 3.0, False)
    assert monitor.collapse is None
    assert capsys.readouterr().err == ""
    assert set(first) == {"feature_std", "rankme", "knn"}
    assert 0.2 < first["knn"] <= 1
    assert again == {name: first[name] for name in ("feature_std", "rankme")}  # the same encoder
    assert monitor.seconds > 0


def test_a_collapse_is_printed_once_and_recorded(
    digits: Labelled, capsys: pytest.CaptureFixture[str]
) -> None:
    monitor = monitor_of(digits)
    monitor(0, None, True)
    collapse(monitor.encoder)
    columns = monitor(10, 3.0, False)
    for step in (20, 30, 40):
        monitor(step, 3.0, False)
    assert columns["feature_std"] == pytest.approx(0, abs=1e-3)
    assert columns["rankme"] == pytest.approx(1, abs=0.01)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(
        "warning: pretrain byol: collapse at step 30: the features' standard deviation is"
    )
    assert monitor.collapse is not None
    assert monitor.collapse.startswith("step 30: ")


def test_nan_features_count_as_collapse(digits: Labelled) -> None:
    monitor = monitor_of(digits)
    monitor(0, None, True)
    nn.init.constant_(monitor.encoder.stem.weight, float("nan"))
    columns = monitor(7, 3.0, True)
    assert columns["feature_std"] == 0
    assert monitor.collapse is not None
    assert monitor.collapse.startswith("step 7: ")


def test_a_collapse_stops_the_run_if_params_say_so(digits: Labelled) -> None:
    monitor = monitor_of(digits, on_collapse="stop")
    monitor(0, None, True)
    collapse(monitor.encoder)
    with pytest.raises(InputError, match=r"^pretrain byol: collapse at step 30: .*; no model was written$"):
        monitor(30, 3.0, True)


def test_features_that_recover_raise_no_alarm(digits: Labelled) -> None:
    monitor = monitor_of(digits)
    monitor(0, None, True)
    healthy = copy.deepcopy(monitor.encoder)
    collapsed = monitor.encoder
    collapse(collapsed)
    for step, encoder in enumerate(([collapsed] * (PATIENCE - 1) + [healthy]) * 2):
        monitor.encoder = encoder
        monitor(step, 3.0, False)
    assert monitor.collapse is None


def test_the_alarm_is_in_the_curve_and_its_state_survives_an_interruption(digits: Labelled) -> None:
    monitor = monitor_of(digits)
    curve = [{"step": 0, "loss": None, **monitor(0, None, True)}]
    collapse(monitor.encoder)
    for step in (10, 20, 30):
        curve.append({"step": step, "loss": 3.0, **monitor(step, 3.0, False)})
    assert [("alarm" in row) for row in curve] == [False, False, False, True]
    assert f"step 30: {curve[-1]['alarm']}" == monitor.collapse
    resumed = monitor_of(digits)
    resumed.replay(curve[:3], monitor.stored)
    assert resumed.collapse is None
    resumed.encoder = monitor.encoder
    resumed(30, 3.0, False)
    assert resumed.collapse == monitor.collapse


def test_the_knn_is_measured_again_if_the_labels_have_changed(digits: Labelled) -> None:
    images, labels = digits
    half = torch.where(torch.arange(len(labels)) % 2 == 0, labels, -1)
    monitor = monitor_of((images, half))
    curve = [{"step": step, "loss": None, **monitor(step, None, True)} for step in (0, 10)]
    relabelled = monitor_of(digits)
    expected = relabelled(0, None, True)["knn"]
    assert curve[0]["knn"] != expected
    resumed = monitor_of(digits)
    resumed.replay(curve, monitor.stored)
    assert [row["knn"] for row in curve] == [expected, expected]


def test_features_of_the_first_and_the_last_looks_are_stored(
    digits: Labelled, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = digits
    half = torch.where(torch.arange(len(labels)) % 2 == 0, labels, -1)
    monitor = monitor_of((images, half))
    monkeypatch.setattr(
        health, "FEATURES_LIMIT", 3 * 2 * len(images) * monitor.encoder.features
    )  # of three looks, in float16
    curve = []
    for step in range(0, 60, 10):
        curve.append({"step": step, "loss": None, **monitor(step, None, True)})
    assert sorted(monitor.stored) == ["0", "40", "50", "groups", "labels"]
    resumed, before = monitor_of((images, half)), copy.deepcopy(curve)
    resumed.replay(curve, monitor.stored)  # with the same labels nothing changes
    assert curve == before
    assert capsys.readouterr().out == ""
    relabelled = monitor_of(digits)
    expected = relabelled(0, None, True)["knn"]
    relabelled.replay(curve, monitor.stored)
    assert [row["knn"] for row in curve] == [expected, None, None, None, expected, expected]
    assert "the training curve has no kNN accuracy in 3 of 6 rows" in capsys.readouterr().out


def test_the_last_features_are_stored_even_beyond_the_limit(
    digits: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "FEATURES_LIMIT", 1)
    monitor = monitor_of(digits)
    for step in (0, 10, 20):
        assert monitor(step, None, True)["knn"] is not None
    assert sorted(monitor.stored) == ["0", "20", "groups", "labels"]


def test_without_two_labels_there_is_no_knn(digits: Labelled) -> None:
    images, labels = digits
    monitor = monitor_of((images, torch.full_like(labels, -1)))
    assert monitor(0, None, True)["knn"] is None


def test_images_of_one_group_do_not_vote_for_each_other(digits: Labelled) -> None:
    images, labels = digits[0][:64], digits[1][:64]
    twice = torch.cat([images, images]), torch.cat([labels, labels])
    assert monitor_of(twice, k=1)(0, None, True)["knn"] == 1  # each image recognises its copy
    pairs = monitor_of(twice, k=1, groups=torch.arange(64).repeat(2))(0, None, True)["knn"]
    assert pairs < 0.8
    assert monitor_of(twice, groups=torch.zeros(128, dtype=torch.int64))(0, None, True)["knn"] is None


def test_the_knn_is_measured_again_if_the_groups_have_changed(digits: Labelled) -> None:
    images, labels = digits[0][:64], digits[1][:64]
    twice, groups = (torch.cat([images, images]), torch.cat([labels, labels])), torch.arange(64).repeat(2)
    monitor, regrouped = monitor_of(twice), monitor_of(twice, groups=groups)
    curve = [{"step": 0, "loss": None, **monitor(0, None, True)}]
    regrouped.replay(curve, monitor.stored)
    assert curve[0]["knn"] == monitor_of(twice, groups=groups)(0, None, True)["knn"]


def test_faults_of_features_and_of_the_loss_are_counted_apart(digits: Labelled) -> None:
    monitor = monitor_of(digits)
    monitor.uninformative = 4.8
    monitor(0, None, True)
    healthy = monitor.encoder
    collapsed = copy.deepcopy(healthy)
    collapse(collapsed)
    for step, (encoder, loss) in enumerate([(collapsed, 3.0), (healthy, 4.8)] * PATIENCE):
        monitor.encoder = encoder
        monitor(step, loss, False)
    assert monitor.collapse is None


def test_collapsed_features_of_all_images_are_an_alarm_at_once(digits: Labelled) -> None:
    monitor = monitor_of(digits)
    monitor(0, None, True)
    collapse(monitor.encoder)
    monitor(30, 3.0, True)
    assert monitor.collapse is not None
    assert monitor.collapse.startswith("step 30: ")


def test_a_loss_that_stays_at_its_uninformative_value_is_an_alarm(digits: Labelled) -> None:
    monitor = monitor_of(digits)
    monitor.uninformative = math.log(127)
    near = 0.995 * math.log(127)
    monitor(0, None, True)
    for step, loss in enumerate([near] * (PATIENCE - 1) + [4.0] + [near] * (PATIENCE - 1)):
        monitor(step, loss, False)
    assert monitor.collapse is None
    monitor(99, near, False)
    assert monitor.collapse is not None
    assert monitor.collapse.startswith("step 99: the loss stays at 4.82")


def test_features_in_few_directions_are_an_alarm(digits: Labelled) -> None:
    monitor = monitor_of(digits)
    monitor(0, None, True)
    assert monitor.untrained is not None
    spread, rank = monitor.untrained
    monitor._check(5, spread, 0.5 * rank, None, True)
    assert monitor.collapse is None
    monitor._check(6, spread, 0.1 * rank, None, True)
    assert monitor.collapse is not None
    assert "effective rank" in monitor.collapse


# --- blank images


@pytest.mark.parametrize("name", ["cnn", "residual", "vit"])
@pytest.mark.parametrize("level", [0, 200])
def test_blank_validation_images_are_an_alarm_at_once(
    name: str, level: int, digits: Labelled, capsys: pytest.CaptureFixture[str]
) -> None:
    monitor = monitor_of((torch.full_like(digits[0], level), digits[1]))
    monitor.encoder = tiny_encoder(name)
    columns = monitor(0, None, True)
    assert columns["feature_std"] == 0
    assert columns["alarm"].startswith("all validation images have the same features")
    assert monitor.collapse == f"step 0: {columns['alarm']}"
    assert capsys.readouterr().err == f"warning: pretrain byol: collapse at {monitor.collapse}\n"
    assert "alarm" in monitor(10, 3.0, True)
    assert capsys.readouterr().err == ""


def test_blank_validation_images_stop_the_run_if_params_say_so(digits: Labelled) -> None:
    monitor = monitor_of((torch.zeros_like(digits[0]), digits[1]), on_collapse="stop")
    with pytest.raises(
        InputError, match=r"^pretrain byol: collapse at step 0: all validation images have the"
    ):
        monitor(0, None, True)


def test_a_single_image_that_differs_raises_no_alarm(digits: Labelled) -> None:
    images = torch.zeros_like(digits[0])
    images[7] = digits[0][7]
    monitor = monitor_of((images, digits[1]))
    assert "alarm" not in monitor(0, None, True)
