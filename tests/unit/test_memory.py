"""Small files with many pixels: what decoding takes is known before, refused or shared."""

import io
import os
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.errors import InputError
from stages.images import memory, pictures
from stages.images.pictures import ImageError
from stages.prepare import decode
from stages.prepare.appearance import survey
from tests.image_files import bomb, write_bomb

RGB, RGBA = 2, 6  # types of pixels in PNG


def test_many_pixels_of_four_channels_are_refused_and_as_many_grey_ones_are_not(tmp_path: Path) -> None:
    write_bomb(tmp_path / "a.png", 14_000, bits=8, colours=RGBA)
    message = (
        "a.png: has 14,000 × 14,000 pixels of mode RGBA, which take 2.4 GB of memory to decode; "
        "allowed: up to 2 GB; make it smaller"
    )
    with pytest.raises(ImageError) as caught:
        pictures.read(tmp_path / "a.png", 28, 3)
    assert str(caught.value) == f"{tmp_path}/{message}"
    assert str(survey(tmp_path / "a.png")) == message.removeprefix("a.png: ")
    write_bomb(tmp_path / "grey.png", 14_000)
    with pytest.raises(ImageError, match="cannot be decoded"):  # its rows are missing
        pictures.read(tmp_path / "grey.png", 28, 3)


def save(image: Image.Image, **options: object) -> Image.Image:
    file = io.BytesIO()
    image.save(file, **options)  # type: ignore[arg-type]
    return Image.open(file)


def test_a_large_photograph_takes_little_because_it_is_decoded_reduced() -> None:
    photograph = save(Image.new("RGB", (10_000, 10_000)), format="JPEG")
    pixels = photograph.width * photograph.height
    photograph.draft(None, (448, 448))
    assert memory.needed(photograph, pixels) < memory.ALLOWED / 100
    progressive = save(Image.new("RGB", (10_000, 10_000)), format="JPEG", progressive=True)
    progressive.draft(None, (448, 448))
    assert memory.ALLOWED / 5 < memory.needed(progressive, pixels) < memory.ALLOWED / 2


def test_a_jpeg_whose_channels_come_one_by_one_is_held_like_a_progressive_one() -> None:
    """libjpeg then holds all coefficients, which Pillow does not say."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, format="JPEG")
    one_scan = file.getvalue()
    start = one_scan.index(b"\xff\xda\0\x0c\3")  # the scan of three channels
    one_by_one = one_scan[:start] + b"\xff\xda\0\x08\1" + one_scan[start + 5 : start + 7] + b"\0\x3f\0"
    images = [Image.open(io.BytesIO(content)) for content in (one_scan, one_by_one)]
    needed = [memory.needed(image, 64 * 64) for image in images]
    assert needed[1] - needed[0] == 64 * 64 * 3 * memory.COEFFICIENTS


@pytest.mark.parametrize(
    "content", [bomb(14_000, 8, RGBA), struct.pack("<IiiHHIIIIII", 40, 14_000, 28_000, 1, 32, *[0] * 6)]
)
def test_a_large_picture_in_an_icon_is_refused_before_it_is_decoded(tmp_path: Path, content: bytes) -> None:
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(content), 22)
    (tmp_path / "a.ico").write_bytes(struct.pack("<HHH", 0, 1, 1) + entry + content)
    reason = decode.inspect(tmp_path / "a.ico")
    assert reason == "is an icon of 14,000 × 14,000 pixels; allowed: up to 1,024 × 1,024"


@pytest.mark.parametrize("kind", ["png", "bmp"])
def test_an_icon_is_read(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (64, 64), (200, 0, 0)).save(tmp_path / "a.ico", bitmap_format=kind, sizes=[(64, 64)])
    assert np.all(pictures.read(tmp_path / "a.ico", 32, 3).mean((1, 2)) == [200, 0, 0])


def test_a_damaged_icon_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.ico").write_bytes(struct.pack("<HHH", 0, 1, 9))
    with pytest.raises(ImageError, match=r"a\.ico: cannot be decoded"):
        pictures.read(tmp_path / "a.ico", 32, 3)


def test_threads_share_the_memory() -> None:
    budget, lock, taken, most = memory.Budget(10), threading.Lock(), [0], [0]

    def take(size: int) -> None:
        with budget.taken(size):
            with lock:
                taken[0] += size
                most[0] = max(most[0], taken[0])
            time.sleep(0.002)
            with lock:
                taken[0] -= size

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(take, [3, 10, 4, 1, 7, 3, 3, 10] * 4))
    assert taken == [0]
    assert 3 < most[0] <= 10


def test_memory_comes_back_after_an_error() -> None:
    budget = memory.Budget(10)
    for _ in range(2):
        with pytest.raises(InputError), budget.taken(10):
            raise InputError("damaged")


@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_a_device_and_a_pipe_are_no_images(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    if kind == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(path)
    with pytest.raises(ImageError) as caught:
        pictures.read(path, 28, 3)
    assert str(caught.value) == f"{path}: is not a file"
