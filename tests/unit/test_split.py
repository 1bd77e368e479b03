import numpy as np
import torch

from stages.prepare.columns import Record, Records
from stages.prepare.split import STRICTNESS, Images, hold_out, subsample, unite_splits
from stages.training.randomness import Stream

STREAM = Stream.of(1, "split")


def test_without_a_limit_every_image_is_used() -> None:
    for limit in (None, 100, 500):
        assert subsample(100, limit, STREAM).tolist() == list(range(100))


def test_a_limit_draws_random_images_in_ascending_order() -> None:
    rows = subsample(1000, 200, STREAM)
    assert len(set(rows.tolist())) == 200
    assert (np.diff(rows) > 0).all()
    assert 400 < rows.mean() < 600
    assert rows.min() >= 0
    assert rows.max() < 1000
    assert rows.tolist() != subsample(1000, 200, Stream.of(2, "split")).tolist()


def test_every_image_is_in_pool_or_validation() -> None:
    indices = np.arange(0, 3000, 3)  # after a limit the indices are not 0, 1, 2 …
    pool, validation = hold_out(indices, 100, STREAM)
    assert (len(pool), len(validation)) == (900, 100)
    assert sorted([*pool, *validation]) == indices.tolist()
    assert (np.diff(pool) > 0).all()
    assert (np.diff(validation) > 0).all()
    assert 1000 < validation.mean() < 2000


def test_split_depends_only_on_the_stream() -> None:
    indices = np.arange(500)
    first = hold_out(indices, 50, STREAM)[1].tolist()
    torch.manual_seed(3)
    assert hold_out(indices, 50, Stream.of(1, "split"))[1].tolist() == first
    assert hold_out(indices, 50, Stream.of(2, "split"))[1].tolist() != first
    assert indices.tolist() == list(range(500))


def test_copies_unite_the_splits_of_their_groups() -> None:
    rows = [
        ("a", "anna", "pool"), ("b", "anna", "pool"), ("a", "ben", "test"), ("c", "ben", "test"),
        ("b", "cleo", "validation"), ("d", "cleo", "validation"), ("d", None, "pool"),
        ("e", "dora", "pool"), ("f", None, "validation"), ("f", "emil", "pool"), ("g", "emil", "pool"),
    ]  # fmt: skip
    images = Images(
        Records.of(Record(f"{number}.png", group=group) for number, (_, group, _) in enumerate(rows)),
        np.zeros((len(rows), 32), dtype=np.uint8),  # bytes of files do not matter
        np.array([list(content.encode() * 32) for content, *_ in rows], dtype=np.uint8),
        np.arange(len(rows)),
        np.array([STRICTNESS.index(name) for *_, name in rows], dtype=np.int8),
    )
    united = unite_splits(images)
    assert [STRICTNESS[s] for s in united.splits] == ["test"] * 7 + ["pool"] + ["validation"] * 3
    assert list(united.records) == list(images.records)
    assert np.array_equal(unite_splits(united).splits, united.splits)
