"""The folders of real colour images, made from small packages that have the same files."""

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks.folders import FOLDERS, clip_art, emoji, satellite
from benchmarks.folders.__main__ import main
from benchmarks.folders.packages import Package, fetched
from benchmarks.folders.satellite import BLOCK, OCEAN, STEP, TILE, tiles
from stages.errors import InputError

DESERT, FOREST = 7, 20  # zones BWh and Dfc


def climate(*areas: tuple[slice, slice, int], scale: float = 1.0) -> np.ndarray:
    """Zones of a mosaic of 2 × 3 blocks: ocean but for these areas, in the mosaic's pixels."""
    zones = np.full((round(2 * BLOCK * scale), round(3 * BLOCK * scale)), OCEAN, dtype=np.uint8)
    for rows, columns, zone in areas:
        y, x = (slice(round(part.start * scale), round(part.stop * scale)) for part in (rows, columns))
        zones[y, x] = zone
    return zones


def of(zones: np.ndarray) -> dict[tuple[int, int], str | None]:
    """The tiles with their labels, by row and column."""
    return {(y, x): label for y, x, label in tiles(zones, 2 * BLOCK, 3 * BLOCK)}


def test_no_tile_reaches_into_another_block() -> None:
    found = of(climate((slice(0, 2 * BLOCK), slice(0, 3 * BLOCK), DESERT)))
    assert len(found) == 6 * 9 * 9
    for y, x in found:
        assert y // BLOCK == (y + TILE - 1) // BLOCK
        assert x // BLOCK == (x + TILE - 1) // BLOCK
    labelled = {place for place, label in found.items() if label == "B"}
    assert len(labelled) == 6 * 5 * 5
    assert all(y % TILE == 0 and x % TILE == 0 for y, x in labelled)
    assert any(y % TILE == STEP for y, _ in found)


@pytest.mark.parametrize("scale", [1.0, 2.4])
def test_a_label_needs_half_land_and_three_quarters_of_one_zone(scale: float) -> None:
    def tile(number: int, *parts: tuple[int, int]) -> list[tuple[slice, slice, int]]:
        """Rows of a tile of the first row, from the top: (how many, zone)."""
        areas, top = [], 0
        for rows, zone in parts:
            areas.append((slice(top, top + rows), slice(TILE * number, TILE * (number + 1)), zone))
            top += rows
        return areas

    found = of(
        climate(
            *tile(0, (26, DESERT)),
            *tile(1, (17, DESERT), (15, FOREST)),
            *tile(2, (12, FOREST)),
            *tile(3, (2, FOREST)),
            *tile(4, (28, FOREST)),
            scale=scale,
        )
    )
    first_row = {x // TILE: label for (y, x), label in found.items() if y == 0 and x % TILE == 0}
    assert first_row == {0: "B", 1: None, 2: None, 4: "D"}


def test_every_zone_number_has_its_main_zone() -> None:
    order = "Af Am As Aw BSh BSk BWh BWk Cfa Cfb Cfc Csa Csb Csc Cwa Cwb Cwc "
    order += "Dfa Dfb Dfc Dfd Dsa Dsb Dsc Dsd Dwa Dwb Dwc Dwd EF ET"
    names = order.split()
    assert [name[0] for name in names] == list(satellite.ZONES)
    assert len(names) + 1 == OCEAN


@pytest.fixture
def vendors(tmp_path: Path) -> list[Path]:
    """A package of each vendor with a hand in two tones, a flag, and a tone alone."""
    hand = {"unified": "270A", "image": "270a.png", "category": "People & Body"}
    hand["skin_variations"] = {"1F3FB": {"unified": "270A-1F3FB", "image": "270a-1f3fb.png"}}  # type: ignore[assignment]
    flag = {"unified": "1F1E9", "image": "1f1e9.png", "category": "Flags"}
    tone = {"unified": "1F3FB", "image": "1f3fb.png", "category": "Component"}
    packages = []
    for number, vendor in enumerate(emoji.VENDORS):
        package = tmp_path / f"{vendor}.tgz"
        with tarfile.open(package, "w:gz") as archive:

            def add(name: str, content: bytes, archive: tarfile.TarFile = archive) -> None:
                member = tarfile.TarInfo(f"package/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))

            for position, name in enumerate(("270a", "270a-1f3fb", "1f1e9", "1f3fb")):
                picture = io.BytesIO()
                Image.new("RGBA", (64, 64), (number, position, 0, 255)).save(picture, "PNG")
                add(f"img/{vendor}/64/{name}.png", picture.getvalue())
            add("emoji.json", json.dumps([hand, flag, tone]).encode())
        packages.append(package)
    return packages


def test_an_emoji_of_both_vendors_and_all_tones_is_one_group(vendors: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    table = emoji.write(vendors, folder)
    assert len(table) == 6
    assert set(table["file"]) == {path.name for path in folder.iterdir()}
    by_group = dict(list(table.groupby("group")))
    assert set(by_group) == {"270A", "1F1E9"}
    assert set(by_group["270A"]["file"]) == {
        f"{vendor}-{name}.png" for vendor in emoji.VENDORS for name in ("270a", "270a-1f3fb")
    }
    assert set(by_group["270A"]["label"]) == {"People & Body"}
    assert set(by_group["1F1E9"]["label"]) == {"Flags"}
    with Image.open(folder / "twitter-1f1e9.png") as picture:
        assert picture.getpixel((0, 0)) == (1, 2, 0, 255)


def test_a_folder_is_made_whole_with_its_table(
    vendors: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packages = [
        Package(file.name, hashlib.sha256(file.read_bytes()).hexdigest(), ["never"]) for file in vendors
    ]
    monkeypatch.setitem(FOLDERS, "emoji", (packages, emoji.write))
    folder = tmp_path / "made"
    main(["emoji", str(folder), "--packages", str(tmp_path)])
    table = pd.read_csv(folder / "labels.csv")
    assert list(table.columns) == ["file", "label", "group"]
    assert sorted(table["file"]) == sorted(path.name for path in folder.glob("*.png"))
    assert "6 images in 2 groups" in capsys.readouterr().out

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match="made: exists; remove it, or name another folder"):
        main(["satellite", str(folder), "--packages", str(tmp_path)])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_damaged_package_leaves_no_folder(vendors: list[Path], tmp_path: Path) -> None:
    (tmp_path / emoji.PACKAGES[0].file).write_bytes(vendors[0].read_bytes())  # not the one that is known
    with pytest.raises(InputError, match="its SHA-256 is"):
        main(["emoji", str(tmp_path / "made"), "--packages", str(tmp_path)])
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == []


def test_a_package_is_fetched_once_and_must_have_the_known_content(tmp_path: Path) -> None:
    write = "import pathlib; file = pathlib.Path('a.tgz'); assert not file.exists(); "
    command = [sys.executable, "-c", f"{write} file.write_bytes(b'content')"]
    digest = hashlib.sha256(b"content").hexdigest()
    for _ in range(2):
        assert fetched(Package("a.tgz", digest, command), tmp_path).read_bytes() == b"content"
    with pytest.raises(InputError, match=f"its SHA-256 is {digest}; 00 is expected"):
        fetched(Package("a.tgz", "00", command), tmp_path)
    with pytest.raises(InputError, match=r"b\.tgz: could not be fetched"):
        fetched(Package("b.tgz", digest, [sys.executable, "-c", "raise SystemExit(1)"]), tmp_path)
    with pytest.raises(InputError, match="no-such-program: is not installed"):
        fetched(Package("c.tgz", digest, ["no-such-program"]), tmp_path)


def test_drawings_of_a_debian_package_become_pages_in_class_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed")
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: art\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: a\n"
    )
    for name in clip_art.CLASSES:
        for series in ("crows", "doves"):  # with drawings of the same name
            drawings = tree / clip_art.ROOT / name / series / "birds"
            drawings.mkdir(parents=True)
            for number in range(2):
                Image.new("RGBA", (20, 40), (255, 0, 0, 255)).save(drawings / f"red {number}.png")
        Image.new("RGBA", (15, 40)).save(drawings / "tiny.png")
        (drawings / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    package = tmp_path / "art_1_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, package], check=True)
    known = Package(package.name, hashlib.sha256(package.read_bytes()).hexdigest(), ["never"])
    monkeypatch.setitem(FOLDERS, "clip_art", ([known], clip_art.write))
    monkeypatch.setattr(clip_art, "EACH", 4)
    main(["clip_art", str(tmp_path / "made"), "--packages", str(tmp_path)])
    assert "32 images\n" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "made").iterdir()} == set(clip_art.CLASSES)
    files = sorted((tmp_path / "made" / "food").iterdir())
    assert len(files) == 4
    assert {file.name for file in files} == {
        f"{series}-birds-red {number}.jpg" for series in ("crows", "doves") for number in (0, 1)
    }
    with Image.open(files[0]) as picture:
        assert (picture.size, picture.format, picture.mode) == ((1000, 800), "JPEG", "RGB")
        columns = np.asarray(picture)[400, [0, 290, 310, 500, 690, 710, 999]].astype(int)
    red = columns[:, 1] < 30
    assert red.tolist() == [False, False, True, True, True, False, False]
