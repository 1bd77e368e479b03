"""How a picture that is not square becomes square: `data.fit` in params.yaml."""

import numpy as np
from PIL import Image

from stages.networks.pixel_rule import Fit


def square(image: Image.Image, size: int, fit: Fit) -> Image.Image:
    """A picture of size × size pixels. One that has this size keeps every pixel.

    Args:
        image: of mode L or RGB.
        fit: crop: its largest centred square. pad: the whole picture, centred on bars that have the mean
            colour of its own border. stretch: the whole picture, its sides scaled by different factors.
    """
    if fit == "pad" and image.width != image.height:
        return _padded(image, size)
    if fit == "crop":
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    return _resized(image, (size, size))


def _padded(image: Image.Image, size: int) -> Image.Image:
    longest = max(image.size)
    inner = _resized(
        image, (max(1, round(image.width * size / longest)), max(1, round(image.height * size / longest)))
    )
    canvas = Image.new(image.mode, (size, size), _border_colour(inner))
    canvas.paste(inner, ((size - inner.width) // 2, (size - inner.height) // 2))
    return canvas


def _border_colour(image: Image.Image) -> int | tuple[int, ...]:
    """The mean of the pixels on the four edges; black bars would be what all padded pictures share."""
    pixels = np.asarray(image, dtype=np.float64).reshape(image.height, image.width, -1)
    edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    mean = tuple(int(value) for value in edges.mean(0).round())
    return mean if len(mean) > 1 else mean[0]


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)
