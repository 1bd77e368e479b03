"""Crop, flip, affine and elastic transforms of a batch, with one bilinear interpolation for all.

The geometry of a view is a lattice of KNOTS × KNOTS control points. Each says which place of the image is
seen at that place of the view, in pixels from the image's centre (x to the right, y down). The transforms
map these few points; only `sample` works at full size and interpolates between them. Affine transforms are
exact under this interpolation.

The images may have more pixels than the views. Pixels are those of the view throughout; `images` in these
functions may be any tensor of the view's size. Only `sample` takes the larger images: each view from a copy
reduced until its pixels are about as large as the view's (L. Williams, "Pyramidal Parametrics", 1983).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

KNOTS = 6  # control points per side: few, so that strokes are bent and not torn


def lattice(images: Tensor) -> Tensor:
    """The control points of the unchanged image, (1, KNOTS, KNOTS, 2), from corner to corner."""
    x, y = (torch.linspace(-half, half, KNOTS, device=images.device) for half in _half_extents(images))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]


def affine(
    points: Tensor, images: Tensor, angle: Tensor, scale: Tensor, shear: Tensor, shift: Tensor
) -> Tensor:
    """Shear, rotate, scale and shift the view, in this order and about the centre; (N, KNOTS, KNOTS, 2).

    Args:
        angle: (N,) degrees, counter-clockwise.
        scale: (N,) magnification.
        shear: (N,) degrees, along x.
        shift: (N, 2) x and y as fractions of the image's sides.
    """
    radians, slope = torch.deg2rad(angle), torch.tan(torch.deg2rad(shear))
    cos, sin, slope = (
        p[:, None, None] for p in (torch.cos(radians) / scale, torch.sin(radians) / scale, slope)
    )
    # NOTE: points are mapped from the view to the image, so the transforms are inverted, the last one first.
    x, y = (points - (shift * _sides(images))[:, None, None]).unbind(-1)
    rotated_x, rotated_y = cos * x - sin * y, sin * x + cos * y
    return torch.stack([rotated_x - slope * rotated_y, rotated_y], -1)


def elastic(points: Tensor, displacements: Tensor) -> Tensor:
    """Move each control point; displacements: (N, 2 · KNOTS²) pixels, all x before all y."""
    return points + displacements.view(-1, 2, KNOTS, KNOTS).permute(0, 2, 3, 1)


def flip(points: Tensor, flipped: Tensor) -> Tensor:
    """Flip horizontally where `flipped`, (N,) bool."""
    x, y = points.unbind(-1)
    return torch.stack([torch.where(flipped[:, None, None], -x, x), y.expand(len(flipped), -1, -1)], -1)


def crop(points: Tensor, images: Tensor, corner: Tensor, size: Tensor) -> Tensor:
    """Crop a box and enlarge it to the size of the image.

    Args:
        corner: (N, 2) left and top, as fractions of the image's sides.
        size: (N, 2) width and height, likewise.
    """
    centre = (corner + size / 2 - 0.5) * _sides(images)
    return points * size[:, None, None] + centre[:, None, None]


def sample(
    images: Tensor,
    points: Tensor,
    box: tuple[Tensor, Tensor] | None = None,
    reflect: bool = False,
    side: int | None = None,
) -> Tensor:
    """Compute the views, (N, C, H, W), or (N, C, side, side).

    Args:
        images: (N, C, H, W); or (M, C, H, W), where view n is of image n mod M.
        points: (N, KNOTS, KNOTS, 2), the control points.
        box: corner and size of a crop. Places outside it get the value of its nearest pixel, as when a crop
            is resized. Without a box, places outside the image are black.
        reflect: whether places outside the image get its mirror image; a box is then not needed.
        side: of square views of larger, square images, whose side is a power of two as large; None: the views
            have the size of the images.
    """
    if side is not None and side != images.shape[3]:
        return _reduced_samples(images, points, box, reflect, side)
    if len(points) > len(images):
        images = images.repeat(len(points) // len(images), 1, 1, 1)
    return _sample(images, points, images.shape[2:], box, reflect)


def _reduced_samples(
    images: Tensor, points: Tensor, box: tuple[Tensor, Tensor] | None, reflect: bool, side: int
) -> Tensor:
    """`sample` for views that are smaller than the images."""
    levels = round(math.log2(images.shape[3] / side))
    if images.shape[2] != images.shape[3] or side * 2**levels != images.shape[3]:
        raise ValueError(f"images {tuple(images.shape[2:])}, views {side}: not square, or no power of two")
    # How many pixels of the image lie between two of the view, from the distances of the control points.
    across, down = (points.diff(dim=axis).norm(dim=-1).mean((1, 2)) for axis in (2, 1))
    step = (across * down).sqrt() / ((side - 1) / (KNOTS - 1)) * 2**levels
    level = step.clamp(min=1e-6).log2().round().clamp(0, levels)
    views = images.new_empty(len(points), images.shape[1], side, side)
    for number in range(levels + 1):
        chosen = (level == number).nonzero()[:, 0]
        part = tuple(edge[chosen] for edge in box) if box is not None else None
        if len(chosen):
            views[chosen] = _sample(images[chosen % len(images)], points[chosen], (side, side), part, reflect)
        if number < levels:
            images = F.avg_pool2d(images, 2)
    return views


def _sample(
    images: Tensor, points: Tensor, shape: Sequence[int], box: tuple[Tensor, ...] | None, reflect: bool
) -> Tensor:
    """Views of a shape (height, width) of as many images of any size."""
    height, width = shape
    half = torch.tensor([width, height], dtype=torch.float32, device=images.device) / 2
    # NOTE: not under autocast: coordinates in bf16 have errors of a twentieth of a pixel and more.
    with torch.autocast(images.device.type, enabled=False):
        rows = _interpolation(height, images.device)
        columns = torch.kron(
            _interpolation(width, images.device).T.contiguous(), torch.eye(2, device=images.device)
        )
        grid = (rows @ (points / half).flatten(2)) @ columns  # x and y of a pixel are adjacent
        grid = grid.view(len(points), height, width, 2)
        if box is not None:
            corner, size = (2 * part[:, None, None] for part in box)
            margin = 1 / _sides(images)  # from a pixel's edge to its centre
            grid = torch.clamp(grid, corner - 1 + margin, corner + size - 1 - margin)
        padding = "reflection" if reflect else "zeros"
        return F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def boxes(u: Tensor, smallest: float, largest: float, aspect: float) -> tuple[Tensor, Tensor]:
    """Corners and sizes, (N, 2) each, of random boxes inside the image, from uniform numbers u, (N, 4).

    The area is uniform between `smallest` and `largest`, as fractions of the image's. The logarithm of the
    aspect ratio, relative to the image's, is uniform between those of 1 / aspect and aspect; in a narrower
    range if a box of that area would not fit.
    """
    area = smallest + (largest - smallest) * u[:, 0]
    widest = torch.log(area).neg().clamp(max=math.log(aspect))
    stretch = torch.exp((u[:, 1] - 0.5) * widest)  # the square root of the ratio
    size = area.sqrt()[:, None] * torch.stack([stretch, 1 / stretch], -1)
    return u[:, 2:] * (1 - size), size


def _interpolation(side: int, device: torch.device) -> Tensor:
    """The weight of each of KNOTS control points in each of `side` pixels, (side, KNOTS)."""
    position = torch.linspace(0, KNOTS - 1, side, device=device)
    return (1 - (position[:, None] - torch.arange(KNOTS, device=device)).abs()).clamp(min=0)


def _sides(images: Tensor) -> Tensor:
    return torch.tensor([images.shape[3], images.shape[2]], dtype=torch.float32, device=images.device)


def _half_extents(images: Tensor) -> tuple[float, float]:
    """The distance from the image's centre to the centre of the outermost pixels, x and y."""
    return (images.shape[3] - 1) / 2, (images.shape[2] - 1) / 2
