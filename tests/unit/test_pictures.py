"""Image files of every format, and files that are not images."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as reference

from stages.errors import InputError
from stages.images import pictures
from tests.image_files import write_bomb

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (24, 24), dtype=np.uint16)
SQUARE = COLOUR[:40, 10:50]  # the centre of COLOUR


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


# --- formats


@pytest.mark.parametrize(("suffix", "options"), [
    ("png", {}), ("bmp", {}), ("tif", {}), ("tiff", {"compression": "tiff_lzw"}),
    ("webp", {"lossless": True}),
])  # fmt: skip
def test_lossless_formats_keep_every_pixel_of_an_image_of_the_requested_size(
    suffix: str, options: dict[str, object], tmp_path: Path
) -> None:
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(COLOUR), **options)
    assert np.array_equal(pictures.read(path, 40, 3), SQUARE.transpose(2, 0, 1))


@pytest.mark.parametrize("suffix", ["jpg", "gif", "webp"])
def test_lossy_formats_are_close(suffix: str, tmp_path: Path) -> None:
    smooth = Image.fromarray(COLOUR).resize((4, 4)).resize((40, 40), Image.Resampling.BICUBIC)
    pixels = pictures.read(save(tmp_path / f"a.{suffix}", smooth), 40, 3)
    assert np.abs(pixels.astype(int) - np.asarray(smooth).transpose(2, 0, 1)).mean() < 12


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_images_are_read_with_one_or_three_channels(channels: int, tmp_path: Path) -> None:
    grey = COLOUR[:40, :40, 0]
    pixels = pictures.read(save(tmp_path / "a.png", Image.fromarray(grey)), 40, channels)
    assert pixels.shape == (channels, 40, 40)
    assert all(np.array_equal(plane, grey) for plane in pixels)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_reduced_to_the_upper_eight(suffix: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(GREY16))
    assert np.array_equal(pictures.read(path, 24, 1)[0], GREY16 >> 8)


def test_palettes_and_one_bit_images_are_converted(tmp_path: Path) -> None:
    palette = Image.fromarray(SQUARE).convert("P")
    path = save(tmp_path / "p.png", palette)
    assert np.array_equal(pictures.read(path, 40, 3), np.asarray(palette.convert("RGB")).transpose(2, 0, 1))
    bits = Image.fromarray(SQUARE[:, :, 0] > 100)
    assert set(np.unique(pictures.read(save(tmp_path / "b.png", bits), 40, 1))) == {0, 255}


def test_cmyk_is_converted_to_rgb(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", Image.new("CMYK", (30, 30), (0, 255, 255, 0)), quality=95)
    red, green, blue = pictures.read(path, 30, 3).reshape(3, -1).mean(1)
    assert red > 200
    assert green < 60
    assert blue < 60


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_become_white(mode: str, tmp_path: Path) -> None:
    image = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 20, 10))
    path = save(tmp_path / "a.png", image.convert(mode))
    pixels = pictures.read(path, 20, 1)[0]
    assert (pixels[:10] == 0).all()
    assert (pixels[10:] == 255).all()


def test_the_first_frame_of_an_animation_is_read(tmp_path: Path) -> None:
    frames = [Image.new("L", (16, 16), value) for value in (0, 255)]
    path = save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert (pictures.read(path, 16, 1) == 0).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, tmp_path: Path) -> None:
    upright = Image.fromarray(SQUARE)
    turned = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(turned[orientation]) if orientation in turned else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", stored, exif=exif)
    assert np.array_equal(pictures.read(path, 40, 3), SQUARE.transpose(2, 0, 1))


# --- sizes


@pytest.mark.parametrize("shape", [(100, 60), (60, 100), (33, 33), (7, 90), (1, 1)])
@pytest.mark.parametrize("size", [8, 28, 64])
def test_the_centre_is_resampled_as_by_torchvision(shape: tuple[int, int], size: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    resized = pictures.read(save(tmp_path / "a.png", Image.fromarray(pixels)), size, 3)
    assert resized.shape == (3, size, size)
    side = min(shape)
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    centre = torch.from_numpy(pixels[top : top + side, left : left + side]).permute(2, 0, 1)
    expected = reference.resize(
        centre, [size, size], interpolation=reference.InterpolationMode.BICUBIC, antialias=True
    )
    assert np.abs(resized.astype(int) - expected.numpy().astype(int)).max() <= 2


def test_a_jpeg_decoded_at_reduced_size_has_nearly_the_same_pixels(tmp_path: Path) -> None:
    smooth = Image.fromarray(COLOUR).resize((8, 8)).resize((1600, 1200), Image.Resampling.BICUBIC)
    jpeg = pictures.read(save(tmp_path / "a.jpg", smooth, quality=95), 32, 3)
    png = pictures.read(save(tmp_path / "a.png", smooth), 32, 3)
    assert np.abs(jpeg.astype(int) - png.astype(int)).mean() < 3


# --- files that are not images


def test_errors_have_the_path_and_the_reason(tmp_path: Path) -> None:
    png = save(tmp_path / "whole.png", Image.fromarray(COLOUR)).read_bytes()
    jpeg = save(tmp_path / "whole.jpg", Image.fromarray(COLOUR)).read_bytes()
    save(tmp_path / "float.tif", Image.fromarray(np.ones((9, 9), dtype=np.float32)))
    save(tmp_path / "deep.tif", Image.fromarray(np.full((9, 9), 70_000, dtype=np.int32)))
    write_bomb(tmp_path / "bomb.png")
    Image.new("L", (100_001, 1)).save(tmp_path / "strip.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "vector.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    contents = {"empty.png": b"", "text.jpg": b"no image", "cut.png": png[:2000], "cut.jpg": jpeg[:800]}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    expected = {
        "empty.png": "is empty", "text.jpg": "is not an image; allowed: PNG, JPEG, WEBP, BMP, TIFF, GIF, .*",
        "vector.png": "is not an image; allowed: .*", "cut.png": r"cannot be decoded \(.*\)",
        "cut.jpg": r"cannot be decoded \(.*\)", "missing.png": "No such file or directory",
        "link.png": "No such file or directory", "folder.png": "Is a directory",
        "bomb.png": "has 60,000 × 60,000 pixels; allowed: up to 200,000,000 in total, and 100,000 a side",
        "strip.png": "has 100,001 × 1 pixels; allowed: up to 200,000,000 in total, and 100,000 a side",
        "float.tif": "has floating-point grey values up to 1; no training image had such; convert .*",
        "deep.tif": "has 32-bit grey values from 70000 to 70000; allowed: 0 to 65,535; convert it to 8 bits",
    }  # fmt: skip
    for name, reason in expected.items():
        with pytest.raises(InputError) as caught:
            pictures.read(tmp_path / name, 28, 3)
        assert re.fullmatch(f"{re.escape(str(tmp_path / name))}: {reason}", str(caught.value)), caught.value
