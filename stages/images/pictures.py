"""Image files of the common formats, found in a folder and turned into the pixels that an encoder takes.

The rule, the same for training images and for new ones: the first frame, turned upright as its EXIF
tag says, transparency on white, 16 bits cut to 8; the largest square in the middle, resampled (bicubic,
antialiased) to `size`. An image that has that size already keeps every pixel.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from stages.errors import InputError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
MAX_PIXELS = 200_000_000  # as decoded; a file of a few bytes can claim more than the memory holds
NO_UTF8 = "has a name that is no valid UTF-8"
RETURN = "has a carriage return in its name"  # which no table keeps
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit warns first: ours refuses, by name


class ImageError(InputError):
    """An image file that cannot be read, and the reason without the file's name."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


def listed(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The image files below a folder, with `/`; and why others, or whole folders, cannot be read.

    Names that begin with a dot are passed over: `._x.png` is what macOS puts beside `x.png`.
    """
    files: list[str] = []
    broken: dict[str, str] = {}

    def name_of(path: Path) -> str:
        name = path.relative_to(folder).as_posix()
        return name if is_utf8(path) else ascii(name)

    def unreadable(error: OSError) -> None:
        broken[name_of(Path(error.filename))] = error.strerror or str(error)

    # NOTE: links are followed, for DVC may put links to its cache here.
    for place, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in [name for name in folders if _leads_back(Path(place, name), folder.resolve())]:
            folders.remove(name)
            broken[name_of(Path(place, name))] = "is a link back into the same folder"
        for name in sorted(names):
            path = Path(place, name)
            if path.suffix.lower() not in SUFFIXES or name.startswith("."):
                continue
            if not is_utf8(path):
                broken[name_of(path)] = NO_UTF8
            elif "\r" in name_of(path):
                broken[ascii(name_of(path))] = RETURN
            elif os.path.isfile(path):  # Path.is_file() raises where a folder may not be searched
                files.append(name_of(path))
            else:
                broken[name_of(path)] = "is a link to nothing" if os.path.islink(path) else "is no file"
    return files, broken


def is_utf8(path: Path) -> bool:
    """Whether a name can be printed and written into a table."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _leads_back(path: Path, folder: Path) -> bool:
    """Whether a link would show the folder's images, or those of the one it is in, once more and for ever."""
    if not os.path.islink(path):
        return False
    target = path.resolve()
    around = (folder, path.parent.resolve())
    return target.is_relative_to(folder) or any(place.is_relative_to(target) for place in around)


def read(path: Path, size: int, channels: int) -> np.ndarray:
    """An image file as uint8 (channels, size, size).

    Args:
        size: pixels of each side.
        channels: 1 (luma) or 3 (RGB).

    Raises:
        ImageError: the file is missing, empty, no image, damaged or too large.
    """
    with _opened(path) as image:
        # A JPEG can be decoded at a fraction of its size, which is many times faster; twice the
        # size that is wanted leaves the resampling something to do.
        image.draft(None, (2 * size, 2 * size))
        return pixels(ImageOps.exif_transpose(image), size, channels)


def is_grey(path: Path) -> bool:
    """Whether an image file is stored without colours, by its header (errors as above)."""
    with _opened(path) as image:
        return has_no_colours(image)


def has_no_colours(image: Image.Image) -> bool:
    """Whether its pixels are stored as grey values."""
    return image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;")


def pixels(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """An upright image as uint8 (channels, size, size); InputError: more than 16 bits."""
    image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB" if channels == 3 else "L")
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    image = image.crop((left, top, left + short, top + short))
    if short != size:
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        if path.stat().st_size == 0:
            raise InputError("is empty")
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"has {image.width:,} × {image.height:,} pixels; allowed: {MAX_PIXELS:,} in all"
                )
            yield image
    except Exception as error:  # a decoder may raise anything for a damaged file
        raise ImageError(path, _reason(error)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return f"is no image; allowed: {', '.join(FORMATS)}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"cannot be decoded ({' '.join(str(error).split()) or type(error).__name__})"


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey values of 16 bits by their upper eight; other modes as they are."""
    if image.mode == "F":
        raise InputError("has floating-point pixels; allowed: 8 and 16 bits")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise InputError("has pixels of 32 bits; allowed: 8 and 16 bits")
    return Image.fromarray((values.astype(np.uint32) >> 8).astype(np.uint8))
