"""Decodes image files to the pixels that an encoder takes.

Training images and new images are decoded by the same rule: take the first frame, rotate it as its EXIF
orientation says, reduce grey values to 8 bits, blend transparency onto the folder's ground (`tones.py`), crop
the largest centred square and resample it (bicubic, antialiased) to `size`. An image that already has this
size keeps every pixel.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from stages.errors import InputError
from stages.images import memory, squares, tones
from stages.images.icons import is_icon, require_small
from stages.images.listing import FORMATS
from stages.networks.pixel_rule import Decoding

# A decompression bomb of a few bytes can claim more pixels than fit into memory.
MAX_PIXELS = 200_000_000
MAX_SIDE = 100_000  # pixels; resampling takes memory for each pixel of a side, however small the other one is
Image.MAX_IMAGE_PIXELS = None  # Pillow's limit only warns; MAX_PIXELS raises an error that names the file
LARGE = 16_000_000  # pixels; larger images are reduced before they are converted
# Images are compared at a resolution of their own: what counts as a copy does not depend on `size`.
COMPARED = 128  # pixels; JPEG and large images are decoded at a scale at which both sides are at least this
THUMBNAIL = 24  # pixels of each side; small enough that another quality of JPEG hardly matters
CONTENT = 16  # bytes
PLAIN = Decoding()


class ImageError(InputError):
    """An image file cannot be read.

    Attributes:
        reason: the message without the path.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class Header:
    """What the header of an image file says.

    Attributes:
        grey: its pixels are grey values.
        deep: the type of its grey values if they have more than 8 bits; "colours" if its colours have.
        transparent: it can have transparent pixels.
    """

    grey: bool
    deep: str | None
    transparent: bool


@dataclass(frozen=True)
class Decoded:
    """A decoded image.

    Attributes:
        pixels: uint8 (channels, size, size).
        thumbnail: the whole picture, uint8 (3, THUMBNAIL, THUMBNAIL); it does not depend on `size`.
        content: a hash of its pixels, uint8 (CONTENT,); images of one colour are equal at any size.
    """

    pixels: np.ndarray
    thumbnail: np.ndarray
    content: np.ndarray


def read(path: Path, size: int, channels: int, decoding: Decoding = PLAIN) -> np.ndarray:
    """Decode an image file to uint8 (channels, size, size).

    Args:
        path: the image file.
        size: height and width in pixels.
        channels: 1 (luma) or 3 (RGB).
        decoding: the rule for deep grey values and transparency.

    Raises:
        ImageError: the file is missing, empty, not an image, damaged or too large.
    """
    with opened(path) as image:
        return _square(_at_scale(image, _scale(size), decoding), size, channels, decoding)


def decode(path: Path, size: int, channels: int, decoding: Decoding = PLAIN) -> Decoded:
    """Decode an image file to the pixels that `read` gives, and to what it is compared with others by.

    Raises:
        ImageError: as for `read`.
    """
    with opened(path) as image:
        again = _reduction(image, _scale(size)) != _reduction(image, COMPARED)
        scaled = _at_scale(image, _scale(size), decoding)
        pixels = _square(scaled, size, channels, decoding)
    if again:
        with opened(path) as image:
            scaled = _at_scale(image, COMPARED, decoding)
    scaled = scaled if scaled.mode == "RGB" else scaled.convert("RGB")
    thumbnail = np.asarray(scaled.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC))
    return Decoded(pixels, thumbnail.transpose(2, 0, 1), _content(scaled))


def read_header(path: Path) -> Header:
    """What the header of an image file says about its pixels.

    Raises:
        ImageError: as for `read`.
    """
    with opened(path) as image:
        deep = "colours" if tones.has_deep_colours(image) else tones.deep_type(image)
        return Header(is_grey(image), deep, image.has_transparency_data)


def is_grey(image: Image.Image) -> bool:
    """Whether the mode of an image stores grey values only."""
    return image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;")


def pixels(image: Image.Image, size: int, channels: int, decoding: Decoding = PLAIN) -> np.ndarray:
    """Convert an upright image to uint8 (channels, size, size).

    Raises:
        InputError: its grey values do not fit the rule.
    """
    return _square(_converted(image, _scale(size), decoding), size, channels, decoding)


def _square(image: Image.Image, size: int, channels: int, decoding: Decoding) -> np.ndarray:
    """An 8-bit image without transparency as uint8 (channels, size, size)."""
    image = squares.square(image.convert("RGB" if channels == 3 else "L"), size, decoding.fit)
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)


def _scale(size: int) -> int:
    """The sides that an image must at least have if it is decoded at a reduced scale.

    Twice the requested size keeps the quality of the resampling.
    """
    return max(2 * size, COMPARED)


def _reduction(image: Image.Image, side: int) -> int:
    """The factor by which an opened image is reduced if both sides must keep `side` pixels."""
    factor = min(image.size) // side
    if image.format in ("JPEG", "MPO"):
        return next((scale for scale in (8, 4, 2) if factor >= scale), 1)  # as JPEG's decoder does
    return max(1, factor // 2) if image.width * image.height > LARGE else 1


def _at_scale(image: Image.Image, side: int, decoding: Decoding) -> Image.Image:
    """Decode an opened image, at a reduced scale where that is faster, and convert it (`_converted`)."""
    stored = image.width * image.height
    # JPEG can be decoded at a fraction of its size, which is many times faster.
    image.draft(None, (side, side))
    with memory.reserved(image, stored):
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return _converted(image, side, decoding)


def _converted(image: Image.Image, side: int, decoding: Decoding) -> Image.Image:
    """An 8-bit image without transparency, of mode L or RGB; a large one is reduced to `side` or more."""
    image = tones.eight_bits(image, decoding)
    if image.mode not in ("L", "RGB", "LA", "RGBA"):
        has_alpha = image.has_transparency_data
        image = image.convert("RGBA" if has_alpha else "L" if is_grey(image) else "RGB")
    if image.width * image.height > LARGE:
        image = image.reduce(max(1, min(image.size) // side // 2))
    image = tones.on_ground(image, decoding.ground)
    return image.convert("RGB") if image.mode == "RGBA" else image


def _content(image: Image.Image) -> np.ndarray:
    """A hash of the pixels of an RGB image, uint8 (CONTENT,)."""
    extrema = [channel.getextrema() for channel in image.split()]
    if all(low == high for low, high in extrema):
        content = repr(extrema).encode()
    else:
        content = repr(image.size).encode() + image.tobytes()
    return np.frombuffer(hashlib.blake2b(content, digest_size=CONTENT).digest(), dtype=np.uint8)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image file whose header is read; whatever fails until it is closed is raised as `ImageError`."""
    try:
        status = path.stat()
        if S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not S_ISREG(status.st_mode):  # a device has no end, and a pipe may never have a beginning
            raise InputError("is not a file")
        if status.st_size == 0:
            raise InputError("is empty")
        if is_icon(path):
            require_small(path)
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
                raise InputError(
                    f"has {image.width:,} × {image.height:,} pixels; allowed: up to {MAX_PIXELS:,} in total, "
                    f"and {MAX_SIDE:,} a side"
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
