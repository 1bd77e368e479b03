"""Contact sheets: thumbnails of many images in one picture."""

from pathlib import Path

import numpy as np
from PIL import Image

from stages.files.whole import whole_file

MAX_SIDE = 64  # pixels of a tile, if nothing else is said
GAP, BACKGROUND = 2, 128  # pixels between tiles, and their grey value
# The sheet of mistakes, which evaluate writes and compare reads: tiles in a row, and their largest side.
MISTAKES_ACROSS, MISTAKES_SIDE = 8, 96


def sheet(images: np.ndarray, across: int, largest: int = MAX_SIDE) -> Image.Image:
    """Arrange images in rows on one sheet.

    Args:
        images: uint8 (n, C, H, W), with 1 or 3 channels; if n is 0, the sheet has one pixel.
        across: images in a row.
        largest: side of a tile; larger images are resized to it.
    """
    if not len(images):
        return Image.new("L", (1, 1), BACKGROUND)
    side = min(images.shape[-1], largest)
    mode = "RGB" if images.shape[1] == 3 else "L"
    step, columns = side + GAP, min(across, len(images))
    rows = -(-len(images) // across)
    size = (columns * step + GAP, rows * step + GAP)
    picture = Image.new(mode, size, (BACKGROUND,) * 3 if mode == "RGB" else BACKGROUND)
    for number, image in enumerate(images):
        pixels = image.transpose(1, 2, 0) if mode == "RGB" else image[0]
        tile = Image.fromarray(np.ascontiguousarray(pixels))
        if tile.size != (side, side):
            tile = tile.resize((side, side), Image.Resampling.BICUBIC)
        picture.paste(tile, (GAP + number % across * step, GAP + number // across * step))
    return picture


def fits(picture: Image.Image, count: int, across: int) -> bool:
    """Whether a picture is a sheet of so many images in rows of `across`."""
    if not count:
        return picture.size == (1, 1)
    columns, rows = min(across, count), -(-count // across)
    step = (picture.width - GAP) // columns
    return step > GAP and picture.size == (columns * step + GAP, rows * step + GAP)


def tiles(picture: Image.Image, count: int, across: int) -> list[Image.Image]:
    """Cut the first `count` images out of a sheet with rows of `across` images."""
    columns = min(across, count)
    side = (picture.width - GAP) // max(columns, 1) - GAP
    corners = [
        (GAP + number % across * (side + GAP), GAP + number // across * (side + GAP))
        for number in range(count)
    ]
    return [picture.crop((x, y, x + side, y + side)) for x, y in corners]


def write(path: Path, picture: Image.Image) -> None:
    """Write a picture as PNG."""
    with whole_file(path) as temporary:
        picture.save(temporary, format="PNG", optimize=True)
