"""Drawings as JPEGs of 1,000 × 800 pixels in class folders, from a Debian package."""

import itertools
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.folders.packages import debian

ROOT = PurePosixPath("usr/share/openclipart/png")
CLASSES = (
    "animals", "computer", "food", "people", "recreation", "shapes", "signs_and_symbols", "transportation",
)  # fmt: skip
EACH = 250  # drawings of a class
WIDTH, HEIGHT = 1000, 800
SMALLEST, LARGEST = 16, 4000  # sides of a drawing, in pixels
PACKAGES = [
    debian(
        "openclipart-png",
        "1:0.18+dfsg-19",
        "f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02",
    )
]


def write(packages: Sequence[Path], folder: Path) -> pd.DataFrame:
    """Write equally many drawings of each class, taken at random; returns file and label of each."""
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such drawings are too large anyway
        extract = ["dpkg-deb", "--extract", str(packages[0]), temporary]
        subprocess.run(extract, check=True)  # noqa: S603 (no shell)
        for name in CLASSES:
            source = Path(temporary) / ROOT / name
            drawings = sorted(source.rglob("*.png"))
            order = np.random.default_rng(0).permutation(len(drawings))
            (folder / name).mkdir()
            for drawing, picture in itertools.islice(pages([drawings[i] for i in order]), EACH):
                file = "-".join(drawing.relative_to(source).with_suffix(".jpg").parts)
                picture.save(folder / name / file, quality=92)
    rows = [
        {"file": file.relative_to(folder).as_posix(), "label": file.parent.name}
        for file in folder.rglob("*.jpg")
    ]
    return pd.DataFrame(rows)


def pages(drawings: Sequence[Path]) -> Iterator[tuple[Path, Image.Image]]:
    """Each drawing that is whole, not tiny and not huge, on a page."""
    for drawing in drawings:
        try:
            with Image.open(drawing) as file:
                if min(file.size) >= SMALLEST and max(file.size) <= LARGEST:
                    yield drawing, page(file.convert("RGBA"))
        except (OSError, SyntaxError):  # Pillow's errors of a damaged PNG
            continue


def page(picture: Image.Image) -> Image.Image:
    """A drawing in the middle of a white page, as large as it fits."""
    scale = min(WIDTH / picture.width, HEIGHT / picture.height)
    size = max(1, int(picture.width * scale)), max(1, int(picture.height * scale))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    white = Image.new("RGB", (WIDTH, HEIGHT), "white")
    white.paste(picture, ((WIDTH - picture.width) // 2, (HEIGHT - picture.height) // 2), picture)
    return white
