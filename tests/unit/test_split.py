import numpy as np
import torch

from stages.prepare.columns import Picture, Pictures
from stages.prepare.split import STRICTNESS, Images, held_out, limited, together
from stages.training.randomness import Stream

STREAM = Stream.of(1, "split")


def test_without_a_limit_every_image_is_used() -> None:
    for limit in (None, 100, 500):
        assert limited(100, limit, STREAM).tolist() == list(range(100))


def test_a_limit_takes_random_images_in_ascending_order() -> None:
    rows = limited(1000, 200, STREAM)
    assert len(set(rows.tolist())) == 200
    assert (np.diff(rows) > 0).all()
    assert 400 < rows.mean() < 600
    assert rows.min() >= 0
    assert rows.max() < 1000
    assert rows.tolist() != limited(1000, 200, Stream.of(2, "split")).tolist()


def test_pool_and_validation_are_all_images_once() -> None:
    indices = np.arange(0, 3000, 3)  # the images that a limit left, not 0, 1, 2 …
    pool, validation = held_out(indices, 100, STREAM)
    assert (len(pool), len(validation)) == (900, 100)
    assert sorted([*pool, *validation]) == indices.tolist()
    assert (np.diff(pool) > 0).all()
    assert (np.diff(validation) > 0).all()
    assert 1000 < validation.mean() < 2000


def test_split_depends_on_the_stream_alone() -> None:
    indices = np.arange(500)
    first = held_out(indices, 50, STREAM)[1].tolist()
    torch.manual_seed(3)
    assert held_out(indices, 50, Stream.of(1, "split"))[1].tolist() == first
    assert held_out(indices, 50, Stream.of(2, "split"))[1].tolist() != first
    assert indices.tolist() == list(range(500))


def test_a_copy_in_another_group_brings_its_whole_group_along() -> None:
    said = [
        ("a", "anna", "pool"), ("b", "anna", "pool"), ("a", "ben", "test"), ("c", "ben", "test"),
        ("b", "cleo", "validation"), ("d", "cleo", "validation"), ("d", None, "pool"),
        ("e", "dora", "pool"), ("f", None, "validation"), ("f", "emil", "pool"), ("g", "emil", "pool"),
    ]  # fmt: skip
    images = Images(
        Pictures.of(Picture(f"{number}.png", group=group) for number, (_, group, _) in enumerate(said)),
        np.array([list(content.encode() * 32) for content, *_ in said], dtype=np.uint8),
        np.arange(len(said)),
        np.array([STRICTNESS.index(name) for *_, name in said], dtype=np.int8),
    )
    found = together(images)
    assert [STRICTNESS[s] for s in found.splits] == ["test"] * 7 + ["pool"] + ["validation"] * 3
    assert list(found.pictures) == list(images.pictures)
    assert np.array_equal(together(found).splits, found.splits)
