"""Stage prepare: a data source becomes three outputs that later stages depend on separately.

- images: the unlabelled pool and the validation split (with the validation labels, which the
  online kNN of pretraining reads);
- labels: the pool's labels and the names of the classes;
- test: the test split, images and labels, for `evaluate` alone.

    python -m stages.prepare
"""

from stages import artifacts, params, provenance
from stages.errors import reported
from stages.prepare import gather, official
from stages.randomness import Stream
from stages.sections import FOLDER


def main() -> None:
    """Read the source, split it, write the three outputs."""
    settings = params.load("prepare")
    data, stream = settings.data, Stream.of(settings.seed, "prepare")
    artifacts.require_writable(
        artifacts.IMAGES, artifacts.LABELS, artifacts.TEST, artifacts.METRICS / "data.json"
    )
    source = gather if data.source == FOLDER else official
    found = source.prepared(data, stream)
    # NOTE: the images themselves are not hashed here: later stages hash what was made of them.
    found.write(provenance.made_from("prepare", inputs=False))
    sizes = (len(part.rows) for part in (found.pool, found.validation, found.test))
    print("prepared: {:,} images in the pool, {:,} validation, {:,} test".format(*sizes))


if __name__ == "__main__":
    with reported():
        main()
