"""Random views of a batch: every image gets its own transform, the batch is computed at once.

Images are float, (N, C, H, W), in [0, 1]. Each transform is a plain function of the images and
of one parameter per image, so it can be compared with a single-image reference; `augment` draws
the parameters and chains the transforms. Geometry is sampled once: affine and elastic share one
bilinear look-up.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.randomness import Stream
from stages.sections import Views

THINNING = 0.6  # strokes are thinned less than thickened: a thin stroke would vanish
ELASTIC_KNOTS = 6  # control points a side: few, so that strokes bend and do not tear


def augment(images: Tensor, positions: Tensor, strengths: Views, stream: Stream) -> Tensor:
    """One random view of each image.

    Args:
        images: (N, C, H, W) float in [0, 1].
        positions: (N,) int64, the address of each view in the global batch; equal addresses
            under an equal stream give equal transforms.
        strengths: how far each transform may go.
        stream: the randomness of this step.

    Returns:
        (N, C, H, W) float in [0, 1].
    """
    if strengths.thickness > 0:
        amount = stream.at("thickness").uniform(positions, 1)[:, 0]
        images = thickness(images, _between(amount, -THINNING * strengths.thickness, strengths.thickness))
    u = stream.at("affine").uniform(positions, 5)
    grid = affine_grid(
        images,
        angle=_between(u[:, 0], -strengths.rotate, strengths.rotate),
        scale=torch.exp(_between(u[:, 1], *(math.log(s) for s in strengths.scale))),
        shear=_between(u[:, 2], -strengths.shear, strengths.shear),
        shift=_between(u[:, 3:5], -strengths.shift, strengths.shift),
    )
    if strengths.elastic > 0:
        knots = stream.at("elastic").uniform(positions, 2 * ELASTIC_KNOTS**2)
        grid = grid + elastic_offsets(images, _between(knots, -strengths.elastic, strengths.elastic))
    views = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    tone = stream.at("tone").uniform(positions, 2)
    if strengths.gamma > 0:
        views = gamma(views, torch.exp2(_between(tone[:, 0], -strengths.gamma, strengths.gamma)))
    if strengths.contrast > 0:
        views = contrast(views, 1 - strengths.contrast * tone[:, 1])
    if strengths.noise > 0:
        views = noise(views, strengths.noise, stream.at("noise").normal(positions, views[0].numel()))
    if strengths.erase > 0:
        views = erase(views, *squares(stream.at("erase").uniform(positions, 3), strengths.erase))
    return views


def two_views(images: Tensor, positions: Tensor, strengths: Views, stream: Stream) -> Tensor:
    """Two views of each image in one pass, (2N, C, H, W): first all first views, then all second."""
    addresses = torch.cat([2 * positions, 2 * positions + 1])
    return augment(images.repeat(2, 1, 1, 1), addresses, strengths, stream)


def thickness(images: Tensor, amount: Tensor) -> Tensor:
    """Make bright strokes thicker (amount > 0) or thinner (< 0); amount: (N,) in [-1, 1].

    A blend of the image with its dilation or erosion over 3 × 3 pixels.
    """
    # An erosion is the dilation of the negative, so each image needs only one of the two.
    sign = torch.where(amount < 0, -1.0, 1.0)[:, None, None, None]
    extreme = sign * _dilated(sign * images)
    return images + amount.abs()[:, None, None, None] * (extreme - images)


def _dilated(images: Tensor) -> Tensor:
    """The largest value among each pixel and its eight neighbours, rows first and then columns."""
    # NOTE: max_pool2d does the same, on a CPU twenty times slower.
    x = F.pad(images, (1, 1, 1, 1), value=-torch.inf)
    x = torch.maximum(torch.maximum(x[:, :, :-2], x[:, :, 1:-1]), x[:, :, 2:])
    return torch.maximum(torch.maximum(x[..., :-2], x[..., 1:-1]), x[..., 2:])


def affine_grid(images: Tensor, angle: Tensor, scale: Tensor, shear: Tensor, shift: Tensor) -> Tensor:
    """Where each output pixel looks in its input, (N, H, W, 2), in [-1, 1] coordinates.

    The output is the input rotated by `angle` degrees counter-clockwise, sheared along x by
    `shear` degrees, magnified by `scale` and moved by `shift` (fractions of the image's side,
    x then y), all about the centre. angle, scale, shear: (N,); shift: (N, 2).
    """
    radians, slant = torch.deg2rad(angle), torch.tan(torch.deg2rad(shear))
    cos, sin = torch.cos(radians) / scale, torch.sin(radians) / scale
    # NOTE: this is the inverse map: undo the shift, then rotation, shear and scale.
    linear = torch.stack(
        [torch.stack([cos - slant * sin, -sin - slant * cos], -1), torch.stack([sin, cos], -1)], 1
    )  # (N, 2, 2)
    # NOTE: never under autocast: bf16 coordinates would be off by a twentieth of a pixel.
    with torch.autocast(images.device.type, enabled=False):
        offset = -(linear @ (2 * shift)[:, :, None])
        return F.affine_grid(torch.cat([linear, offset], 2), list(images.shape), align_corners=False)


def elastic_offsets(images: Tensor, knots: Tensor) -> Tensor:
    """Smooth displacements to add to a sampling grid, (N, H, W, 2), in [-1, 1] coordinates.

    knots: (N, 2 · ELASTIC_KNOTS²) displacements in pixels at a coarse grid of control points.
    """
    height, width = images.shape[2:]
    coarse = knots.view(-1, 2, ELASTIC_KNOTS, ELASTIC_KNOTS)
    fine = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
    pixels = fine.new_tensor([2 / width, 2 / height])
    return fine.permute(0, 2, 3, 1) * pixels


def gamma(images: Tensor, exponent: Tensor) -> Tensor:
    """image ** exponent, exponent: (N,)."""
    return images.clamp(0, 1) ** exponent[:, None, None, None]


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Scale the brightness about black by `factor`, (N,) in [0, 1]."""
    return images * factor[:, None, None, None]


def noise(images: Tensor, std: float, normals: Tensor) -> Tensor:
    """Add Gaussian noise of standard deviation `std`; normals: (N, C·H·W). Clipped to [0, 1]."""
    return (images + std * normals.view_as(images)).clamp(0, 1)


def erase(images: Tensor, centre: Tensor, half: Tensor) -> Tensor:
    """Blacken one square of each image; centre: (N, 2) x, y in [0, 1]; half: (N,) half its side."""
    height, width = images.shape[2:]
    x = (torch.arange(width, device=images.device) + 0.5) / width
    y = (torch.arange(height, device=images.device) + 0.5) / height
    inside_x = (x - centre[:, :1]).abs() < half[:, None]  # (N, W)
    inside_y = (y - centre[:, 1:]).abs() < half[:, None]  # (N, H)
    hole = inside_y[:, :, None] & inside_x[:, None, :]
    return images.masked_fill(hole[:, None], 0.0)


def squares(u: Tensor, largest: float) -> tuple[Tensor, Tensor]:
    """Centres anywhere and sides up to `largest` of the image, from (N, 3) uniform numbers."""
    return u[:, :2], u[:, 2] * largest / 2


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u
