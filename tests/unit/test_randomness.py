import math

import numpy as np
import pytest
import torch
from scipy import stats

from stages.training.randomness import LARGEST_WINDOW, Stream

STREAM = Stream.of(1, "test")
MANY = torch.arange(200_000)


def mix(x: int) -> int:
    """lowbias32 in Python integers, which cannot overflow."""
    x ^= x >> 16
    x = (x * 0x7FEB352D) % 2**32
    x ^= x >> 15
    x = (x * 0x846CA68B) % 2**32
    return x ^ (x >> 16)


def assert_equally_frequent(counts: np.ndarray) -> None:
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_equal_names_give_equal_numbers() -> None:
    again = Stream.of(1, "test")
    assert torch.equal(STREAM.uniform(MANY[:100], 5), again.uniform(MANY[:100], 5))
    assert torch.equal(STREAM.normal(MANY[:100], 5), again.normal(MANY[:100], 5))
    assert torch.equal(STREAM.permutation(100), again.permutation(100))


def test_names_are_not_concatenated() -> None:
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


@pytest.mark.parametrize(("kind", "count"), [("uniform", 7), ("normal", 7), ("normal", LARGEST_WINDOW + 1)])
def test_the_numbers_of_a_position_do_not_depend_on_the_other_positions(kind: str, count: int) -> None:
    of_all = getattr(STREAM, kind)(MANY[:64], count)
    assert of_all.shape == (64, count)
    assert torch.equal(getattr(STREAM, kind)(MANY[16:48], count), of_all[16:48])
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(getattr(STREAM, kind)(order, count), of_all[order])
    assert torch.equal(getattr(STREAM, kind)(MANY[63:64], count), of_all[63:])


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
    assert_equally_frequent(np.histogram(u, 1000, (0, 1))[0])
    low_bits = (u * 2**24).astype(np.int64) % 256
    assert_equally_frequent(np.bincount(low_bits, minlength=256))


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
        assert_equally_frequent(np.histogram2d(first, second, 16, [[0, 1], [0, 1]])[0])


def test_one_position_is_uniform_over_steps() -> None:
    u = np.concatenate([STREAM.at("step", step).uniform(MANY[:2], 1) for step in range(3000)])
    assert stats.kstest(u[:, 0], "uniform").pvalue > 1e-3


def test_normal_has_the_moments_of_the_normal() -> None:
    z = STREAM.normal(MANY[:2000], 100).double().numpy()
    assert z.shape == (2000, 100)
    # Windows of one table overlap sometimes, so the limits are wide.
    assert z.mean() == pytest.approx(0, abs=0.01)
    assert z.std() == pytest.approx(1, abs=0.01)
    assert stats.skew(z, axis=None) == pytest.approx(0, abs=0.03)
    assert stats.kurtosis(z, axis=None) == pytest.approx(0, abs=0.05)
    assert stats.kstest(z[:, 0], "norm").pvalue > 1e-3


def test_normals_of_different_images_are_uncorrelated() -> None:
    z = STREAM.normal(MANY[:60], 784).double().numpy()
    correlation = np.corrcoef(z) - np.eye(60)
    assert np.abs(correlation).max() < 0.2  # 5 σ of 1,770 pairs


def test_normal_uses_the_whole_table() -> None:
    z = STREAM.normal(MANY[:4000], 1)
    # Without a random offset all values would be equal.
    assert len(z.unique()) > 3900


def test_windows_of_the_table_have_random_signs() -> None:
    # Among so many draws some windows occur twice, some of them with both signs.
    windows = STREAM.normal(MANY[:20_000], 4)
    drawn = {tuple(row) for row in windows.tolist()}
    assert len(drawn) < 20_000
    assert any(tuple(row) in drawn for row in (-windows).tolist())


# --- normals of large images, which are drawn value by value

RGB_224, RGB_512 = 3 * 224**2, 3 * 512**2


@pytest.mark.parametrize("count", [LARGEST_WINDOW, LARGEST_WINDOW + 1, RGB_224, RGB_512])
def test_normals_of_any_image_size_have_mean_0_and_deviation_1(count: int) -> None:
    positions = torch.tensor([0, 1, 255])
    z = STREAM.normal(positions, count)
    assert z.shape == (3, count)
    assert z.dtype == torch.float32
    for row in z.double():
        assert row.mean().item() == pytest.approx(0, abs=4 / math.sqrt(count))  # 4 σ
        assert row.std().item() == pytest.approx(1, abs=4 / math.sqrt(2 * count))  # 4 σ
    assert torch.equal(z, Stream.of(1, "test").normal(positions, count))
    assert not torch.equal(z, STREAM.at("step", 1).normal(positions, count))


def test_normals_of_large_images_are_normal_and_uncorrelated() -> None:
    z = STREAM.normal(torch.tensor([0, 1, 2, 255]), RGB_512).double().numpy()
    limit = 4 / math.sqrt(RGB_512)  # 4 σ of a correlation
    assert np.abs(np.corrcoef(z) - np.eye(4)).max() < limit
    for distance in (1, 2, 512, 512**2):  # within one image; two neighbours share their random bits
        assert abs(np.corrcoef(z[0, :-distance], z[0, distance:])[0, 1]) < limit
    assert abs(np.corrcoef(z[0, ::2] ** 2, z[0, 1::2] ** 2)[0, 1]) < 2 * limit
    assert stats.skew(z, axis=None) == pytest.approx(0, abs=0.01)
    assert stats.kurtosis(z, axis=None) == pytest.approx(0, abs=0.02)
    assert stats.kstest(z[0, :50_000], "norm").pvalue > 1e-3
    assert 4.5 < np.abs(z).max() < 4.9


def test_no_two_positions_share_a_run_of_normals_at_224_pixels() -> None:
    # Two windows of one table would: at some offset, with equal or opposite signs.
    run = 4
    bits = STREAM.normal(MANY[:8], RGB_224).abs().numpy().view(np.int32).astype(np.int64)
    hashes = np.zeros_like(bits[:, run - 1 :])
    for start in range(run):
        hashes = hashes * 1_000_003 + bits[:, start : bits.shape[1] - run + 1 + start]
    assert len(np.unique(hashes)) == hashes.size


def test_permutation_holds_every_number_once() -> None:
    assert STREAM.permutation(1000).sort().values.tolist() == list(range(1000))
    assert STREAM.permutation(0).tolist() == []


def test_every_number_is_equally_likely_at_every_position_of_a_permutation() -> None:
    orders = torch.stack([STREAM.at(i).permutation(5) for i in range(2000)])
    for position in range(5):
        assert_equally_frequent(np.bincount(orders[:, position], minlength=5))


def test_nothing_depends_on_torchs_global_state() -> None:
    torch.manual_seed(1)
    first = (STREAM.permutation(9).tolist(), STREAM.uniform(MANY[:9], 1).tolist())
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert first == (STREAM.permutation(9).tolist(), STREAM.uniform(MANY[:9], 1).tolist())
    assert torch.equal(torch.get_rng_state(), state)
