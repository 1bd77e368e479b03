"""Writes small folders of image files, in all formats and several sizes, for tests of `source: folder`."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"circle": (220, 60, 40), "square": (40, 160, 70), "triangle": (60, 80, 210)}
FORMATS = (  # suffix and mode
    ("png", "RGB"),
    ("jpg", "RGB"),
    ("webp", "RGB"),
    ("bmp", "RGB"),
    ("tif", "RGB"),
    ("gif", "P"),
    ("png", "RGBA"),
)


def picture(shape: str, number: int) -> Image.Image:
    """A shape on noise; its position, size and colour and the size of the picture depend on the number."""
    rng = np.random.default_rng([number, *shape.encode()])
    width, height = (int(side) for side in rng.integers(36, 80, 2))
    image = Image.fromarray(rng.integers(90, 255, (height, width, 3), dtype=np.uint8))
    radius = int(rng.integers(9, 16))
    x, y = width // 2 + int(rng.integers(-3, 4)), height // 2 + int(rng.integers(-3, 4))
    colour = tuple(int(np.clip(c + rng.integers(-40, 40), 0, 255)) for c in COLOURS[shape])
    draw = ImageDraw.Draw(image)
    if shape == "triangle":
        draw.regular_polygon((x, y, radius), 3, fill=colour)
    elif shape == "square":
        draw.rectangle((x - radius, y - radius, x + radius, y + radius), fill=colour)
    else:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return image


def write_shapes(folder: Path, each: int, unlabelled: int = 0) -> list[Path]:
    """Write pictures per class: `each` to class folders, `unlabelled` to `unlabeled`; return the files."""
    files = []
    for shape in COLOURS:
        for number in range(each + unlabelled):
            suffix, mode = FORMATS[number % len(FORMATS)]
            parent = shape if number < each else "unlabeled"
            path = folder / parent / f"{shape[0]}{number:04d}é.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(shape, number).convert(mode).save(path)
            files.append(path)
    return files


def write_bomb(path: Path, side: int = 60_000, bits: int = 1, colours: int = 0) -> None:
    """A PNG of a few hundred bytes whose header claims side × side pixels.

    Args:
        bits: of each channel.
        colours: the type of the pixels in PNG: 0 is grey, 2 RGB, 6 RGBA.
    """
    path.write_bytes(bomb(side, bits, colours))


def bomb(side: int, bits: int, colours: int) -> bytes:
    """The content of such a PNG."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", side, side, bits, colours, 0, 0, 0)
    rows = zlib.compress(bytes(100_000))
    png = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png
