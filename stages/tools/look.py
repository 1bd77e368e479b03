"""Reads a folder of images as the stage `prepare` does, for `init`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.errors import InputError
from stages.prepare import layout, own_images
from stages.prepare.columns import Record
from stages.prepare.duplicates import MANY
from stages.prepare.parts import Prepared
from stages.settings import load
from stages.settings.schema import Params
from stages.settings.yaml_text import parsed
from stages.tools import fitting_images, one_scene, rehearsal
from stages.tools.fitting_images import Choices, Hardware
from stages.tools.params_file import with_values
from stages.tools.survey import Survey, held_out, is_grey, read_headers, survey
from stages.training.randomness import Stream

TWINS = 0.99  # the correlation of copies


@dataclass(frozen=True)
class Look:
    """What a folder has, and what had to be chosen to read it.

    Attributes:
        contents: what is in it.
        pool: some of its images, uint8 (n, C, H, W); one channel if they have no colour.
        size: the side of the images, and why.
        choices: how many are held out for validation, and from which correlation on an image is a copy.
    """

    contents: Survey
    pool: np.ndarray
    size: tuple[int, str]
    choices: Choices


def look(folder: Path, path: str, text: str, hardware: Hardware) -> Look:
    """Read the folder; it fills the cache of decoded images.

    Args:
        path: of the folder, for params.yaml.
        text: the content of params.yaml.

    Raises:
        InputError: what `prepare` would raise.
    """
    records, _, _ = layout.scan(folder)
    headers = read_headers(folder, [record.file for record in records])
    fit = fitting_images.fit(headers)
    size = fitting_images.image_size(headers, fit[0], hardware)
    choices = held_out_for_validation(records, settings_of(text, {}).data.folder.test)
    basis: Choices = {
        "data.source": ("folder", ""),
        "data.path": (path, ""),
        "data.image_size": size,
        "data.fit": fit,
        "data.channels": ("auto", ""),
        "data.train_limit": (None, ""),
        "data.test_limit": (None, ""),
    }
    prepared, kept = prepared_with(text, basis | choices)
    pool = prepared_pool(prepared)
    grey = pool.shape[1] == 1 or is_grey(pool)
    return Look(survey(headers, prepared, grey), pool[:, :1] if grey else pool, size, choices | kept)


def held_out_for_validation(records: Sequence[Record], test: float) -> Choices:
    """The fraction for validation; nothing where the folder names its images.

    Args:
        test: the fraction for the test.
    """
    if any(record.split == "validation" for record in records):
        return {}
    labelled = sum(record.label is not None and record.split != "test" for record in records)
    return {"data.folder.validation": fitting_images.validation(labelled, held_out(records, test))}


def prepared_with(text: str, basis: Choices) -> tuple[Prepared, Choices]:
    """The prepared images, and whether images that look like copies of test images are left out.

    Of pictures from a fixed camera none, or few, would be left.
    """
    given = settings_of(text, basis).data.folder.twins
    threshold = given or TWINS  # a value of `null` may be that of another folder
    twins: Choices = {"data.folder.twins": (threshold, "copies of test images are left out")}
    settings = settings_of(text, basis | twins)
    stream = Stream.of(settings.seeds.split, "prepare")
    failed = None
    try:
        prepared = own_images.prepare(settings.data, stream)
        left_out = prepared.counts["near_duplicates_of_test"]
        if left_out <= MANY * (left_out + len(prepared.pool.rows) + len(prepared.validation.rows)):
            return prepared, twins
    except InputError as error:
        failed = error
    reason = one_scene.why_kept(settings.data, threshold)
    if reason is None:
        if failed:
            raise failed
        return prepared, twins
    twins = {"data.folder.twins": (None, reason)}
    return own_images.prepare(settings_of(text, basis | twins).data, stream), twins


def prepared_pool(prepared: Prepared) -> np.ndarray:
    """Images of the pool, uint8 (n, C, H, W): evenly spaced ones, about as many as the timing takes."""
    rows = prepared.pool.rows
    return np.asarray(prepared.pool.images[rows[:: max(1, len(rows) // rehearsal.IMAGES)]])


def settings_of(text: str, choices: Choices) -> Params:
    """The settings that the file would have with some choices.

    Raises:
        InputError: they do not fit together; the file itself has no mistake.
    """
    return load.validated(parsed(with_values(text, *parts(choices))))


def parts(choices: Choices) -> tuple[dict[str, Any], dict[str, str]]:
    """The values and the reasons, by key."""
    values = {key: value for key, (value, _) in choices.items()}
    return values, {key: reason for key, (_, reason) in choices.items()}
