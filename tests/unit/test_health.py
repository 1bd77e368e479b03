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
HERE = Machine(torch.device("cpu"), "fp32")


def monitor(digits: Labelled, on_collapse: str = "warn") -> Monitor:
    neighbours = Neighbours(k=5, temperature=0.07)
    return Monitor("byol", tiny_encoder(), *digits, neighbours, Health(on_collapse=on_collapse), HERE)


def collapse(encoder: nn.Module) -> None:
    """Make all images look alike."""
    for parameter in encoder.parameters():
        nn.init.zeros_(parameter)
    nn.init.ones_(encoder.blocks[-1].norm2.bias)


def normals(n: int, size: int) -> Tensor:
    return torch.randn(n, size, generator=torch.Generator().manual_seed(0))


# --- the two figures


def test_spread_of_features_in_all_directions_is_one() -> None:
    assert feature_std(normals(4000, 32)) == pytest.approx(1, abs=0.02)
    assert feature_std(5 * normals(4000, 32)) == pytest.approx(1, abs=0.02)  # the length does not count


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
    watch = monitor(digits)
    first = watch(0, None, True)
    again = watch(10, 3.0, False)
    assert watch.collapse is None
    assert capsys.readouterr().err == ""
    assert set(first) == {"feature_std", "rankme", "knn"}
    assert 0.2 < first["knn"] <= 1
    assert again == {name: first[name] for name in ("feature_std", "rankme")}  # the same encoder
    assert watch.seconds > 0


def test_collapse_is_said_once_and_kept(digits: Labelled, capsys: pytest.CaptureFixture[str]) -> None:
    watch = monitor(digits)
    watch(0, None, True)
    collapse(watch.encoder)
    columns = watch(10, 3.0, False)
    for step in (20, 30, 40):
        watch(step, 3.0, False)
    assert columns["feature_std"] == pytest.approx(0, abs=1e-3)
    assert columns["rankme"] == pytest.approx(1, abs=0.01)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(
        "warning: pretrain byol: collapse at step 30: the features' standard deviation is"
    )
    assert watch.collapse is not None
    assert watch.collapse.startswith("step 30: ")


def test_features_that_are_no_numbers_are_collapse(digits: Labelled) -> None:
    watch = monitor(digits)
    watch(0, None, True)
    nn.init.constant_(watch.encoder.stem.weight, float("nan"))
    columns = watch(7, 3.0, True)
    assert columns["feature_std"] == 0
    assert watch.collapse is not None
    assert watch.collapse.startswith("step 7: ")


def test_collapse_stops_the_run_where_that_is_asked_for(digits: Labelled) -> None:
    watch = monitor(digits, on_collapse="stop")
    watch(0, None, True)
    collapse(watch.encoder)
    with pytest.raises(InputError, match=r"^pretrain byol: collapse at step 30: .*; nothing was written$"):
        watch(30, 3.0, True)


def test_features_that_recover_raise_no_alarm(digits: Labelled) -> None:
    watch = monitor(digits)
    watch(0, None, True)
    healthy = copy.deepcopy(watch.encoder)
    ill = watch.encoder
    collapse(ill)
    for step, encoder in enumerate(([ill] * (PATIENCE - 1) + [healthy]) * 2):
        watch.encoder = encoder
        watch(step, 3.0, False)
    assert watch.collapse is None


def test_what_is_wrong_stands_in_the_curve_and_is_known_again_after_a_restart(digits: Labelled) -> None:
    watch = monitor(digits)
    curve = [{"step": 0, "loss": None, **watch(0, None, True)}]
    collapse(watch.encoder)
    for step in (10, 20, 30):
        curve.append({"step": step, "loss": 3.0, **watch(step, 3.0, False)})
    assert [("alarm" in row) for row in curve] == [False, False, False, True]
    assert f"step 30: {curve[-1]['alarm']}" == watch.collapse
    again = monitor(digits)
    again.replay(curve[:3], watch.seen)
    assert again.collapse is None
    again.encoder = watch.encoder
    again(30, 3.0, False)
    assert again.collapse == watch.collapse


def test_the_knn_is_measured_anew_where_more_images_have_a_label_than_before(digits: Labelled) -> None:
    images, labels = digits
    some = torch.where(torch.arange(len(labels)) % 2 == 0, labels, -1)
    watch = monitor((images, some))
    curve = [{"step": step, "loss": None, **watch(step, None, True)} for step in (0, 10)]
    whole = monitor(digits)
    expected = whole(0, None, True)["knn"]
    assert curve[0]["knn"] != expected
    again = monitor(digits)
    again.replay(curve, watch.seen)
    assert [row["knn"] for row in curve] == [expected, expected]


def test_of_many_looks_the_first_and_the_last_ones_are_kept(
    digits: Labelled, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = digits
    some = torch.where(torch.arange(len(labels)) % 2 == 0, labels, -1)
    watch = monitor((images, some))
    monkeypatch.setattr(health, "KEPT", 3 * 2 * len(images) * watch.encoder.features)  # three looks, in half
    curve = []
    for step in range(0, 60, 10):
        curve.append({"step": step, "loss": None, **watch(step, None, True)})
    assert sorted(watch.seen) == ["0", "40", "50", "labels"]
    again, before = monitor((images, some)), copy.deepcopy(curve)
    again.replay(curve, watch.seen)  # with the same labels nothing is lost
    assert curve == before
    assert capsys.readouterr().out == ""
    whole = monitor(digits)
    expected = whole(0, None, True)["knn"]
    whole.replay(curve, watch.seen)
    assert [row["knn"] for row in curve] == [expected, None, None, None, expected, expected]
    assert "for them are 3 of the 6 looks, whose features are no longer kept" in capsys.readouterr().out


def test_a_look_that_is_larger_than_what_is_kept_is_kept_with_the_first(
    digits: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "KEPT", 1)
    watch = monitor(digits)
    for step in (0, 10, 20):
        assert watch(step, None, True)["knn"] is not None
    assert sorted(watch.seen) == ["0", "20", "labels"]


def test_without_two_labels_there_is_no_knn(digits: Labelled) -> None:
    images, labels = digits
    watch = monitor((images, torch.full_like(labels, -1)))
    assert watch(0, None, True)["knn"] is None


def test_a_look_at_features_and_one_at_the_loss_do_not_add_up(digits: Labelled) -> None:
    watch = monitor(digits)
    watch.uninformative = 4.8
    watch(0, None, True)
    healthy = watch.encoder
    ill = copy.deepcopy(healthy)
    collapse(ill)
    for step, (encoder, loss) in enumerate([(ill, 3.0), (healthy, 4.8)] * PATIENCE):
        watch.encoder = encoder
        watch(step, loss, False)
    assert watch.collapse is None


def test_features_ill_at_an_epochs_end_are_an_alarm_at_once(digits: Labelled) -> None:
    watch = monitor(digits)
    watch(0, None, True)
    collapse(watch.encoder)
    watch(30, 3.0, True)
    assert watch.collapse is not None
    assert watch.collapse.startswith("step 30: ")


def test_a_loss_that_stands_still_is_said_a_loss_that_passes_is_not(digits: Labelled) -> None:
    watch = monitor(digits)
    watch.uninformative = math.log(127)
    near = 0.995 * math.log(127)
    watch(0, None, True)
    for step, loss in enumerate([near] * (PATIENCE - 1) + [4.0] + [near] * (PATIENCE - 1)):
        watch(step, loss, False)
    assert watch.collapse is None
    watch(99, near, False)
    assert watch.collapse is not None
    assert watch.collapse.startswith("step 99: the loss stays at 4.82")


def test_features_in_few_directions_are_an_alarm(digits: Labelled) -> None:
    watch = monitor(digits)
    watch(0, None, True)
    assert watch.untrained is not None
    spread, rank = watch.untrained
    watch._judge(5, spread, 0.5 * rank, None, True)
    assert watch.collapse is None
    watch._judge(6, spread, 0.1 * rank, None, True)
    assert watch.collapse is not None
    assert "effective rank" in watch.collapse
