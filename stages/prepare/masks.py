"""Finds masks beside pictures: drawings of what is in a picture, which are no pictures themselves.

Masks are recognised by a name that belongs to a picture: `a_mask.png` beside `a.png`, or a folder `masks` of
which every file has a picture of the same name.
"""

import re
from collections.abc import Iterable

FOLDERS = {
    "masks", "mask_images", "segmentations", "segmentation_masks", "ground_truth", "groundtruth", "gt",
    "annotations", "labels",
}  # fmt: skip
PICTURES = {"images", "image", "imgs", "img", "pictures", "photos"}
_STEM = re.compile(r"(.+?)[ ._-]+(mask|masks|seg|segmentation|gt|groundtruth|ground_truth)([ _-]*\d+)?", re.I)


def find_masks(files: Iterable[str]) -> dict[str, str]:
    """The picture of each mask among some files; paths have `/`."""
    files = list(files)
    folders = {folder for file in files if (folder := _mask_folder(file)) is not None}
    if not folders and not any(_STEM.fullmatch(_stem(file)) for file in files):
        return {}
    named = {_without_suffix(file): file for file in files}
    masks = {}
    for file in files:
        matched = _STEM.fullmatch(_stem(file))
        base = file.rpartition("/")[0] + "/" + matched[1] if matched else ""
        if (picture := named.get(base.removeprefix("/"))) not in (None, file):
            masks[file] = picture
    pictures = {_key(file): file for file in files if _mask_folder(file) is None and file not in masks}
    for folder in sorted(folders):
        inside = {file: pictures.get(_key(file)) for file in files if _mask_folder(file) == folder}
        if None not in inside.values():
            masks |= {file: str(picture) for file, picture in inside.items()}
    return masks


def _stem(file: str) -> str:
    return _without_suffix(file.rpartition("/")[2])


def _without_suffix(file: str) -> str:
    return file.rpartition(".")[0]


def _mask_folder(file: str) -> str | None:
    """The first folder in the path of a file that is named as one of masks, with the folders above it."""
    parents = file.split("/")[:-1]
    for depth, name in enumerate(parents):
        if name.casefold() in FOLDERS:
            return "/".join(parents[: depth + 1])
    return None


def _key(file: str) -> str:
    """What a mask and its picture have in common: the path without suffix and without such folders."""
    *parents, _ = file.split("/")
    parts = [name for name in parents if name.casefold() not in FOLDERS | PICTURES]
    matched = _STEM.fullmatch(stem := _stem(file))
    in_folder = _mask_folder(file) is not None
    return "/".join([*parts, matched[1] if matched and in_folder else stem])
