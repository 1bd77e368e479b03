from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.images import thumbnails


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("count", "across"), [(1, 8), (8, 8), (9, 8), (20, 6)])
def test_tiles_of_a_sheet_equal_the_images(channels: int, count: int, across: int, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, channels, 28, 28), dtype=np.uint8)
    thumbnails.write(tmp_path / "sheet.png", thumbnails.sheet(images, across))
    with Image.open(tmp_path / "sheet.png") as sheet:
        tiles = thumbnails.tiles(sheet, count, across)
    assert len(tiles) == count
    for tile, image in zip(tiles, images, strict=True):
        pixels = np.asarray(tile)
        expected = image[0] if channels == 1 else image.transpose(1, 2, 0)
        assert np.array_equal(pixels, expected)


def test_large_images_are_resized() -> None:
    images = np.full((3, 3, 224, 224), 200, dtype=np.uint8)
    (first, *_) = thumbnails.tiles(thumbnails.sheet(images, 2), 3, 2)
    assert first.size == (thumbnails.MAX_SIDE, thumbnails.MAX_SIDE)
    assert (np.asarray(first) == 200).all()


def test_a_sheet_of_no_images_has_one_pixel() -> None:
    sheet = thumbnails.sheet(np.zeros((0, 1, 28, 28), dtype=np.uint8), 8)
    assert sheet.size == (1, 1)
    assert thumbnails.tiles(sheet, 0, 8) == []


def test_equal_images_give_equal_files(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (5, 1, 28, 28), dtype=np.uint8)
    for name in ("a.png", "b.png"):
        thumbnails.write(tmp_path / name, thumbnails.sheet(images, 3))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
