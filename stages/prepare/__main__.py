"""Stage prepare: turn a data source into three outputs that later stages depend on separately.

- images: the unlabelled pool and the validation split. The validation labels are included, because
  pretraining monitors a kNN accuracy on them, and evaluate measures on them what `predict` chooses by.
- labels: the labels of the pool and the class names.
- test: the test split, images and labels. Only `evaluate` reads it.

    python -m stages.prepare
"""

from stages.errors import reported
from stages.files import provenance
from stages.files.locks import require_writable
from stages.files.paths import DATA, IMAGES, LABELS, TEST
from stages.prepare import official, own_images
from stages.prepare.parts import Prepared
from stages.settings import load
from stages.settings.values import FOLDER
from stages.tasks import power
from stages.training.randomness import Stream


def main() -> None:
    """Read the source, split it, write the three outputs."""
    settings = load.parameters("prepare")
    data, stream = settings.data, Stream.of(settings.seeds.split, "prepare")
    require_writable(IMAGES, LABELS, TEST, DATA)
    source = own_images if data.source == FOLDER else official
    prepared = source.prepare(data, stream)
    # NOTE: the source images are not hashed for provenance: later stages hash the packs written here.
    prepared.write(provenance.made_from("prepare", inputs=False))
    print(*what_the_test_shows(prepared), sep="\n", flush=True)
    sizes = (len(part.rows) for part in (prepared.pool, prepared.validation, prepared.test))
    print("prepared: {:,} images in the pool, {:,} validation, {:,} test".format(*sizes))


def what_the_test_shows(prepared: Prepared) -> list[str]:
    """Which gains the test split can show, before hours are spent; a warning where it is small."""
    images, units = len(prepared.test.rows), prepared.test.units()
    if not images:
        return []
    named = f"{images:,} labelled images" + (f", whose groups count as {units:,}" if units < images else "")
    if units < power.FEWEST_UNITS:
        return [f"warning: test: {named}; so few give no interval, and no gain can be shown"]
    gains = [
        f"{100 * power.smallest_gain(units, labels):.1f} points at {labels} label{'s' if labels > 1 else ''}"
        for labels in power.DISAGREEMENT
    ]
    of_test = "80 % power, draws of labels not counted"
    lines = [f"test: {named}; at best they show gains from about {', '.join(gains)} per class ({of_test})"]
    if units < power.ENOUGH_TEST:
        enough = 100 * power.smallest_gain(power.ENOUGH_TEST, 10)
        lines.append(
            "warning: the test split is small; label more of its images, or hold out more for it "
            f"(data.folder.test, data.test_limit): {power.ENOUGH_TEST} would show {enough:.1f} points at 10 "
            "labels per class"
        )
    return lines


if __name__ == "__main__":
    with reported():
        main()
