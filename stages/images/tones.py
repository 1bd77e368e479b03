"""Grey values of more than eight bits, and transparency: what of them is needed before pixels can be made.

Both follow one rule for all images of a folder (`Decoding`). A rule for each image would make a dim picture
as bright as any other, and the ground behind transparent pixels could tell classes apart.
"""

import numpy as np
from PIL import Image

from stages.errors import InputError
from stages.networks.pixel_rule import Decoding

WHITES = (255, 1023, 4095, 16383, 65535)  # of 8, 10, 12, 14 and 16 bits
GROUNDS = {"white": 255, "black": 0, "grey": 128}  # the first is taken where it makes no difference
FULL_RANGE = 4096  # a 16-bit image whose values are all below this would be nearly black
DIM = 63  # 16-bit colours, of which Pillow reads the upper 8 bits, use at most 14 bits up to this value
EXAMINED = (
    128  # pixels of the smaller side to which a transparent image is reduced before its ink is examined
)


def deep_type(image: Image.Image) -> str | None:
    """The type of an image's grey values of more than eight bits: uint16, int32 or float32; else None."""
    if image.mode.startswith("I;16"):
        return "uint16"
    return {"I": "int32", "F": "float32"}.get(image.mode)


def has_deep_colours(image: Image.Image) -> bool:
    """Whether a file stores colours of 16 bits, of which Pillow reads the upper 8; before it is decoded."""
    return image.mode in ("RGB", "RGBA", "LA", "CMYK") and any(
        ";16" in str(tile[3]) for tile in getattr(image, "tile", ())
    )


def eight_bits(image: Image.Image, decoding: Decoding) -> Image.Image:
    """Reduce grey values of more bits to 8; return an image of any other mode unchanged.

    Raises:
        InputError: the values do not fit the rule.
    """
    if (kind := deep_type(image)) is None:
        return image
    values = np.asarray(image)
    low, high = extent(values)
    if reason := unusable(kind, low, high):
        raise InputError(reason)
    white = getattr(decoding, kind)
    if white is None:
        if kind != "uint16" or high < FULL_RANGE:
            raise InputError(
                f"has {words(kind)} up to {high:g}; no training image had such; convert it to 8 bits"
            )
        white = WHITES[-1]
    if high > white:
        raise InputError(
            f"has {words(kind)} up to {high:g}; in the training images {white} is white; convert it to 8 bits"
        )
    if white == 1:
        return Image.fromarray((values * 255 + 0.5).astype(np.uint8))
    return Image.fromarray((values.astype(np.uint16) >> (white.bit_length() - 8)).astype(np.uint8))


def extent(values: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest value; NaN if any value is NaN."""
    return float(values.min()), float(values.max())


def unusable(kind: str, low: float, high: float) -> str | None:
    """Why values in this range cannot be shown; None if they can."""
    allowed = "0 to 1 or 0 to 65,535" if kind == "float32" else "0 to 65,535"
    odd = kind == "float32" and 1 < high < 16  # neither fractions nor grey levels
    if low >= 0 and high <= WHITES[-1] and not odd:
        return None
    return f"has {words(kind)} from {low:g} to {high:g}; allowed: {allowed}; convert it to 8 bits"


def white_level(kind: str, high: float) -> int:
    """The value that is white where `high` is the largest value of all images of a folder."""
    if kind == "float32" and high <= 1:
        return 1
    return next(white for white in WHITES if white >= high)


def words(kind: str) -> str:
    """A type of grey values, in words."""
    return {"uint16": "16-bit", "int32": "32-bit", "float32": "floating-point"}[kind] + " grey values"


def on_ground(image: Image.Image, ground: str) -> Image.Image:
    """Blend transparent pixels onto a ground; return an image without transparency unchanged."""
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (GROUNDS[ground],) * 3), image)


def ink(image: Image.Image) -> tuple[float, float, float] | None:
    """How far the ink of an image is from each of GROUNDS, 0 to 255; None if nothing is transparent.

    It is the mean over the visible pixels, in the channel that differs most.
    """
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema()[0] == 255:
        return None
    image = image.reduce(max(1, min(image.size) // EXAMINED))
    pixels = np.asarray(image).reshape(-1, 4).astype(np.float32)
    weight = pixels[:, 3].sum()
    if not weight:
        return 0.0, 0.0, 0.0
    white, black, grey = (
        float((np.abs(pixels[:, :3] - value).max(1) * pixels[:, 3]).sum() / weight)
        for value in GROUNDS.values()
    )
    return white, black, grey
