from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image

from stages.images import pictures
from stages.prepare import decode
from stages.prepare.decode import Decoded, Seen, inspect, inspect_all


def files(folder: Path, count: int, mode: str = "RGB") -> list[Path]:
    random = np.random.default_rng(count)
    made = []
    for number in range(count):
        path = folder / f"{number}.png"
        Image.fromarray(random.integers(0, 255, (20, 30, 3), dtype=np.uint8)).convert(mode).save(path)
        made.append(path)
    return made


def digests(paths: list[Path]) -> np.ndarray:
    seen = inspect_all(paths[0].parent, [path.name for path in paths])
    assert seen.wrong == {}
    return seen.digests


def add(decoded: Decoded, paths: list[Path]) -> dict[bytes, str]:
    return decoded.add(paths[0].parent, [path.name for path in paths], digests(paths))


def is_there(decoded: Decoded, path: Path) -> bool:
    """Whether the pixels kept for a file are those of the decoder."""
    (row,) = decoded.rows(digests([path]))
    return bool((decoded.images()[row] == pictures.read(path, 16, 3)).all())


@pytest.mark.parametrize(
    ("mode", "grey"),
    [("RGB", False), ("P", False), ("RGBA", False), ("L", True), ("LA", True), ("1", True), ("I;16", True)],
)
def test_colours_are_told_by_the_header(tmp_path: Path, mode: str, grey: bool) -> None:
    Image.new(mode, (9, 9)).save(tmp_path / "a.png")
    seen = inspect(tmp_path / "a.png")
    assert isinstance(seen, Seen)
    assert seen.grey == grey


def test_why_a_file_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("text")
    assert inspect(tmp_path / "empty.png") == "is empty"
    assert str(inspect(tmp_path / "text.png")).startswith("is no image; allowed: PNG")
    assert inspect(tmp_path / "gone.png") == "No such file or directory"


def test_images_are_those_of_the_decoder_in_order(tmp_path: Path) -> None:
    paths = files(tmp_path, 7)
    decoded = Decoded(16, 3, tmp_path / "cache")
    assert add(decoded, paths) == {}
    assert all(is_there(decoded, path) for path in paths)


def test_of_large_images_fewer_are_decoded_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "CORES", 1)
    paths = files(tmp_path, 20)
    sizes: list[int] = []
    parallel = decode._parallel

    def counted(*arguments: Any) -> Any:
        for part in parallel(*arguments):
            sizes.append(len(part))
            yield part

    monkeypatch.setattr(decode, "_parallel", counted)
    for size, expected in ((28, [20]), (400, [6, 6, 6, 2]), (1024, [4, 4, 4, 4, 4])):
        sizes.clear()
        made_up = np.arange(len(paths), dtype=np.uint8)[:, None].repeat(32, 1)
        Decoded(size, 3, tmp_path / "cache").add(tmp_path, [path.name for path in paths], made_up)
        assert sizes == expected


def test_a_second_run_decodes_what_is_new_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = files(tmp_path, 12)
    add(Decoded(16, 3, tmp_path / "cache"), paths[:9])
    read, asked = pictures.read, []

    def counted(path: Path, size: int, channels: int) -> np.ndarray:
        asked.append(path)
        return read(path, size, channels)

    monkeypatch.setattr(decode.pictures, "read", counted)
    again = Decoded(16, 3, tmp_path / "cache")
    add(again, paths)
    assert sorted(asked) == sorted(paths[9:])
    assert len(again.images()) == 12
    monkeypatch.setattr(PIL, "__version__", "0.1")  # another Pillow may decode to other bytes
    assert len(Decoded(16, 3, tmp_path / "cache")) == 0
    other = Decoded(16, 1, tmp_path / "cache")  # another number of channels is another cache
    assert len(other) == 0
    assert other.rows(digests(paths)).tolist() == [-1] * 12


def test_equal_files_are_decoded_once(tmp_path: Path) -> None:
    paths = files(tmp_path, 2)
    paths[1].write_bytes(paths[0].read_bytes())
    decoded = Decoded(16, 3, tmp_path / "cache")
    add(decoded, paths)
    assert len(decoded.images()) == 1


def test_files_that_cannot_be_decoded_are_named_and_the_rest_is_there(tmp_path: Path) -> None:
    paths = files(tmp_path, 5)
    paths[2].write_bytes(paths[2].read_bytes()[:-400])
    decoded = Decoded(16, 3, tmp_path / "cache")
    wrong = add(decoded, paths)
    assert wrong.keys() == {digests(paths)[2].tobytes()}
    assert next(iter(wrong.values())).startswith("cannot be decoded (")
    assert len(decoded) == len(decoded.images()) == 4
    assert is_there(decoded, paths[4])
    assert decoded.rows(digests(paths)).tolist() == [0, 1, -1, 2, 3]


@pytest.mark.parametrize("damage", ["pixels cut", "keys cut", "a bit", "pixels gone", "more pixels"])
def test_a_damaged_cache_is_not_used(tmp_path: Path, damage: str) -> None:
    paths = files(tmp_path, 6)
    add(Decoded(16, 3, tmp_path / "cache"), paths)
    pixels, keys = sorted((tmp_path / "cache").iterdir(), reverse=True)
    content = bytearray(pixels.read_bytes())
    if damage == "pixels cut":  # a kill in the middle of an image
        pixels.write_bytes(content[:-100])
    elif damage == "keys cut":
        keys.write_bytes(keys.read_bytes()[:-10])
    elif damage == "a bit":
        content[4 * 768 + 5] ^= 1
        pixels.write_bytes(content)
    elif damage == "pixels gone":
        pixels.unlink()
    else:  # pixels were written, their keys not yet
        pixels.write_bytes(content + bytes(500))
    decoded = Decoded(16, 3, tmp_path / "cache")
    kept = {"pixels cut": 5, "keys cut": 5, "a bit": 4, "pixels gone": 0, "more pixels": 6}[damage]
    assert len(decoded) == kept
    add(decoded, paths)
    assert all(is_there(decoded, path) for path in paths)
