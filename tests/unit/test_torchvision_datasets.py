"""torchvision's datasets, read by its own classes from files in its own layout."""

import errno
import hashlib
import os
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
from stages.settings import load, values
from stages.settings.data import Data
from stages.training.randomness import Stream
from tests.conftest import ROOT

STREAM = Stream.of(1, "prepare")
TRAIN, TEST, UNLABELLED = 60, 20, 100  # images
NAMES = ["airplane", "bird", "car"]


@pytest.fixture(autouse=True)
def _working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settings(source: str, **changes: Any) -> Data:
    defaults = load.validated(load.read(ROOT / load.PARAMS)).data
    return defaults.model_copy(update={"source": source, "path": "raw", "validation": 20, **changes})


@pytest.mark.parametrize("name", values.TORCHVISION)
def test_torchvision_has_the_dataset_and_its_options(name: str) -> None:
    init = getattr(torchvision.datasets, name).__init__
    for option in torchvision_datasets.options(name):
        (argument,) = option
        assert argument in init.__code__.co_varnames[: init.__code__.co_argcount]


def test_mnist_from_torchvision_equals_mnist(mnist: tuple[Source, Source], tmp_path: Path) -> None:
    raw = tmp_path / "raw" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for source, prefix in zip(mnist, ("train", "t10k"), strict=True):
        for content, kind, dimensions in ((source.images, "images", 3), (source.labels, "labels", 1)):
            shape = [len(content), 28, 28][:dimensions]
            sizes = b"".join(size.to_bytes(4, "big") for size in shape)
            content = bytes([0, 0, 8, dimensions]) + sizes + content.astype(np.uint8).tobytes()
            (raw / f"{prefix}-{kind}-idx{dimensions}-ubyte").write_bytes(content)
    train, test = torchvision_datasets.read("MNIST", tmp_path / "raw", 28, "auto")
    for source, expected in zip((train, test), mnist, strict=True):
        assert np.array_equal(source.images, expected.images)
        assert np.array_equal(source.labels, expected.labels)
    assert train.dataset == "torchvision/MNIST"
    assert train.classes[3] == "3 - three"


@pytest.fixture
def stl10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """A small STL-10 in its own format; torchvision's checksums are replaced by those of its files."""
    folder = tmp_path / "raw" / STL10.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    images, checksums = {}, {}
    for name, number in (("train", TRAIN), ("test", TEST), ("unlabeled", UNLABELLED)):
        images[name] = rng.integers(0, 256, (number, 3, 96, 96), dtype=np.uint8)
        # NOTE: STL-10 stores each channel in column-major order.
        files = {f"{name}_X.bin": images[name].transpose(0, 1, 3, 2).tobytes()}
        if name != "unlabeled":
            files[f"{name}_y.bin"] = (np.arange(number) % len(NAMES) + 1).astype(np.uint8).tobytes()
        if name == "train":
            files |= {STL10.class_names_file: "\n".join(NAMES).encode(), "fold_indices.txt": b"0 1 2\n"}
        for file, content in files.items():
            (folder / file).write_bytes(content)
            checksums[file] = hashlib.md5(content, usedforsecurity=False).hexdigest()
    for listing in ("train_list", "test_list"):
        changed = [[file, checksums[file]] for file, _ in getattr(STL10, listing)]
        monkeypatch.setattr(STL10, listing, changed)
    return images


def test_unlabelled_images_go_to_the_pool(stl10: dict[str, np.ndarray]) -> None:
    data = official.prepare(settings("torchvision/STL10", image_size=96), STREAM)
    assert data.classes == NAMES
    assert len(data.validation.rows) == 20
    assert (data.validation.labels != NO_LABEL).all()
    assert len(data.pool.rows) == TRAIN - 20 + UNLABELLED
    assert (data.pool.labels == NO_LABEL).sum() == UNLABELLED
    assert np.array_equal(data.test.images, stl10["test"])
    assert np.array_equal(data.pool.images, np.concatenate([stl10["train"], stl10["unlabeled"]]))
    # The labelled images keep the labels of the file.
    assert np.array_equal(data.pool.labels[:40], data.pool.rows[:40] % len(NAMES))


@pytest.mark.usefixtures("stl10")
def test_images_have_the_size_and_channels_of_the_parameters() -> None:
    for channels, expected in (("auto", 3), (1, 1)):
        data = settings("torchvision/STL10", image_size=32, channels=channels)
        assert official.prepare(data, STREAM).pool.images.shape[1:] == (expected, 32, 32)


@pytest.mark.usefixtures("stl10")
def test_too_few_labels_for_the_validation_split_are_an_error() -> None:
    with pytest.raises(InputError, match="allowed: less than 60, the number of labelled training images"):
        official.prepare(settings("torchvision/STL10", validation=60), STREAM)


def test_a_failed_download_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # nothing listens on this port
    with pytest.raises(InputError, match=r"raw: torchvision's CIFAR10 is missing, and downloading"):
        official.prepare(settings("torchvision/CIFAR10"), STREAM)


def test_an_image_that_cannot_be_decoded_is_an_error(tmp_path: Path) -> None:
    class Damaged(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            if index == 2:
                raise OSError("image file is truncated")
            return super().__getitem__(index)

    good = (Image.new("L", (9, 9)), 1)
    torchvision_datasets.DOWNLOADS.mkdir(parents=True)
    with pytest.raises(InputError, match=r"^prepare: X, train: image 2 cannot be decoded \(image file is"):
        torchvision_datasets.decode("prepare: X, train", [Damaged([good] * 4)], 9, 1)


def test_images_are_decoded_without_posix_fallocate(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS has no such function."""
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    torchvision_datasets.DOWNLOADS.mkdir(parents=True)
    images, labels = torchvision_datasets.decode("X", [[(Image.new("L", (9, 9), 7), 1)] * 3], 9, 1)
    assert np.array_equal(images, np.full((3, 1, 9, 9), 7, dtype=np.uint8))
    assert labels.tolist() == [1, 1, 1]


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="space is reserved only on Linux")
def test_a_full_disk_is_reported_before_images_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_arguments: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", failing)
    torchvision_datasets.DOWNLOADS.mkdir(parents=True)
    with pytest.raises(OSError, match=rf"No space left on device: '{torchvision_datasets.DOWNLOADS}'"):
        torchvision_datasets.decode("X", [[(Image.new("L", (9, 9)), 1)]], 9, 1)
