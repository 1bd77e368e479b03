"""Random views of a batch: each image gets its own transform, and the whole batch is computed at once.

Images are float, (N, C, H, W), in [0, 1]. Each transform is a function of the images and of one parameter
per image, so it can be tested against a single-image reference. `random_views` draws the parameters and
applies the transforms in turn. Those that move pixels are in `geometry`, those that change colours in
`colour`, the others in this file.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.settings.schema import Views
from stages.training.randomness import Stream
from stages.views import colour, geometry

THINNING = 0.6  # thinning relative to thickening: less, because a thin stroke would vanish
ASPECT = 4 / 3  # largest aspect ratio of a crop, relative to the image's
BLURRED = 0.5  # fraction of the images that are blurred
# One column of uniform numbers for each. NOTE: transforms that are off have columns too, so that switching
# one on or off does not change the others.
COLUMNS = (
    "thickness", "angle", "scale", "shear", "right", "down", "flip", "area", "ratio", "left", "top",
    "brightness", "contrast", "saturation", "hue", "grayscale", "blur", "gamma", "dim",
    "hole x", "hole y", "hole side",
)  # fmt: skip


def random_views(
    images: Tensor, positions: Tensor, strengths: Views, stream: Stream, side: int | None = None
) -> Tensor:
    """One or more random views of each image.

    The colour transforms are applied in the order brightness, contrast, saturation, hue (torchvision's
    ColorJitter shuffles them). Saturation, hue and grayscale leave images with one channel unchanged.

    Args:
        images: (N, C, H, W) float in [0, 1].
        positions: (V · N,) int64 for V views, the position of each view in the global batch: all first views,
            then all second views, and so on. Equal positions and streams give equal transforms.
        strengths: the range of each transform.
        stream: the random numbers of this step.
        side: of the views, where the images are square and larger by a power of two; None: the views have the
            size of the images.

    Returns:
        (V · N, C, H, W) float in [0, 1], or (V · N, C, side, side).
    """
    side = None if side == images.shape[3] else side
    numbers = stream.at("transforms").uniform(positions, len(COLUMNS))
    u = dict(zip(COLUMNS, numbers.unbind(1), strict=True))
    if strengths.thickness > 0:
        low, high = -THINNING * strengths.thickness, strengths.thickness
        images = thickness(images, _between(u["thickness"], low, high))
    views = _geometric(images, positions, u, strengths, stream, side)
    views = _colour(views, u, strengths)
    if strengths.noise > 0:
        views = noise(views, strengths.noise, stream.at("noise").normal(positions, views[0].numel()))
    if strengths.erase > 0:
        hole = torch.stack([u["hole x"], u["hole y"], u["hole side"]], -1)
        views = erase(views, *squares(hole, strengths.erase))
    return views


def two_views(
    images: Tensor, positions: Tensor, strengths: Views, stream: Stream, side: int | None = None
) -> Tensor:
    """Two views of each image, (2N, C, H, W): all first views, then all second views; see `random_views`."""
    return random_views(images, torch.cat([2 * positions, 2 * positions + 1]), strengths, stream, side)


def _geometric(
    images: Tensor,
    positions: Tensor,
    u: dict[str, Tensor],
    strengths: Views,
    stream: Stream,
    side: int | None,
) -> Tensor:
    """Crop, flip, affine and elastic in this order, with one interpolation."""
    frame = images if side is None else images.new_empty(0, 1, side, side)  # has the size of the views
    points = geometry.affine(
        geometry.lattice(frame),
        frame,
        angle=_between(u["angle"], -strengths.rotate, strengths.rotate),
        scale=torch.exp(_between(u["scale"], *(math.log(s) for s in strengths.scale))),
        shear=_between(u["shear"], -strengths.shear, strengths.shear),
        shift=_between(torch.stack([u["right"], u["down"]], -1), -strengths.shift, strengths.shift),
    )
    if strengths.elastic > 0:
        knots = stream.at("elastic").uniform(positions, 2 * geometry.KNOTS**2)
        points = geometry.elastic(points, _between(knots, -strengths.elastic, strengths.elastic))
    if strengths.flip > 0:
        points = geometry.flip(points, u["flip"] < strengths.flip)
    box = None
    if strengths.crop != (1, 1):
        drawn = torch.stack([u["area"], u["ratio"], u["left"], u["top"]], -1)
        box = geometry.boxes(drawn, *strengths.crop, ASPECT)
        points = geometry.crop(points, frame, *box)
    return geometry.sample(images, points, None if strengths.reflect else box, strengths.reflect, side)


def _colour(images: Tensor, u: dict[str, Tensor], strengths: Views) -> Tensor:
    """Colour jitter, grayscale, blur, gamma and dimming."""
    in_colour = images.shape[1] == 3
    if strengths.brightness > 0:
        images = colour.brightness(images, _about_one(u["brightness"], strengths.brightness))
    if strengths.contrast > 0:
        images = colour.contrast(images, _about_one(u["contrast"], strengths.contrast))
    if strengths.saturation > 0 and in_colour:
        images = colour.saturation(images, _about_one(u["saturation"], strengths.saturation))
    if strengths.hue > 0 and in_colour:
        images = colour.hue(images, _between(u["hue"], -strengths.hue, strengths.hue))
    if strengths.grayscale > 0 and in_colour:
        images = colour.grayscale(images, u["grayscale"] < strengths.grayscale)
    if strengths.blur > 0:
        sigma = strengths.blur * (1 - u["blur"] / BLURRED).clamp(min=0)
        images = colour.blur(images, sigma, radius=math.ceil(3 * strengths.blur))
    if strengths.gamma > 0:
        images = colour.gamma(images, torch.exp2(_between(u["gamma"], -strengths.gamma, strengths.gamma)))
    if strengths.dim > 0:
        images = colour.brightness(images, 1 - strengths.dim * u["dim"])
    return images


def thickness(images: Tensor, amount: Tensor) -> Tensor:
    """Make bright strokes thicker (amount > 0) or thinner (amount < 0): (N, C, H, W) to (V · N, C, H, W).

    A blend of each image with its dilation or erosion over 3 × 3 pixels.

    Args:
        amount: (V · N,) in [-1, 1], for V views of N images.
    """
    each = amount.view(-1, len(images), 1, 1, 1)
    gain, loss = _dilated(images) - images, _dilated(-images) + images
    thicker = torch.addcmul(images, gain, each.clamp(min=0))
    return torch.addcmul(thicker, loss, each.clamp(max=0)).flatten(0, 1)


def _dilated(images: Tensor) -> Tensor:
    """The largest value among each pixel and its eight neighbours: along the height, then along the width."""
    # NOTE: max_pool2d does the same, but is twenty times slower on a CPU.
    x = F.pad(images, (1, 1, 1, 1), value=-torch.inf)
    x = torch.maximum(torch.maximum(x[:, :, :-2], x[:, :, 1:-1]), x[:, :, 2:])
    return torch.maximum(torch.maximum(x[..., :-2], x[..., 1:-1]), x[..., 2:])


def noise(images: Tensor, std: float, normals: Tensor) -> Tensor:
    """Add Gaussian noise of standard deviation `std` and clip to [0, 1]; normals: (N, C · H · W)."""
    return (images + std * normals.view_as(images)).clamp(0, 1)


def erase(images: Tensor, centre: Tensor, half: Tensor) -> Tensor:
    """Set one square of each image to black.

    Args:
        centre: (N, 2) x and y as fractions of the image's sides.
        half: (N,) half of the square's side, as a fraction of the image's side.
    """
    height, width = images.shape[2:]
    x = (torch.arange(width, device=images.device) + 0.5) / width
    y = (torch.arange(height, device=images.device) + 0.5) / height
    inside_x = ((x - centre[:, :1]).abs() < half[:, None]).float()  # (N, W)
    inside_y = ((y - centre[:, 1:]).abs() < half[:, None]).float()  # (N, H)
    # NOTE: a product of floats, because on a CPU it is several times faster than filling masked pixels.
    hole = inside_y[:, :, None] * inside_x[:, None, :]
    return images * hole.neg_().add_(1)[:, None]


def squares(u: Tensor, largest: float) -> tuple[Tensor, Tensor]:
    """Centre (N, 2) and half side (N,) of random squares, for `erase`, from uniform numbers u, (N, 3).

    Centres are anywhere in the image; the side is at most `largest`, a fraction of the image's.
    """
    return u[:, :2], u[:, 2] * largest / 2


def _about_one(u: Tensor, strength: float) -> Tensor:
    return _between(u, 1 - strength, 1 + strength)


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u
