import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image

from stages.images import pictures
from stages.prepare import decode, row_cache
from stages.prepare.decode import FileInfo, PixelCache, inspect, inspect_all


def write_images(folder: Path, count: int, mode: str = "RGB") -> list[Path]:
    random = np.random.default_rng(count)
    paths = []
    for number in range(count):
        path = folder / f"{number}.png"
        Image.fromarray(random.integers(0, 255, (20, 30, 3), dtype=np.uint8)).convert(mode).save(path)
        paths.append(path)
    return paths


def digests(paths: list[Path]) -> np.ndarray:
    infos = inspect_all(paths[0].parent, [path.name for path in paths])
    assert infos.errors == {}
    return infos.digests


def add(cache: PixelCache, paths: list[Path]) -> dict[bytes, str]:
    return cache.add(paths[0].parent, [path.name for path in paths], digests(paths))


def is_cached(cache: PixelCache, path: Path) -> bool:
    """Whether the cached pixels of a file equal the decoded ones."""
    (row,) = cache.rows(digests([path]))
    return bool((cache.images()[row] == pictures.read(path, 16, 3)).all())


@pytest.mark.parametrize(
    ("mode", "grey"),
    [("RGB", False), ("P", False), ("RGBA", False), ("L", True), ("LA", True), ("1", True), ("I;16", True)],
)
def test_grey_images_are_recognised_by_the_header(tmp_path: Path, mode: str, grey: bool) -> None:
    Image.new(mode, (9, 9)).save(tmp_path / "a.png")
    info = inspect(tmp_path / "a.png")
    assert isinstance(info, FileInfo)
    assert info.header.grey == grey


def test_inspect_returns_why_a_file_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("text")
    assert inspect(tmp_path / "empty.png") == "is empty"
    assert str(inspect(tmp_path / "text.png")).startswith("is not an image; allowed: PNG")
    assert inspect(tmp_path / "gone.png") == "No such file or directory"


def test_cached_images_equal_decoded_images(tmp_path: Path) -> None:
    paths = write_images(tmp_path, 7)
    cache = PixelCache(16, 3, folder=tmp_path / "cache")
    assert add(cache, paths) == {}
    assert all(is_cached(cache, path) for path in paths)


def test_fewer_large_images_are_decoded_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_cache, "CORES", 1)
    paths = write_images(tmp_path, 20)
    sizes: list[int] = []
    parallel = row_cache.parallel

    def counted(*arguments: Any) -> Any:
        for chunk in parallel(*arguments):
            sizes.append(len(chunk))
            yield chunk

    monkeypatch.setattr(row_cache, "parallel", counted)
    for size, expected in ((28, [20]), (400, [6, 6, 6, 2]), (1024, [4, 4, 4, 4, 4])):
        sizes.clear()
        distinct = np.arange(len(paths), dtype=np.uint8)[:, None].repeat(32, 1)
        PixelCache(size, 3, folder=tmp_path / "cache").add(tmp_path, [path.name for path in paths], distinct)
        assert sizes == expected


def test_a_second_run_decodes_new_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_images(tmp_path, 12)
    add(PixelCache(16, 3, folder=tmp_path / "cache"), paths[:9])
    decode_file, decoded = pictures.decode, []

    def counted(path: Path, *rule: Any) -> pictures.Decoded:
        decoded.append(path)
        return decode_file(path, *rule)

    monkeypatch.setattr(decode.pictures, "decode", counted)
    second = PixelCache(16, 3, folder=tmp_path / "cache")
    add(second, paths)
    assert sorted(decoded) == sorted(paths[9:])
    assert len(second.images()) == 12
    monkeypatch.setattr(PIL, "__version__", "0.1")  # another version may decode to other bytes
    assert len(PixelCache(16, 3, folder=tmp_path / "cache")) == 0
    other = PixelCache(16, 1, folder=tmp_path / "cache")  # another number of channels has its own cache
    assert len(other) == 0
    assert other.rows(digests(paths)).tolist() == [-1] * 12


def test_equal_files_are_decoded_once(tmp_path: Path) -> None:
    paths = write_images(tmp_path, 2)
    paths[1].write_bytes(paths[0].read_bytes())
    cache = PixelCache(16, 3, folder=tmp_path / "cache")
    add(cache, paths)
    assert len(cache.images()) == 1


def test_files_that_cannot_be_decoded_are_reported_and_all_others_are_cached(tmp_path: Path) -> None:
    paths = write_images(tmp_path, 5)
    paths[2].write_bytes(paths[2].read_bytes()[:-400])
    cache = PixelCache(16, 3, folder=tmp_path / "cache")
    errors = add(cache, paths)
    assert errors.keys() == {digests(paths)[2].tobytes()}
    assert next(iter(errors.values())).startswith("cannot be decoded (")
    assert len(cache) == len(cache.images()) == 4
    assert is_cached(cache, paths[4])
    assert cache.rows(digests(paths)).tolist() == [0, 1, -1, 2, 3]


@pytest.mark.parametrize("damage", ["pixels cut", "keys cut", "a bit", "pixels gone", "more pixels"])
def test_damaged_cache_entries_are_not_used(tmp_path: Path, damage: str) -> None:
    paths = write_images(tmp_path, 6)
    add(PixelCache(16, 3, folder=tmp_path / "cache"), paths)
    pixels, keys = sorted((tmp_path / "cache").iterdir(), reverse=True)
    content = bytearray(pixels.read_bytes())
    if damage == "pixels cut":  # killed in the middle of an image
        pixels.write_bytes(content[:-100])
    elif damage == "keys cut":
        keys.write_bytes(keys.read_bytes()[:-10])
    elif damage == "a bit":
        content[4 * 3 * (16**2 + 24**2) + 4 * 16 + 5] ^= 1  # a row: pixels, thumbnail, hash
        pixels.write_bytes(content)
    elif damage == "pixels gone":
        pixels.unlink()
    else:  # killed before the keys were written
        pixels.write_bytes(content + bytes(500))
    cache = PixelCache(16, 3, folder=tmp_path / "cache")
    intact = {"pixels cut": 5, "keys cut": 5, "a bit": 4, "pixels gone": 0, "more pixels": 6}[damage]
    assert len(cache) == intact
    add(cache, paths)
    assert all(is_cached(cache, path) for path in paths)


@pytest.mark.parametrize("count", [3, None])
def test_without_sched_getaffinity_all_cores_are_used(
    count: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS has no such function, and `cpu_count` may return None."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    # The module is loaded under another name, because reloading it would replace its classes for other tests.
    spec = importlib.util.spec_from_file_location("row_cache_on_macos", row_cache.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    assert (count or 1) == module.CORES
