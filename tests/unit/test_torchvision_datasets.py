"""torchvision's datasets, read by its own classes from files as it lays them out."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from PIL import Image
from torchvision.datasets import STL10

from stages.errors import InputError
from stages.prepare import official, torchvision_datasets
from stages.prepare.mnist import Source
from stages.prepare.parts import NO_LABEL
from stages.settings import load, schema
from stages.settings.schema import Data
from stages.training.randomness import Stream
from tests.conftest import ROOT

STREAM = Stream.of(1, "prepare")
TRAIN, TEST, UNLABELLED = 60, 20, 100  # images
NAMES = ["airplane", "bird", "car"]


@pytest.fixture(autouse=True)
def _in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settings(source: str, **changes: Any) -> Data:
    usual = load.validated(load.read(ROOT / load.PARAMS)).data
    return usual.model_copy(update={"source": source, "path": "raw", "validation": 20, **changes})


@pytest.mark.parametrize("name", schema.TORCHVISION)
def test_torchvision_has_the_dataset_and_the_options(name: str) -> None:
    kind = getattr(torchvision.datasets, name)
    for option in torchvision_datasets.options(name):
        (argument,) = option
        assert argument in kind.__init__.__code__.co_varnames[: kind.__init__.__code__.co_argcount]


def test_mnist_by_torchvisions_name_is_mnist(mnist: tuple[Source, Source], tmp_path: Path) -> None:
    raw = tmp_path / "raw" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for source, prefix in zip(mnist, ("train", "t10k"), strict=True):
        for content, kind, head in ((source.images, "images", 3), (source.labels, "labels", 1)):
            shape = [len(content), 28, 28][: 3 if head == 3 else 1]
            sizes = b"".join(size.to_bytes(4, "big") for size in shape)
            content = bytes([0, 0, 8, head]) + sizes + content.astype(np.uint8).tobytes()
            (raw / f"{prefix}-{kind}-idx{head}-ubyte").write_bytes(content)
    train, test = torchvision_datasets.read("MNIST", tmp_path / "raw", 28, "auto")
    for found, expected in zip((train, test), mnist, strict=True):
        assert np.array_equal(found.images, expected.images)
        assert np.array_equal(found.labels, expected.labels)
    assert train.dataset == "torchvision/MNIST"
    assert train.classes[3] == "3 - three"


@pytest.fixture
def stl10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """A small STL-10 in its own format; what torchvision is told are its own files' checksums."""
    folder = tmp_path / "raw" / STL10.base_folder
    folder.mkdir(parents=True)
    generator = np.random.default_rng(1)
    images, sums = {}, {}
    for name, number in (("train", TRAIN), ("test", TEST), ("unlabeled", UNLABELLED)):
        images[name] = generator.integers(0, 256, (number, 3, 96, 96), dtype=np.uint8)
        # NOTE: its files hold each channel column by column.
        files = {f"{name}_X.bin": images[name].transpose(0, 1, 3, 2).tobytes()}
        if name != "unlabeled":
            files[f"{name}_y.bin"] = (np.arange(number) % len(NAMES) + 1).astype(np.uint8).tobytes()
        if name == "train":
            files |= {STL10.class_names_file: "\n".join(NAMES).encode(), "fold_indices.txt": b"0 1 2\n"}
        for file, content in files.items():
            (folder / file).write_bytes(content)
            sums[file] = hashlib.md5(content, usedforsecurity=False).hexdigest()
    for listing in ("train_list", "test_list"):
        changed = [[file, sums[file]] for file, _ in getattr(STL10, listing)]
        monkeypatch.setattr(STL10, listing, changed)
    return images


def test_a_split_without_labels_is_the_pools(stl10: dict[str, np.ndarray]) -> None:
    found = official.prepared(settings("torchvision/STL10", image_size=96), STREAM)
    assert found.classes == NAMES
    assert len(found.validation.rows) == 20
    assert (found.validation.labels != NO_LABEL).all()
    assert len(found.pool.rows) == TRAIN - 20 + UNLABELLED
    assert (found.pool.labels == NO_LABEL).sum() == UNLABELLED
    assert np.array_equal(found.test.images, stl10["test"])
    assert np.array_equal(found.pool.images, np.concatenate([stl10["train"], stl10["unlabeled"]]))
    # Each image has the label that its file gives it.
    assert np.array_equal(found.pool.labels[:40], found.pool.rows[:40] % len(NAMES))


@pytest.mark.usefixtures("stl10")
def test_images_are_resampled_to_what_params_yaml_says() -> None:
    for channels, expected in (("auto", 3), (1, 1)):
        data = settings("torchvision/STL10", image_size=32, channels=channels)
        assert official.prepared(data, STREAM).pool.images.shape[1:] == (expected, 32, 32)


@pytest.mark.usefixtures("stl10")
def test_more_validation_than_labels_is_refused() -> None:
    with pytest.raises(InputError, match="fewer than the 60 labelled images"):
        official.prepared(settings("torchvision/STL10", validation=60), STREAM)


def test_a_dataset_that_cannot_be_had_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # nothing answers there
    with pytest.raises(InputError, match=r"raw: torchvision's CIFAR10 is not here, and downloading"):
        official.prepared(settings("torchvision/CIFAR10"), STREAM)


def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    class Damaged(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            if index == 2:
                raise OSError("image file is truncated")
            return super().__getitem__(index)

    good = (Image.new("L", (9, 9)), 1)
    torchvision_datasets.DOWNLOADS.mkdir(parents=True)
    with pytest.raises(InputError, match=r"^prepare: X, train: image 2 cannot be decoded \(image file is"):
        torchvision_datasets.decoded("prepare: X, train", [Damaged([good] * 4)], 9, 1)
