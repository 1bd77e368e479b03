"""The memory that decoding an image takes, and that all images that are decoded at the same time may take.

A file of some kilobytes can hold so many pixels of one colour that decoding it takes gigabytes. The size of
the file does not say so; its header does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from PIL import Image

from stages.errors import InputError

ALLOWED = 2_000_000_000  # bytes: of one image, and of all that are decoded at the same time, on all cores
# Bytes for each pixel at the peak, with all copies, measured on 14,000 × 14,000 pixels.
OF_MODE = {"1": 4, "L": 4, "P": 9, "RGB": 8, "I": 16, "F": 16}
OF_DEEP_GREY, OF_OTHER_MODES = 8, 12  # the modes I;16, I;16B …; all others have four channels
# What the decoders of some formats take besides, for each pixel and channel.
OF_FORMAT = {"WEBP": 3, "AVIF": 4, "JPEG2000": 6, "TIFF": 2, "FITS": 40}
COEFFICIENTS = 2  # the same for JPEG, if the file has several scans: all are held before there are pixels


def needed(image: Image.Image, pixels: int) -> int:
    """The bytes that decoding an opened image takes at most.

    Args:
        image: an image that is opened and not decoded yet.
        pixels: in the file; `image.draft` may have reduced the size of the image since.
    """
    of_format = OF_FORMAT.get(image.format or "", 0)
    if image.format in ("JPEG", "MPO") and _has_several_scans(image):
        of_format = COEFFICIENTS
    of_mode = OF_DEEP_GREY if image.mode.startswith("I;16") else OF_MODE.get(image.mode, OF_OTHER_MODES)
    return pixels * of_format * len(image.getbands()) + image.width * image.height * of_mode


def _has_several_scans(image: Image.Image) -> bool:
    """Whether the pixels of a JPEG come in several scans, as far as its header says."""
    file, channels = getattr(image, "fp", None), getattr(image, "layers", 0)
    if image.info.get("progressive") or file is None:
        return True
    # Pillow stopped after the header of the first scan, which is the only one if it has all channels.
    size, position = 6 + 2 * channels, file.tell()
    file.seek(max(0, position - size))
    header = file.read(3)
    file.seek(position)
    return bool(header != bytes([0, size, channels]))


class Budget:
    """Memory that threads share."""

    def __init__(self, size: int) -> None:
        self._free, self._changed = size, Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Wait until so many bytes are free, and hold them; at most the size of the budget."""
        with self._changed:
            self._changed.wait_for(lambda: size <= self._free)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


_budget = Budget(ALLOWED)


@contextmanager
def reserved(image: Image.Image, pixels: int | None = None) -> Iterator[None]:
    """Hold the memory for decoding an opened image; wait while other threads have it.

    Args:
        image: as for `needed`.
        pixels: as for `needed`; None: those of the image.

    Raises:
        InputError: this image alone takes more than is allowed.
    """
    size = needed(image, pixels or image.width * image.height)
    if size > ALLOWED:
        raise InputError(
            f"has {image.width:,} × {image.height:,} pixels of mode {image.mode}, which take "
            f"{size / 1e9:.1f} GB of memory to decode; allowed: up to {ALLOWED / 1e9:g} GB; make it smaller"
        )
    with _budget.taken(size):
        yield
