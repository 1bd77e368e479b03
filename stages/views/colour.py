"""Brightness, colour and sharpness of a batch, with one parameter per image, by torchvision's formulas.

Images and results are float, (N, C, H, W), in [0, 1]; a parameter is (N,).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)  # weights of red, green and blue: ITU-R BT.601


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply by `factor` ≥ 0."""
    return (images * _each(factor)).clamp_(0, 1)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Scale the differences from the image's mean luminance by `factor` ≥ 0."""
    mean = luminance(images).mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean, images, _each(factor)).clamp_(0, 1)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Scale the differences from each pixel's luminance by `factor` ≥ 0."""
    return torch.lerp(luminance(images), images, _each(factor)).clamp_(0, 1)


def hue(images: Tensor, turn: Tensor) -> Tensor:
    """Rotate the hue of an RGB image by `turn`, a fraction of the colour circle in [-0.5, 0.5].

    In the HSV model of A. R. Smith, "Color Gamut Transform Pairs", SIGGRAPH 1978.
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
    # A channel is value - chroma at distances 1 to 3, value at 4 to 6, and linear in between.
    offset = torch.tensor([5.0, 3.0, 1.0], device=images.device)[:, None, None]
    distance = (sector[:, None] + offset).remainder(6)
    return value[:, None] - chroma[:, None] * torch.minimum(distance, 4 - distance).clamp_(0, 1)


def grayscale(images: Tensor, chosen: Tensor) -> Tensor:
    """Remove the colour of RGB images where `chosen`, (N,) bool."""
    return torch.where(_each(chosen), luminance(images), images)


def luminance(images: Tensor) -> Tensor:
    """The luminance of each pixel, (N, 1, H, W); an image with one channel is returned as it is."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, 1)
    grey: Tensor = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    return grey


def blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Convolve with a Gaussian of standard deviation `sigma` pixels, truncated at `radius` pixels.

    The border is padded by reflection. A `sigma` of 0 changes nothing.
    """
    # Two matrix products per image: on a CPU many times faster than convolutions whose kernel differs
    # between images.
    with torch.autocast(images.device.type, enabled=False):
        rows, columns = (_gaussians(sigma, radius, side)[:, None] for side in images.shape[2:])
        return rows @ images @ columns.mT


def _gaussians(sigma: Tensor, radius: int, side: int) -> Tensor:
    """The weight of each pixel in each blurred pixel along one side, (N, side, side)."""
    radius = min(radius, side - 1)  # reflection is defined no further
    offsets = torch.arange(-radius, radius + 1, device=sigma.device)
    weights = torch.softmax(-0.5 * (offsets / sigma.clamp(min=0.01)[:, None]) ** 2, 1)  # (N, 2 · radius + 1)
    source = (torch.arange(side, device=sigma.device)[:, None] + offsets).abs()
    source = side - 1 - (side - 1 - source).abs()  # reflected at either end
    return torch.einsum("nk,ikj->nij", weights, F.one_hot(source, side).to(weights.dtype))


def gamma(images: Tensor, exponent: Tensor) -> Tensor:
    """images ** exponent. Black becomes at most 1e-9 for exponents of 1/4 and more, and 1/256 for 1/16."""
    # NOTE: three times faster than pow on a CPU, as long as no value is 0, infinite or subnormal.
    logarithm = images.clamp(torch.finfo(images.dtype).tiny, 1).log_().mul_(_each(exponent))
    return logarithm.clamp_(min=-87).exp_()


def _each(parameter: Tensor) -> Tensor:
    return parameter[:, None, None, None]
