"""Chooses, for a whole folder, which grey value is white and which ground lies behind transparent pixels.

It decodes only files whose headers say that they have more than 8 bits or can be transparent.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from stages.images import memory, pictures, tones
from stages.images.pictures import ImageError
from stages.networks.pixel_rule import Decoding
from stages.prepare.decode import DEEP, FileInfos
from stages.prepare.row_cache import RowCache

SURVEY = np.dtype([("low", np.float64), ("high", np.float64), ("ink", np.float64, 3)])
# A folder's white must not make most of its pictures black: 16 times as bright as half of them leaves 4 bits.
OUTLIER = 16
LOST = 16  # grey levels; ink that differs less from the ground is not seen
FEW = 0.01  # fraction of the transparent images whose ink may be lost before another ground is taken


def choose(
    folder: Path, files: Sequence[str], infos: FileInfos
) -> tuple[Decoding, dict[str, str], list[str]]:
    """The rule by which the images of a folder are decoded.

    Args:
        folder: the folder.
        files: its images.
        infos: what their headers say.

    Returns:
        The rule; why a file cannot be decoded by it, by its path; what to tell the user.
    """
    wanted = np.flatnonzero((infos.deep > 0) | infos.transparent)
    names = [files[int(index)] for index in wanted]
    digests = infos.digests[wanted]
    cache = RowCache("survey", SURVEY)
    failed = cache.add("prepare: bits and transparency", folder, names, digests, survey)
    rows = cache.rows(digests)
    values, read = cache.values()[rows[rows >= 0]], wanted[rows >= 0]
    bad = {names[index]: failed[digests[index].tobytes()] for index in np.flatnonzero(rows < 0)}
    lines: list[str] = []
    whites: dict[str, Any] = {}
    for number, kind in enumerate(DEEP):
        chosen = infos.deep[read] == number
        if kind is None or not chosen.any():
            continue
        of_kind = [files[index] for index in read[chosen]]
        reasons, white = _white(kind, of_kind, values[chosen])
        bad |= reasons
        if white is not None:
            whites[kind] = white
            lines.append(
                f"{len(of_kind) - len(reasons):,} images have {tones.words(kind)}; {white:,} is white in them"
            )
    transparent = ~np.isnan(values["ink"][:, 0])
    ground, line = _ground([files[index] for index in read[transparent]], values["ink"][transparent])
    return Decoding(ground=ground, **whites), bad, lines + line


def survey(path: Path) -> np.void | str:
    """The range of an image's values if they have more than 8 bits, and its ink if it is transparent."""
    row = np.full((), np.nan, dtype=SURVEY)
    try:
        with pictures.opened(path) as image, memory.reserved(image):
            if tones.has_deep_colours(image):
                row["low"], row["high"] = 0, max(np.ravel(image.getextrema()))
            elif tones.deep_type(image):
                row["low"], row["high"] = tones.extent(np.asarray(image))
            if image.has_transparency_data and not tones.deep_type(image):
                row["ink"] = tones.ink(image) or np.nan
    except ImageError as error:
        return error.reason
    return cast(np.void, row[()])


def _white(kind: str, files: Sequence[str], values: np.ndarray) -> tuple[dict[str, str], int | None]:
    """The value that is white in all images of one type; why some of them cannot be shown, by their path."""
    highest = float(np.max(values["high"]))
    if kind == "colours":
        if highest > tones.DIM:
            return {}, None
        of_all = (
            f"has 16-bit colours of which the upper 8 bits go up to {highest:.0f} of 255, as in all such "
            "images here; Pillow reads these bits only; convert it to 8 bits a channel"
        )
        return dict.fromkeys(files, of_all), None
    bad = {
        file: reason
        for file, low, high in zip(files, values["low"], values["high"], strict=True)
        if (reason := tones.unusable(kind, low, high)) is not None
    }
    highs = {file: high for file, high in zip(files, values["high"], strict=True) if file not in bad}
    half = float(np.median([high for high in highs.values() if high] or [0]))
    white = tones.white_level(kind, max(highs.values(), default=0))
    # Where 8 bits hold all values, a dark picture is as dark as its author saved it.
    if 0 < half * OUTLIER < white and (white > tones.WHITES[0] or half <= 1):
        outliers = {file: high for file, high in highs.items() if high > half * OUTLIER / 2}
        bad |= {
            file: f"has {tones.words(kind)} up to {high:g}, beside which most images, with {half:g}, would "
            "be black; convert all to 8 bits"
            for file, high in outliers.items()
        }
        highs = {file: high for file, high in highs.items() if file not in outliers}
    return bad, tones.white_level(kind, max(highs.values())) if highs else None


def _ground(files: Sequence[str], inks: np.ndarray) -> tuple[Any, list[str]]:
    """The ground on which the ink of the transparent images is seen, and what to tell the user.

    Args:
        files: the transparent images.
        inks: how far their ink is from each of GROUNDS, (n, 3).
    """
    names = list(tones.GROUNDS)
    if not len(files):
        return names[0], []
    lost = (inks < LOST).sum(0)
    best = 0 if lost[0] <= FEW * len(files) else int(lost.argmin())
    lines = [f"{len(files):,} images have transparent pixels; behind them is {names[best]}"]
    if lost[best]:
        one = files[int(np.flatnonzero(inks[:, best] < LOST)[0])]
        lines.append(f"warning: {lost[best]:,} of them show nothing on it (such as {one})")
    return names[best], lines
