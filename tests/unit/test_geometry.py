import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from stages.views import geometry

# The tolerance of all comparisons is 1e-4 of white, because rounding errors of the coordinates differ.


def affine(images: Tensor, **changes: list[float] | list[list[float]]) -> Tensor:
    """Views by `geometry.affine`; parameters that are not given change nothing."""
    n = len(images)
    still = {"angle": [0.0] * n, "scale": [1.0] * n, "shear": [0.0] * n, "shift": [[0.0, 0.0]] * n}
    parameters = {name: torch.tensor(value) for name, value in (still | changes).items()}
    return geometry.sample(images, geometry.affine(geometry.lattice(images), images, **parameters))


def elastic(images: Tensor, knots: Tensor) -> Tensor:
    return geometry.sample(images, geometry.elastic(geometry.lattice(images), knots))


def cropped(images: Tensor, corner: Tensor, size: Tensor) -> Tensor:
    points = geometry.crop(geometry.lattice(images), images, corner, size)
    return geometry.sample(images, points, (corner, size))


def dot(x: int, y: int) -> Tensor:
    image = torch.zeros(1, 1, 29, 29)  # with an odd side, so that (14, 14) is the centre
    image[0, 0, y, x] = 1
    return image


def brightest(image: Tensor) -> tuple[int, int]:
    y, x = divmod(int(image[0, 0].argmax()), image.shape[3])
    return x, y


def test_positive_angles_rotate_counter_clockwise() -> None:
    assert brightest(affine(dot(24, 14), angle=[90.0])) == (14, 4)  # from the right to the top


def test_positive_shear_moves_the_lower_half_right() -> None:
    assert brightest(affine(dot(14, 24), shear=[45.0])) == (24, 24)
    assert brightest(affine(dot(14, 4), shear=[45.0])) == (4, 4)


def test_scale_above_one_magnifies() -> None:
    assert brightest(affine(dot(18, 11), scale=[2.0])) == (22, 8)


def test_positive_shift_moves_right_and_down_by_fractions_of_the_side() -> None:
    assert brightest(affine(dot(14, 14), shift=[[6 / 29, -3 / 29]])) == (20, 11)


def test_shear_comes_before_rotation_and_the_shift_last() -> None:
    # (14, 24) is 10 below the centre. Shear moves it to (+10, +10), rotation to (+10, −10).
    rotated = affine(dot(14, 24), shear=[45.0], angle=[90.0])
    assert brightest(rotated) == (24, 4)
    large = affine(dot(14, 19), shear=[45.0], angle=[90.0], scale=[2.0], shift=[[-4 / 29, 0.0]])
    assert brightest(large) == (20, 4)


GEOMETRY = [  # angle, scale, shear, shift in x, shift in y
    (0.0, 1.0, 0.0, 0.0, 0.0),
    (30.0, 1.0, 0.0, 0.0, 0.0),
    (-77.5, 1.0, 0.0, 0.0, 0.0),
    (0.0, 1.3, 0.0, 0.0, 0.0),
    (0.0, 0.6, 0.0, 0.0, 0.0),
    (0.0, 1.0, 20.0, 0.0, 0.0),
    (0.0, 1.0, 0.0, 0.13, -0.06),
    (25.0, 1.2, -12.0, 0.1, 0.07),
    (-140.0, 0.8, 9.0, -0.2, 0.15),
]


@pytest.mark.parametrize("size", [(28, 28), (41, 41), (41, 28), (23, 60)])
@pytest.mark.parametrize("channels", [1, 3])
def test_affine_is_torchvisions_of_each_single_image(
    floats: Tensor, size: tuple[int, int], channels: int
) -> None:
    images = floats[: len(GEOMETRY) * channels].reshape(-1, channels, 28, 28)
    images = reference.resize(images, list(size))
    angle, scale, shear, x, y = (list(column) for column in zip(*GEOMETRY, strict=True))
    shift = [list(pair) for pair in zip(x, y, strict=True)]
    ours = affine(images, angle=angle, scale=scale, shear=shear, shift=shift)
    for image, out, (degrees, factor, slant, right, down) in zip(images, ours, GEOMETRY, strict=True):
        # torchvision rotates clockwise, shears to the left, and shifts by pixels.
        expected = reference.affine(
            image,
            angle=-degrees,
            translate=[right * size[1], down * size[0]],
            scale=factor,
            shear=[-slant, 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(28, 28), (20, 33)])
def test_elastic_is_torchvisions_with_the_same_field(floats: Tensor, size: tuple[int, int]) -> None:
    images = reference.resize(floats[:4], list(size))
    knots = 4 * torch.rand(4, 2 * geometry.KNOTS**2, generator=torch.Generator().manual_seed(1)) - 2
    # Bilinear between the control points, which are from corner to corner; x first; in units of half a side.
    coarse = knots.view(4, 2, geometry.KNOTS, geometry.KNOTS)
    field = F.interpolate(coarse, size, mode="bilinear", align_corners=True).permute(0, 2, 3, 1)
    field = field * 2 / torch.tensor([size[1], size[0]])
    for image, out, displacement in zip(images, elastic(images, knots), field, strict=True):
        expected = reference.elastic(image, displacement[None], InterpolationMode.BILINEAR)
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)
        assert (out - image).abs().max() > 0.1


def test_elastic_knots_are_pixels_x_first_then_y() -> None:
    # All control points move 3 to the right and 5 down. They say where to look, so the dot moves left and up.
    side = geometry.KNOTS**2
    knots = torch.cat([torch.full((1, side), 3.0), torch.full((1, side), 5.0)], 1)
    assert brightest(elastic(dot(14, 14), knots)) == (11, 9)


def test_flip_is_torchvisions_for_chosen_images(floats: Tensor) -> None:
    images = floats[:6].reshape(2, 3, 28, 28)
    points = geometry.flip(geometry.lattice(images), torch.tensor([True, False]))
    out = geometry.sample(images, points)
    torch.testing.assert_close(out[0], reference.horizontal_flip(images[0]), rtol=0, atol=1e-4)
    torch.testing.assert_close(out[1], images[1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(28, 28), (20, 36)])
@pytest.mark.parametrize("channels", [1, 3])
def test_crop_is_torchvisions_of_each_single_image(size: tuple[int, int], channels: int) -> None:
    height, width = size
    images = torch.rand(5, channels, height, width, generator=torch.Generator().manual_seed(5))
    left, top, wide, high = (  # crops at each border, and the whole image
        torch.tensor([0, 8, 3, 9, 0]), torch.tensor([2, 0, 9, 4, 0]),
        torch.tensor([12, width - 8, 16, 5, width]), torch.tensor([14, 10, height - 9, 7, height]),
    )  # fmt: skip
    sides = torch.tensor([width, height])
    ours = cropped(images, torch.stack([left, top], 1) / sides, torch.stack([wide, high], 1) / sides)
    for i, out in enumerate(ours):
        box = [int(side[i]) for side in (top, left, high, wide)]
        expected = reference.resized_crop(
            images[i], *box, size=list(size), interpolation=InterpolationMode.BILINEAR, antialias=False
        )
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)


def test_boxes_have_the_given_area_and_aspect_and_are_inside_the_image() -> None:
    u = torch.rand(4000, 4, generator=torch.Generator().manual_seed(6))
    corner, size = geometry.boxes(u, 0.2, 1.0, 4 / 3)
    area, ratio = size.prod(1), size[:, 0] / size[:, 1]
    torch.testing.assert_close(area, 0.2 + 0.8 * u[:, 0])
    assert corner.min() >= 0
    assert (corner + size).max() <= 1 + 1e-6
    small = area < 0.7  # small enough for every ratio
    assert 0.75 <= ratio[small].min() < 0.76
    assert 1.32 < ratio[small].max() <= 4 / 3 + 1e-5
    assert ratio[small].log().mean().abs() < 0.02
    position = corner / (1 - size)
    assert position.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.02)


def test_a_box_of_the_whole_area_is_the_whole_image() -> None:
    corner, size = geometry.boxes(torch.rand(50, 4), 1.0, 1.0, 4 / 3)
    torch.testing.assert_close(size, torch.ones(50, 2))
    torch.testing.assert_close(corner, torch.zeros(50, 2))


def test_transforms_are_chained_like_torchvisions() -> None:
    # Smooth, and dark at the borders, so that interpolating once or several times differs little.
    along = torch.linspace(-1, 1, 64)
    image = torch.exp(-30 * ((along[:, None] - 0.2) ** 2 + (along + 0.1) ** 2))[None, None]
    corner, size = torch.tensor([[8 / 64, 4 / 64]]), torch.tensor([[48 / 64, 52 / 64]])
    parameters = {"angle": torch.tensor([30.0]), "scale": torch.ones(1), "shear": torch.zeros(1)}
    points = geometry.affine(geometry.lattice(image), image, **parameters, shift=torch.zeros(1, 2))
    points = geometry.crop(geometry.flip(points, torch.tensor([True])), image, corner, size)
    ours = geometry.sample(image, points, (corner, size))[0]
    expected = reference.resized_crop(image[0], 4, 8, 52, 48, size=[64, 64], antialias=False)
    expected = reference.horizontal_flip(expected)
    expected = reference.affine(expected, -30.0, [0, 0], 1.0, [0.0, 0.0], InterpolationMode.BILINEAR)
    assert (ours - expected).abs().max() < 0.02


def test_reflected_places_outside_the_image_are_its_mirror_image() -> None:
    images = torch.rand(2, 3, 9, 12, generator=torch.Generator().manual_seed(8))
    wide = torch.cat([images.flip(3), images, images.flip(3)], 3)
    mirrored = torch.cat([wide.flip(2), wide, wide.flip(2)], 2)
    points = geometry.lattice(images) + torch.tensor([9.0, -4.0])  # to the right and up
    out = geometry.sample(images, points.expand(2, -1, -1, -1), reflect=True)
    torch.testing.assert_close(out, mirrored[:, :, 5:14, 21:33], rtol=0, atol=1e-4)
