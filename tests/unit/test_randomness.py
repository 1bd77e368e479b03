import numpy as np
import pytest
import torch
from scipy import stats

from stages.training.randomness import NOISE_TABLE, Stream

STREAM = Stream.of(1, "test")
MANY = torch.arange(200_000)


def mix(x: int) -> int:
    """lowbias32 in Python's own integers, which cannot overflow."""
    x ^= x >> 16
    x = (x * 0x7FEB352D) % 2**32
    x ^= x >> 15
    x = (x * 0x846CA68B) % 2**32
    return x ^ (x >> 16)


def assert_even(counts: np.ndarray) -> None:
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_equal_names_give_equal_numbers() -> None:
    again = Stream.of(1, "test")
    assert torch.equal(STREAM.uniform(MANY[:100], 5), again.uniform(MANY[:100], 5))
    assert torch.equal(STREAM.normal(MANY[:100], 5), again.normal(MANY[:100], 5))
    assert torch.equal(STREAM.permutation(100), again.permutation(100))


def test_names_are_not_glued_together() -> None:
    streams = [
        STREAM.at("a", "b"), STREAM.at("ab"), STREAM.at("b", "a"), STREAM.at("a"), STREAM.at("a", ""),
        STREAM.at(1), STREAM.at("1"), STREAM.at(1, 1), STREAM.at(11), STREAM,
        Stream.of(2, "test"), Stream.of(1, "tests"),
    ]  # fmt: skip
    assert len({stream.key for stream in streams}) == len(streams)


def test_keys_use_all_64_bits() -> None:
    keys = [STREAM.at("step", step).key for step in range(200)]
    assert all(0 <= key < 2**64 for key in keys)
    for bit in range(64):
        assert 50 < sum(key >> bit & 1 for key in keys) < 150


@pytest.mark.parametrize("stream", [Stream(0), Stream(2**64 - 1), STREAM])
def test_uniform_is_the_published_mixer_without_overflow(stream: Stream) -> None:
    positions = torch.tensor([0, 1, 7, 12_345, 2**30])
    low, high = stream.key % 2**32, stream.key >> 32
    expected = [
        [(mix(mix(((position * 3 + column) ^ low) % 2**32) ^ high) >> 8) / 2**24 for column in range(3)]
        for position in positions.tolist()
    ]
    assert stream.uniform(positions, 3).tolist() == expected


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_a_part_of_the_batch_draws_its_part_of_the_numbers(kind: str) -> None:
    whole = getattr(STREAM, kind)(MANY[:64], 7)
    assert torch.equal(getattr(STREAM, kind)(MANY[16:48], 7), whole[16:48])
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(getattr(STREAM, kind)(order, 7), whole[order])
    assert torch.equal(getattr(STREAM, kind)(MANY[63:64], 7), whole[63:])


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_another_seed_purpose_step_or_position_draws_other_numbers(kind: str) -> None:
    drawn = getattr(STREAM.at("step", 3), kind)(MANY[:500], 1)
    others = [
        getattr(Stream.of(2, "test").at("step", 3), kind)(MANY[:500], 1),
        getattr(STREAM.at("order", 3), kind)(MANY[:500], 1),
        getattr(STREAM.at("step", 4), kind)(MANY[:500], 1),
        getattr(STREAM.at("step", 3), kind)(MANY[500:1000], 1),
    ]
    for other in others:
        assert (drawn == other).float().mean() < 0.01
        assert abs(np.corrcoef(drawn[:, 0], other[:, 0])[0, 1]) < 0.15  # 3 σ is 0.13


def test_uniform_has_the_moments_and_range_of_the_uniform() -> None:
    u = STREAM.uniform(MANY, 2).double()
    assert u.shape == (len(MANY), 2)
    assert 0 <= u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1
    assert u.mean().item() == pytest.approx(1 / 2, abs=0.002)
    assert u.var().item() == pytest.approx(1 / 12, abs=0.001)


def test_uniform_is_uniform() -> None:
    u = STREAM.uniform(MANY, 1)[:, 0].numpy()
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    assert_even(np.histogram(u, 1000, (0, 1))[0])
    low_bits = (u * 2**24).astype(np.int64) % 256
    assert_even(np.bincount(low_bits, minlength=256))


def test_neighbours_are_independent() -> None:
    u = STREAM.uniform(MANY, 2).numpy()
    following = STREAM.at("step", 1).uniform(MANY, 2).numpy()
    before = STREAM.at("step", 0).uniform(MANY, 2).numpy()
    pairs = {
        "positions": (u[:-1, 0], u[1:, 0]),
        "every other position": (u[:-2, 0], u[2:, 0]),
        "columns": (u[:, 0], u[:, 1]),
        "steps": (before[:, 0], following[:, 0]),
    }
    for first, second in pairs.values():
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.008  # 3.5 σ
        assert_even(np.histogram2d(first, second, 16, [[0, 1], [0, 1]])[0])


def test_one_position_is_uniform_over_steps() -> None:
    u = np.concatenate([STREAM.at("step", step).uniform(MANY[:2], 1) for step in range(3000)])
    assert stats.kstest(u[:, 0], "uniform").pvalue > 1e-3


def test_normal_has_the_moments_of_the_normal() -> None:
    z = STREAM.normal(MANY[:2000], 100).double().numpy()
    assert z.shape == (2000, 100)
    # Windows of one table overlap now and then, so the limits are wide.
    assert z.mean() == pytest.approx(0, abs=0.01)
    assert z.std() == pytest.approx(1, abs=0.01)
    assert stats.skew(z, axis=None) == pytest.approx(0, abs=0.03)
    assert stats.kurtosis(z, axis=None) == pytest.approx(0, abs=0.05)
    assert stats.kstest(z[:, 0], "norm").pvalue > 1e-3


def test_normals_of_different_images_are_uncorrelated() -> None:
    z = STREAM.normal(MANY[:60], 784).double().numpy()
    correlation = np.corrcoef(z) - np.eye(60)
    assert np.abs(correlation).max() < 0.2  # 5 σ of 1,770 pairs


def test_normal_takes_either_sign_and_the_whole_table() -> None:
    z = STREAM.normal(MANY[:4000], 1)
    # Without the random sign and offset a single image's value would be one constant.
    assert len(z.unique()) > 3900
    with pytest.raises(ValueError, match=str(NOISE_TABLE)):
        STREAM.normal(MANY[:1], NOISE_TABLE)


def test_normal_flips_windows_of_the_table() -> None:
    # Among so many draws some windows come twice; with a random sign, some of these with both signs.
    windows = STREAM.normal(MANY[:20_000], 4)
    seen = {tuple(row) for row in windows.tolist()}
    assert len(seen) < 20_000
    assert any(tuple(row) in seen for row in (-windows).tolist())


def test_permutation_holds_every_number_once() -> None:
    assert STREAM.permutation(1000).sort().values.tolist() == list(range(1000))
    assert STREAM.permutation(0).tolist() == []


def test_every_place_of_a_permutation_is_equally_likely() -> None:
    orders = torch.stack([STREAM.at(i).permutation(5) for i in range(2000)])
    for place in range(5):
        assert_even(np.bincount(orders[:, place], minlength=5))


def test_nothing_depends_on_torchs_global_state() -> None:
    torch.manual_seed(1)
    first = (STREAM.permutation(9).tolist(), STREAM.uniform(MANY[:9], 1).tolist())
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert first == (STREAM.permutation(9).tolist(), STREAM.uniform(MANY[:9], 1).tolist())
    assert torch.equal(torch.get_rng_state(), state)
