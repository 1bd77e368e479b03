"""Where a view looks in its image: crop, flip, affine and elastic, in one bilinear look-up.

A view's geometry is a lattice of KNOTS × KNOTS points, each saying where in the image one place of
the view comes from, in pixels from the image's centre (x to the right, y down). Every transform
maps these few points; only `sample` goes to full size, by interpolating between them. An affine
map is exact under this interpolation, so it costs nothing beside the elastic one.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

KNOTS = 6  # points a side: few, so that strokes bend and do not tear


def lattice(images: Tensor) -> Tensor:
    """The points of a view that is the image itself, (1, KNOTS, KNOTS, 2), from corner to corner."""
    x, y = (torch.linspace(-half, half, KNOTS, device=images.device) for half in _reach(images))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]


def affine(
    points: Tensor, images: Tensor, angle: Tensor, scale: Tensor, shear: Tensor, shift: Tensor
) -> Tensor:
    """Rotate, shear, magnify and move what is seen, all about the centre; (N, KNOTS, KNOTS, 2).

    The view is sheared along x by `shear` degrees, rotated by `angle` degrees counter-clockwise,
    magnified by `scale` and moved by `shift` (fractions of the image's sides, x then y).
    angle, scale, shear: (N,); shift: (N, 2).
    """
    radians, slant = torch.deg2rad(angle), torch.tan(torch.deg2rad(shear))
    cos, sin, slant = (
        p[:, None, None] for p in (torch.cos(radians) / scale, torch.sin(radians) / scale, slant)
    )
    # NOTE: this is the inverse map: undo the shift, then scale, rotation and shear.
    x, y = (points - (shift * _sides(images))[:, None, None]).unbind(-1)
    turned_x, turned_y = cos * x - sin * y, sin * x + cos * y
    return torch.stack([turned_x - slant * turned_y, turned_y], -1)


def elastic(points: Tensor, displacements: Tensor) -> Tensor:
    """Move every point on its own; displacements: (N, 2 · KNOTS²) pixels, all x before all y."""
    return points + displacements.view(-1, 2, KNOTS, KNOTS).permute(0, 2, 3, 1)


def flip(points: Tensor, flipped: Tensor) -> Tensor:
    """Mirror left and right where `flipped`, (N,) bool."""
    x, y = points.unbind(-1)
    return torch.stack([torch.where(flipped[:, None, None], -x, x), y.expand(len(flipped), -1, -1)], -1)


def crop(points: Tensor, images: Tensor, corner: Tensor, size: Tensor) -> Tensor:
    """Look at a box of the image only, enlarged to full size.

    corner: (N, 2) left and top, size: (N, 2) width and height, in fractions of the image's sides.
    """
    centre = (corner + size / 2 - 0.5) * _sides(images)
    return points * size[:, None, None] + centre[:, None, None]


def sample(images: Tensor, points: Tensor, box: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """The views of (N, C, H, W) images at the (N, KNOTS, KNOTS, 2) points, (N, C, H, W).

    Args:
        images: what is looked at.
        points: where, in pixels from the centre.
        box: a crop's corner and size; what lies beyond its outermost pixels repeats them, as where
            a crop is resized. Without a box what lies beyond the image is black.
    """
    (height, width), half = images.shape[2:], _sides(images) / 2
    # NOTE: never under autocast: bf16 coordinates would be off by a twentieth of a pixel.
    with torch.autocast(images.device.type, enabled=False):
        rows = _interpolation(height, images.device)
        columns = torch.kron(
            _interpolation(width, images.device).T.contiguous(), torch.eye(2, device=images.device)
        )
        grid = (rows @ (points / half).flatten(2)) @ columns  # x and y of a pixel lie side by side
        grid = grid.view(len(points), height, width, 2)
        if box is not None:
            corner, size = (2 * part[:, None, None] for part in box)
            margin = 0.5 / half  # from a pixel's edge to its middle
            grid = torch.clamp(grid, corner - 1 + margin, corner + size - 1 - margin)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def boxes(u: Tensor, smallest: float, largest: float, most: float) -> tuple[Tensor, Tensor]:
    """Corners and sizes, (N, 2) each, of boxes anywhere in the image, from (N, 4) uniform numbers.

    Their area is even between `smallest` and `largest`, a fraction of the image's; the logarithm of
    their aspect ratio (beside the image's own) is even between 1 / most and most, or as
    far as a box of that area fits.
    """
    area = smallest + (largest - smallest) * u[:, 0]
    furthest = torch.log(area).neg().clamp(max=math.log(most))
    stretch = torch.exp((u[:, 1] - 0.5) * furthest)  # the square root of the ratio
    size = area.sqrt()[:, None] * torch.stack([stretch, 1 / stretch], -1)
    return u[:, 2:] * (1 - size), size


def _interpolation(side: int, device: torch.device) -> Tensor:
    """How much each of KNOTS values, from border to border, weighs in each of `side` pixels."""
    place = torch.linspace(0, KNOTS - 1, side, device=device)
    return (1 - (place[:, None] - torch.arange(KNOTS, device=device)).abs()).clamp(min=0)


def _sides(images: Tensor) -> Tensor:
    return torch.tensor([images.shape[3], images.shape[2]], dtype=torch.float32, device=images.device)


def _reach(images: Tensor) -> tuple[float, float]:
    """From the centre to the middle of the outermost pixel, x and y."""
    return (images.shape[3] - 1) / 2, (images.shape[2] - 1) / 2
