"""Small pictures of images, side by side in one sheet."""

from pathlib import Path

import numpy as np
from PIL import Image

from stages.files.whole import whole_file

LARGEST = 64  # pixels of a tile's side; smaller images keep theirs
GAP, BETWEEN = 2, 128  # pixels between tiles, and their shade


def sheet(images: np.ndarray, across: int) -> Image.Image:
    """Images, uint8 (n, C, H, W) with 1 or 3 channels, in rows of `across`; without any, one pixel."""
    if not len(images):
        return Image.new("L", (1, 1), BETWEEN)
    side = min(images.shape[-1], LARGEST)
    mode = "RGB" if images.shape[1] == 3 else "L"
    step, columns = side + GAP, min(across, len(images))
    rows = -(-len(images) // across)
    size = (columns * step + GAP, rows * step + GAP)
    whole = Image.new(mode, size, (BETWEEN,) * 3 if mode == "RGB" else BETWEEN)
    for number, image in enumerate(images):
        pixels = image.transpose(1, 2, 0) if mode == "RGB" else image[0]
        tile = Image.fromarray(np.ascontiguousarray(pixels))
        if tile.size != (side, side):
            tile = tile.resize((side, side), Image.Resampling.BICUBIC)
        whole.paste(tile, (GAP + number % across * step, GAP + number // across * step))
    return whole


def tiles(whole: Image.Image, count: int, across: int) -> list[Image.Image]:
    """The first `count` tiles of a sheet in rows of `across`."""
    columns = min(across, count)
    side = (whole.width - GAP) // max(columns, 1) - GAP
    corners = [
        (GAP + number % across * (side + GAP), GAP + number // across * (side + GAP))
        for number in range(count)
    ]
    return [whole.crop((x, y, x + side, y + side)) for x, y in corners]


def write(path: Path, picture: Image.Image) -> None:
    """Write a picture as PNG."""
    with whole_file(path) as temporary:
        picture.save(temporary, format="PNG", optimize=True)
