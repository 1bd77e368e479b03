"""Tells pictures of one scene from copies. Both correlate with images of the test, as copies do.

Pictures from a fixed camera look like copies of most others; a true copy looks like one picture, or a few.
"""

from pathlib import Path

import numpy as np

from stages.prepare import layout, own_images
from stages.prepare.duplicates import MANY, remove_copies
from stages.prepare.near_duplicates import standardise
from stages.settings.data import Data

SAMPLE = 2000  # images of the test, and of the others
FEWEST, SHARE = 5, 0.05  # test images that a picture of one scene looks like, at least: a number, a fraction


def why_kept(data: Data, threshold: float) -> str | None:
    """Why images that look like copies of test images should stay; None: they are copies, or few.

    Args:
        data: the folder; `prepare` has filled the cache of decoded images.
        threshold: the smallest correlation of copies.
    """
    path = Path(data.path)
    records, _, _ = layout.scan(path)
    images, cache, _, _ = own_images.decode_images(path, records, data)
    images, _ = remove_copies(own_images.split(images, data.folder)[0])
    tested = images.indices_of("test")
    rest = np.setdiff1d(np.arange(len(images)), tested)
    some, others = (rows[:: max(1, len(rows) // SAMPLE)] for rows in (tested, rest))
    if not len(some) or not len(others):
        return None
    of_test, of_others = (
        standardise(cache.thumbnails(), images.rows[rows]).flatten(1) for rows in (some, others)
    )
    alike = (of_others @ of_test.T >= threshold).sum(1).numpy()  # test images that each looks like
    share = float((alike > 0).mean())
    if share <= MANY or (typical := int(np.median(alike[alike > 0]))) < max(FEWEST, SHARE * len(some)):
        return None
    return (
        f"{share:.0%} of the images look like copies of test images, of {typical} at the median: pictures of "
        "one scene; name groups if they are films or series"
    )
