"""File names that begin with what looks like the name of a class, such as cat.0.png and dog.0.png."""

import re
from collections import Counter
from collections.abc import Iterable

_NAME = re.compile(r"([^\W\d][^\d]*?)[ ._-]*\(?\d+\)?")
# What cameras and programs call their files.
_DEVICES = {
    "img", "image", "dsc", "dscn", "dscf", "p", "pic", "picture", "photo", "frame", "pxl", "vid", "mvi",
    "gopr", "dji", "screenshot", "scan", "page", "tile", "patch", "slice", "sample",
}  # fmt: skip
MOST = 100  # classes
FEWEST = 2  # images of each


def classes_in_names(files: Iterable[str]) -> list[str]:
    """The beginnings of the file names that look like classes; empty if they do not."""
    counts: Counter[str] = Counter()
    for file in files:
        matched = _NAME.fullmatch(file.rpartition("/")[2].rpartition(".")[0])
        if matched is None:
            return []
        counts[matched[1]] += 1
        if len(counts) > MOST:
            return []
    if (
        len(counts) < 2
        or min(counts.values()) < FEWEST
        or any(name.casefold() in _DEVICES for name in counts)
    ):
        return []
    return sorted(counts)
