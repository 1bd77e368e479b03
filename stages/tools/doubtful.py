"""What is doubtful about a folder of images, before the hours are spent."""

import re
from collections.abc import Iterator, Sequence

from stages.tasks.power import ENOUGH_TEST, ENOUGH_VALIDATION, FEWEST_UNITS, smallest_gain
from stages.tools.fitting import ENOUGH_EPOCHS
from stages.tools.survey import Survey

RARE = 5  # labels of a class in the pool
FEW_TESTED = 10  # images of a class in the test
MOSTLY = 0.6  # of the test images in one class: always saying so looks good
NUMBERS = 20  # so many classes that are all numbers look like measurements, not like classes
SMALL_POOL = 500  # images
LISTED = 5  # names in a message


def doubts(folder: Survey, budgets: Sequence[int | str], passes: float) -> Iterator[str]:
    """One sentence for each doubt.

    Args:
        passes: how often finetuning sees each image with all labels.
    """
    if not folder.classes:
        yield (
            "no image has a label: there is pretraining and no classifier; python -m stages.tools.suggest "
            "then names images to label"
        )
        return
    if folder.test_units < ENOUGH_TEST:
        groups = f", whose groups count as {folder.test_units:,}" if folder.test_units < folder.test else ""
        yield (
            f"the test has {folder.test:,} labelled images{groups}; {ENOUGH_TEST} or more show smaller gains "
            "(data.folder.test holds out more of them)"
        )
    if folder.validation_labels < ENOUGH_VALIDATION:
        yield (
            f"validation has {folder.validation_labels} labelled images; with fewer than {ENOUGH_VALIDATION} "
            "recipes are chosen by cross-validation, which is less sure, and predict and suggest do not "
            "choose between methods"
        )
    if folder.pool < SMALL_POOL:
        yield f"the pool has {folder.pool:,} images; pretraining on so few seldom helps: add unlabelled ones"
    if rare := sorted(name for name, labels in folder.classes.items() if labels < RARE):
        yield f"classes with fewer than {RARE} labels for training: {_listed(rare)}"
    if untested := sorted(name for name, labels in folder.test_classes.items() if not labels):
        yield f"classes without an image in the test: {_listed(untested)}"
    if few := sorted(name for name, labels in folder.test_classes.items() if 0 < labels < FEW_TESTED):
        yield f"classes with fewer than {FEW_TESTED} test images, whose recall says little: {_listed(few)}"
    largest = max(folder.test_classes, key=folder.test_classes.__getitem__)
    if (share := folder.test_classes[largest] / max(1, sum(folder.test_classes.values()))) >= MOSTLY:
        yield (
            f"{share:.0%} of the test images are {largest!r}, so a model that always says so seems good; "
            "macro recall counts every class the same"
        )
    if len(folder.classes) >= NUMBERS and all(re.fullmatch(r"[-+0-9.,]+", name) for name in folder.classes):
        yield f"all {len(folder.classes)} classes are numbers: if they are measurements, make ranges of them"
    if lists := sorted(name for name in folder.classes if re.search(r"[|;,]", name)):
        yield f"labels that look like lists: {_listed(lists)}; each image has one class here"
    if alike := folder.counts.get("test_resembles_pool"):
        yield (
            f"{alike:,} test images resemble an image of the pool and may flatter the result; give images of "
            "the same thing one name in the column group of labels.csv"
        )
    if passes < ENOUGH_EPOCHS:
        yield (
            f"finetuning passes through all labels only {passes:.0f} times, for lack of time; the control "
            "may then be cut short, and a gain over it with all labels says little"
        )
    if len(budgets) == 1:
        yield f"{folder.labels:,} labels for training are too few for a smaller budget beside all of them"


def what_the_test_shows(folder: Survey, budgets: list[int | str]) -> str | None:
    """The smallest gain that the test can show at each budget; None without classes or test."""
    if not folder.classes or not folder.test:
        return None
    if folder.test_units < FEWEST_UNITS:
        return f"{folder.test} labelled test images count as {folder.test_units}: no gain can be shown"
    gains = []
    for budget in budgets:
        labels = folder.labels if budget == "all" else int(budget)
        gain = 100 * smallest_gain(folder.test_units, labels / len(folder.classes))
        gains.append(f"{gain:.1f} points at {'all ' if budget == 'all' else ''}{labels:,} labels")
    return f"at best the test shows gains from about {', '.join(gains)} (draws of labels not counted)"


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(map(repr, names[:LISTED])) + rest
