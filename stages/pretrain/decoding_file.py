"""The file beside the prepared images that says how image files became pixels."""

from stages.files.json_files import read_json
from stages.files.paths import DECODING, IMAGES
from stages.networks.pixel_rule import Decoding


def read_decoding() -> Decoding:
    """The rule by which the images were decoded; without a file, as for MNIST, the usual one.

    Raises:
        InputError: the file is damaged.
    """
    path = IMAGES / DECODING
    if not path.exists():
        return Decoding()
    return Decoding.model_validate(read_json(path, Decoding))
