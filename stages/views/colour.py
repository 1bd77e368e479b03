"""Light, colour and sharpness of a batch: every image by its own amount, by torchvision's formulas.

Images are float, (N, C, H, W), in [0, 1], and so are the results; a parameter is (N,).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)  # how bright red, green and blue look: ITU-R BT.601


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Scale about black by `factor` ≥ 0."""
    return (images * _each(factor)).clamp_(0, 1)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Scale about the image's mean grey by `factor` ≥ 0."""
    mean = luminance(images).mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean, images, _each(factor)).clamp_(0, 1)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Scale an RGB image about its own greys by `factor` ≥ 0."""
    return torch.lerp(luminance(images), images, _each(factor)).clamp_(0, 1)


def hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the colours of an RGB image by a fraction of the colour circle, in [-0.5, 0.5].

    By way of A. R. Smith, "Color Gamut Transform Pairs", SIGGRAPH 1978 (hue, saturation, value).
    """
    red, green, blue = images.unbind(1)
    value, least = images.amax(1), images.amin(1)
    chroma = value - least
    divisor = torch.where(chroma > 0, chroma, 1.0)
    sector = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    sector = sector + 6 * turn[:, None, None]
    # A channel lacks the whole chroma in the two sectors of the opposite colour, and less on the way.
    offset = torch.tensor([5.0, 3.0, 1.0], device=images.device)[:, None, None]
    place = (sector[:, None] + offset).remainder(6)
    return value[:, None] - chroma[:, None] * torch.minimum(place, 4 - place).clamp_(0, 1)


def grayscale(images: Tensor, chosen: Tensor) -> Tensor:
    """Take the colour out of an RGB image where `chosen`, (N,) bool."""
    return torch.where(_each(chosen), luminance(images), images)


def luminance(images: Tensor) -> Tensor:
    """How bright each pixel looks, (N, 1, H, W); a grey image is that already."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, 1)
    grey: Tensor = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    return grey


def blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Convolve with a Gaussian of standard deviation `sigma` pixels, cut off at `radius`.

    Beyond its border an image is continued by its mirror image; 0 changes nothing.
    """
    # As products with one matrix an image and side: many times faster on a CPU than convolutions
    # whose kernel differs between images.
    with torch.autocast(images.device.type, enabled=False):
        down, along = (_gaussians(sigma, radius, side)[:, None] for side in images.shape[2:])
        return down @ images @ along.mT


def _gaussians(sigma: Tensor, radius: int, side: int) -> Tensor:
    """How much each of `side` pixels weighs in each blurred one, (N, side, side)."""
    radius = min(radius, side - 1)  # the mirror image goes no further
    offsets = torch.arange(-radius, radius + 1, device=sigma.device)
    weights = torch.softmax(-0.5 * (offsets / sigma.clamp(min=0.01)[:, None]) ** 2, 1)  # (N, 2 · radius + 1)
    source = (torch.arange(side, device=sigma.device)[:, None] + offsets).abs()
    source = side - 1 - (side - 1 - source).abs()  # mirrored at either end
    return torch.einsum("nk,ikj->nij", weights, F.one_hot(source, side).to(weights.dtype))


def gamma(images: Tensor, exponent: Tensor) -> Tensor:
    """image ** exponent; black becomes 1e-9 at most where exponent ≥ 1/4, a grey level at 1/16."""
    # NOTE: three times faster on a CPU than pow, as long as nothing is 0, infinite or subnormal.
    logarithm = images.clamp(torch.finfo(images.dtype).tiny, 1).log_().mul_(_each(exponent))
    return logarithm.clamp_(min=-87).exp_()


def _each(parameter: Tensor) -> Tensor:
    return parameter[:, None, None, None]
