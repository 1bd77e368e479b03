"""Emoji of two vendors, from packages of npm."""

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.folders.packages import npm

VENDORS = ("google", "twitter")
EMOJI_VERSION = "16.0.0"
NO_PICTURE_OF_ITS_OWN = "Component"  # the category of the five skin tones, which are plain squares
PACKAGES = [
    npm(f"emoji-datasource-{vendor}", EMOJI_VERSION, sha256)
    for vendor, sha256 in (
        ("google", "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438"),
        ("twitter", "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877"),
    )
]


def write(packages: Sequence[Path], folder: Path) -> pd.DataFrame:
    """Write the emoji of all vendors; returns the rows of labels.csv."""
    rows = []
    for vendor, package in zip(VENDORS, packages, strict=True):
        content = files_in(package, "package/emoji.json", f"package/img/{vendor}/64/")
        for emoji in json.loads(content["package/emoji.json"]):
            if emoji["category"] == NO_PICTURE_OF_ITS_OWN:
                continue
            for picture in (emoji, *emoji.get("skin_variations", {}).values()):
                file = f"{vendor}-{picture['image']}"
                (folder / file).write_bytes(content[f"package/img/{vendor}/64/{picture['image']}"])
                rows.append({"file": file, "label": emoji["category"], "group": emoji["unified"]})
    return pd.DataFrame(rows)


def files_in(package: Path, *prefixes: str) -> dict[str, bytes]:
    """The files in a package of npm whose paths start with one of the prefixes, by path, read in one pass."""
    content = {}
    with tarfile.open(package) as archive:
        for member in archive:
            if member.name.startswith(prefixes) and (file := archive.extractfile(member)):
                content[member.name] = file.read()
    return content
