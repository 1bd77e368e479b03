"""Stage prepare: a data source becomes three outputs that later stages depend on separately.

- images: the unlabelled pool and the validation split (with the validation labels, which the
  online kNN of pretraining reads);
- labels: the pool's labels and the names of the classes;
- test: the test split, images and labels, for `evaluate` alone.

    python -m stages.prepare
"""

from stages.errors import reported
from stages.files import provenance
from stages.files.locks import require_writable
from stages.files.paths import IMAGES, LABELS, METRICS, TEST
from stages.prepare import official, own_images
from stages.settings import load
from stages.settings.schema import FOLDER
from stages.training.randomness import Stream


def main() -> None:
    """Read the source, split it, write the three outputs."""
    settings = load.parameters("prepare")
    data, stream = settings.data, Stream.of(settings.seed, "prepare")
    require_writable(IMAGES, LABELS, TEST, METRICS / "data.json")
    source = own_images if data.source == FOLDER else official
    found = source.prepared(data, stream)
    # NOTE: the images themselves are not hashed here: later stages hash what was made of them.
    found.write(provenance.made_from("prepare", inputs=False))
    sizes = (len(part.rows) for part in (found.pool, found.validation, found.test))
    print("prepared: {:,} images in the pool, {:,} validation, {:,} test".format(*sizes))


if __name__ == "__main__":
    with reported():
        main()
