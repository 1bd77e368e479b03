"""Icons (ICO), which Pillow decodes as soon as they are opened, whatever their size.

The directory of an icon says up to 256 × 256 pixels; the picture inside may say anything.
"""

from pathlib import Path

from PIL.BmpImagePlugin import DibImageFile
from PIL.IcoImagePlugin import IcoFile
from PIL.PngImagePlugin import PngImageFile

from stages.errors import InputError

START = b"\0\0\1\0"
PNG = b"\x89PNG"
LARGEST = 1024  # pixels of each side; larger icons than 256 are rare, and larger than this are none


def is_icon(path: Path) -> bool:
    """Whether a file begins as an icon does."""
    with path.open("rb") as file:
        return file.read(len(START)) == START


def require_small(path: Path) -> None:
    """Check the picture that Pillow would decode when it opens the icon.

    Raises:
        InputError: it is too large.
        Exception: anything, if the file is damaged.
    """
    with path.open("rb") as file:
        first = IcoFile(file).entry[0]
        file.seek(first.offset)
        is_png = file.read(len(PNG)) == PNG
        file.seek(first.offset)
        # Both read the header only.
        picture = PngImageFile(file) if is_png else DibImageFile(file)
        width, height = picture.width, picture.height if is_png else picture.height // 2
    if max(width, height) > LARGEST:
        raise InputError(
            f"is an icon of {width:,} × {height:,} pixels; allowed: up to {LARGEST:,} × {LARGEST:,}"
        )
