"""Stage prepare: turn a data source into three outputs that later stages depend on separately.

- images: the unlabelled pool and the validation split. The validation labels are included, because
  pretraining monitors a kNN accuracy on them.
- labels: the labels of the pool and the class names.
- test: the test split, images and labels. Only `evaluate` reads it.

    python -m stages.prepare
"""

from stages.errors import reported
from stages.files import provenance
from stages.files.locks import require_writable
from stages.files.paths import IMAGES, LABELS, METRICS, TEST
from stages.prepare import official, own_images
from stages.settings import load
from stages.settings.values import FOLDER
from stages.training.randomness import Stream


def main() -> None:
    """Read the source, split it, write the three outputs."""
    settings = load.parameters("prepare")
    data, stream = settings.data, Stream.of(settings.seeds.split, "prepare")
    require_writable(IMAGES, LABELS, TEST, METRICS / "data.json")
    source = own_images if data.source == FOLDER else official
    prepared = source.prepare(data, stream)
    # NOTE: the source images are not hashed for provenance: later stages hash the packs written here.
    prepared.write(provenance.made_from("prepare", inputs=False))
    sizes = (len(part.rows) for part in (prepared.pool, prepared.validation, prepared.test))
    print("prepared: {:,} images in the pool, {:,} validation, {:,} test".format(*sizes))


if __name__ == "__main__":
    with reported():
        main()
