"""Finds image files in a folder and decodes them to the pixels that an encoder takes.

Training images and new images are decoded by the same rule: take the first frame, rotate it as its EXIF
orientation says, blend transparency onto white, reduce 16 bits to 8, crop the largest centred square and
resample it (bicubic, antialiased) to `size`. An image that already has this size keeps every pixel.
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
# A decompression bomb of a few bytes can claim more pixels than fit into memory.
MAX_PIXELS = 200_000_000
NO_UTF8 = "has a name that is not valid UTF-8"
CARRIAGE_RETURN = "has a carriage return in its name"  # a CSV table does not preserve it
Image.MAX_IMAGE_PIXELS = None  # Pillow's limit only warns; MAX_PIXELS raises an error that names the file


class ImageError(InputError):
    """An image file cannot be read.

    Attributes:
        reason: the message without the path.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


def list_images(folder: Path) -> tuple[list[str], dict[str, str]]:
    """List the image files in a folder and its subfolders.

    Hidden files and folders are ignored: macOS writes `._x.png` next to `x.png`.

    Returns:
        The paths of the images relative to the folder, with `/`, in a fixed order; and, by path, why a
        file or a subfolder cannot be read.
    """
    files: list[str] = []
    broken: dict[str, str] = {}

    def name_of(path: Path) -> str:
        name = path.relative_to(folder).as_posix()
        return name if is_utf8(path) else ascii(name)

    def unreadable(error: OSError) -> None:
        broken[name_of(Path(error.filename))] = error.strerror or str(error)

    # NOTE: links are followed, because DVC may check out images as links to its cache.
    for parent, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in [name for name in folders if _is_cycle(Path(parent, name), folder.resolve())]:
            folders.remove(name)
            broken[name_of(Path(parent, name))] = "is a link back into the same folder"
        for name in sorted(names):
            path = Path(parent, name)
            if path.suffix.lower() not in SUFFIXES or name.startswith("."):
                continue
            if not is_utf8(path):
                broken[name_of(path)] = NO_UTF8
            elif "\r" in name_of(path):
                broken[ascii(name_of(path))] = CARRIAGE_RETURN
            elif os.path.isfile(path):  # Path.is_file() raises if the parent folder is not searchable
                files.append(name_of(path))
            else:
                broken[name_of(path)] = "is a broken link" if os.path.islink(path) else "is not a file"
    return files, broken


def is_utf8(path: Path) -> bool:
    """Whether a path can be encoded as UTF-8, and so printed and written to a table."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_cycle(path: Path, folder: Path) -> bool:
    """Whether a link to a folder points into `folder` or to a parent of the link.

    Following it would list the same images again, without end if it points to a parent.
    """
    if not os.path.islink(path):
        return False
    target = path.resolve()
    parents = (folder, path.parent.resolve())
    return target.is_relative_to(folder) or any(parent.is_relative_to(target) for parent in parents)


def read(path: Path, size: int, channels: int) -> np.ndarray:
    """Decode an image file to uint8 (channels, size, size).

    Args:
        path: the image file.
        size: height and width in pixels.
        channels: 1 (luma) or 3 (RGB).

    Raises:
        ImageError: the file is missing, empty, not an image, damaged or too large.
    """
    with _open(path) as image:
        # JPEG can be decoded at a fraction of its size, which is many times faster. Twice the
        # requested size keeps the quality of the resampling.
        image.draft(None, (2 * size, 2 * size))
        return pixels(ImageOps.exif_transpose(image), size, channels)


def is_grey_file(path: Path) -> bool:
    """Whether the header of an image file says that its pixels are grey values.

    Raises:
        ImageError: as for `read`.
    """
    with _open(path) as image:
        return is_grey(image)


def is_grey(image: Image.Image) -> bool:
    """Whether the mode of an image stores grey values only."""
    return image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;")


def pixels(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """Convert an upright image to uint8 (channels, size, size).

    Raises:
        InputError: a pixel has more than 16 bits.
    """
    image = _to_eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB" if channels == 3 else "L")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    if side != size:
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    try:
        if path.stat().st_size == 0:
            raise InputError("is empty")
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"has {image.width:,} × {image.height:,} pixels; allowed: up to {MAX_PIXELS:,} in total"
                )
            yield image
    except Exception as error:  # a decoder may raise any exception for a damaged file
        raise ImageError(path, _reason(error)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return f"is not an image; allowed: {', '.join(FORMATS)}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"cannot be decoded ({' '.join(str(error).split()) or type(error).__name__})"


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Reduce 16-bit grey values to their upper 8 bits; return an image of any other mode unchanged."""
    if image.mode == "F":
        raise InputError("has floating-point pixels; allowed: 8 and 16 bits")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise InputError("has 32-bit pixels; allowed: 8 and 16 bits")
    return Image.fromarray((values.astype(np.uint32) >> 8).astype(np.uint8))
