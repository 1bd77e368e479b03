"""The parameters that `init` chooses for planted folders, and what it doubts."""

from typing import Any

import numpy as np
import pytest

from stages.prepare.columns import Record
from stages.settings import load
from stages.tools import doubtful, fitting, fitting_images
from stages.tools.fitting_images import Hardware
from stages.tools.init import duration
from stages.tools.rehearsal import Times
from stages.tools.survey import Headers, Survey, held_out, is_grey

FIVE = {f"class {number}": 524 for number in range(5)}
LAPTOP, GPU = Hardware(cores=4, gpu=False), Hardware(cores=16, gpu=True)


def headers(width: int, height: int, shapes: int = 1) -> Headers:
    return Headers(
        (min(width, height),), shapes, (width, height), max(width, height) / min(width, height), 0.0
    )


def folder(classes: dict[str, int] = FIVE, **changes: Any) -> Survey:
    values: dict[str, Any] = {
        "headers": headers(800, 600), "channels": 3, "stored_channels": 3, "pool": 12_674, "classes": classes,
        "validation_labels": 387,
        "test": 808, "test_units": 808, "test_classes": dict.fromkeys(classes, 100), "counts": {},
    }  # fmt: skip
    return Survey(**values | changes)


@pytest.mark.parametrize(
    ("found", "hardware", "fit", "side"),
    [
        (headers(28, 28), LAPTOP, "crop", 28),  # every pixel is kept
        (headers(32, 32), LAPTOP, "crop", 32),
        (headers(50, 50), LAPTOP, "crop", 50),
        (headers(50, 40, shapes=7), LAPTOP, "crop", 32),
        (headers(60, 50, shapes=7), LAPTOP, "crop", 48),
        (headers(24, 20, shapes=7), LAPTOP, "crop", 32),
        (headers(64, 64), LAPTOP, "crop", 64),
        (headers(1000, 800), LAPTOP, "crop", 64),
        (headers(1000, 800), GPU, "crop", 128),
        (headers(100, 110), GPU, "crop", 96),
        (headers(40, 100), LAPTOP, "pad", 64),
        (headers(25, 50), LAPTOP, "pad", 48),
        (headers(200, 20), LAPTOP, "stretch", 48),  # as many pixels as 63 × 63
        (Headers((), 0, (0, 0), 1.0, 0.0), LAPTOP, "crop", 32),  # no header can be read
    ],
)
def test_the_image_size_is_what_the_images_have_and_the_machine_can_do(
    found: Headers, hardware: Hardware, fit: str, side: int
) -> None:
    how, why = fitting_images.fit(found)
    assert how == fit
    assert ("at the median" in why) == (found.ratio > 1.05)
    assert fitting_images.image_size(found, how, hardware)[0] == side


@pytest.mark.parametrize(
    ("labelled", "unlabelled", "fraction", "why"),
    [
        (5_000, 0, 0.1, "about 500 of 5,000 labels: enough"),
        (1_200, 0, 0.1, "about 120 of 1,200 labels"),
        (1_000, 5_000, 0.12, "about 120 of 1,000 labels"),
        (700, 0, 0.18, "about 126 of 700"),
        (599, 0, 0.21, "about 126 of 599"),
        (400, 0, 0.3, "about 120 of 400"),
        (399, 0, 0.1, "even 30 % would have only about 119 labels"),
        (100, 0, 0.16, "even 30 % would have only about 30 labels"),  # 16 images
        (40, 0, 0.3, "even 30 % would have only about 12 labels"),
        (0, 5_000, 0.1, "even 30 % would have only about 0 labels"),
    ],
)
def test_validation_gets_labels_enough_to_choose_by_where_there_are_some(
    labelled: int, unlabelled: int, fraction: float, why: str
) -> None:
    records = [
        Record(f"{number}.png", "a" if number < labelled else None) for number in range(labelled + unlabelled)
    ]
    value, reason = fitting_images.validation(labelled, held_out(records, 0.2))
    assert (value, reason[: len(why)]) == (fraction, why)


def test_of_few_groups_as_many_are_held_out_as_make_images_enough() -> None:
    # By their names a tenth of these ten groups would be none of them.
    records = [Record(f"{n}.png", "a", None, f"D{n % 10:02}") for n in range(300)]
    held = held_out(records, 0.2)
    assert held(0.1) == (0, 0)
    fraction, _ = fitting_images.validation(300, held)
    assert held(fraction)[0] >= 16
    assert held(fraction - 0.01)[0] < 16
    named = [Record(one.file, one.label, "train", one.group) for one in records]
    assert held_out(named, 0.2)(0.3) == held_out(records, 0.0)(0.3)
    tested = [*named, Record("t.png", "a", "test", "D11")]
    assert held_out(tested, 0.2)(0.3) == held_out(named, 0.2)(0.3)


@pytest.mark.parametrize(
    ("side", "pretraining", "finetuning", "fits"),
    [
        (64, 30, 30, 64),
        (64, 31, 5, 48),
        (64, 5, 53, 48),
        (64, 5, 54, 32),
        (64, 5000, 5, 32),
        (32, 5000, 5000, 32),
        (28, 5000, 5000, 28),
        (50, 31, 1, 48),
        (128, 50, 10, 96),
    ],
)
def test_pixels_leave_time_for_training_enough(
    side: int, pretraining: int, finetuning: int, fits: int
) -> None:
    smaller, reason = fitting_images.affordable((side, "as they are"), 60.0 * pretraining, 60.0 * finetuning)
    assert smaller == fits
    longer = "pretraining" if pretraining > finetuning else "finetuning"
    minutes = max(pretraining, finetuning)
    assert reason == (
        "as they are" if fits == side else f"with {side} pixels enough {longer} would take {minutes} minutes"
    )


def test_grey_images_that_are_stored_in_colour_are_grey() -> None:
    assert fitting_images.channels(folder()) == ("auto", "there are colour images")
    assert fitting_images.channels(folder(channels=1, stored_channels=1)) == ("auto", "all images are grey")
    assert fitting_images.channels(folder(channels=1))[0] == 1
    colour = np.full((5, 3, 8, 8), 100, np.uint8)
    colour[2, 1, 3, 3] += 4
    assert is_grey(colour)
    colour[2, 1, 3, 3] += 1
    assert not is_grey(colour)


@pytest.mark.parametrize(
    ("classes", "labels", "budgets"),
    [
        (5, 2623, [50, 300, "all"]),
        (9, 4835, [90, 300, "all"]),
        (9, 48_350, [90, 1000, "all"]),
        (100, 5000, [1000, "all"]),
        (2, 100, [50, "all"]),
        (2, 60, ["all"]),
        (0, 0, ["all"]),
    ],
)
def test_there_are_never_more_labels_in_a_budget_than_in_the_folder(
    classes: int, labels: int, budgets: list[int | str]
) -> None:
    each = {f"class {number}": labels // classes for number in range(classes)}
    assert fitting.budgets(folder(each))[0] == budgets


def test_views_threads_and_width_follow_from_the_images_and_the_machine() -> None:
    size = (64, "")
    laptop = fitting.choices(folder(), "data/images", size, LAPTOP)
    assert (laptop["views.pretrain"][0], laptop["views.finetune"][0]) == ("photos", "photos_mild")
    assert (laptop["runtime.threads.pretrain"][0], laptop["encoder.width"][0]) == (4, 32)
    gpu = fitting.choices(folder(channels=1, pool=500_000), "data/images", size, GPU)
    assert (gpu["views.pretrain"][0], gpu["views.finetune"][0]) == ("clothes", "clothes_mild")
    assert (gpu["runtime.threads.pretrain"][0], gpu["encoder.width"][0]) == (8, 64)
    assert (laptop["pretrain.simclr.images"][0], gpu["pretrain.simclr.images"][0]) == (220_000, 500_000)


@pytest.mark.parametrize(
    ("pool", "rate", "images", "runs"),
    [
        (600, 1_000, 440_000, 3),
        (5_000, 100_000, 660_000, 3),
        (5_000, 1_101, 660_000, 3),
        (5_000, 1_099, 440_000, 3),  # images a second: three times 660,000 would take more than 30 minutes
        (5_000, 734, 440_000, 3),
        (5_000, 733, 660_000, 1),  # three would take too long, unless they were short: one, as long as may be
        (5_000, 367, 660_000, 1),
        (5_000, 366, 440_000, 1),
        (5_000, 200, 220_000, 1),
        (5_000, 1, 220_000, 1),
        (300_000, 300, 440_000, 1),
        (300_000, 740, 440_000, 3),
        (500_000, 840, 500_000, 3),
        (900_000, 100_000, 900_000, 3),
        (900_000, 10, 900_000, 1),
    ],
)
def test_pretrainings_are_long_then_several_as_far_as_their_time_allows(
    pool: int, rate: float, images: int, runs: int
) -> None:
    chosen = fitting.pretraining(pool, lambda seen: seen / rate)
    assert (chosen["pretrain.simclr.images"][0], chosen["pretrain.runs"][0]) == (images, runs)
    length, number = chosen["pretrain.simclr.images"][1], chosen["pretrain.runs"][1]
    assert f" passes through {pool:,} images" in length
    assert ("would take" in length) == (images < max(pool, 660_000))
    assert number.startswith("one takes ")
    assert ("does not cover" in number) == (runs == 1)


@pytest.mark.parametrize(
    ("pool", "passes"), [(600, "1,100"), (5_000, "132"), (67_000, "9.9"), (500_000, "1.3"), (700_000, "1.0")]
)
def test_passes_are_written_as_people_write_them(pool: int, passes: str) -> None:
    length = fitting.pretraining(pool, lambda _: 1.0)["pretrain.simclr.images"][1]
    assert length == f"{passes} passes through {pool:,} images"


@pytest.mark.parametrize(
    ("an_epoch", "epochs"), [(0.1, 50), (36.0, 50), (37.0, 32), (100.0, 16), (600.0, 2), (5000.0, 2)]
)
def test_finetuning_is_as_long_as_its_time_allows(an_epoch: float, epochs: int) -> None:
    number, reason = fitting.epochs(lambda number: number * an_epoch)
    assert number == epochs
    assert ("would take" in reason) == (epochs < 50)


# --- doubts


def test_a_good_folder_has_no_doubts() -> None:
    assert list(doubtful.doubts(folder(), [50, 300, "all"], 50)) == []


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"test": 60, "test_units": 60}, "the test has 60 labelled images; 300 or more"),
        ({"test": 808, "test_units": 56}, "the test has 808 labelled images, whose groups count as 56; 300"),
        ({"validation_labels": 40}, "validation has 40 labelled images"),
        ({"pool": 300}, "the pool has 300 images"),
        ({"classes": {"a": 500, "b": 4}}, "classes with fewer than 5 labels for training: 'b'"),
        ({"test_classes": {"a": 404, "b": 404, "c": 0}}, "classes without an image in the test: 'c'"),
        ({"test_classes": {"a": 400, "b": 399, "c": 9}}, "classes with fewer than 10 test images"),
        ({"test_classes": {"a": 485, "b": 323}}, "60% of the test images are 'a', so a model that always"),
        ({"classes": {f"{number}.5": 50 for number in range(25)}}, "all 25 classes are numbers"),
        ({"classes": {"cat": 500, "cat|dog": 500}}, "labels that look like lists: 'cat|dog'"),
        ({"counts": {"test_resembles_pool": 17}}, "17 test images resemble an image of the pool"),
    ],
)
def test_each_doubt_is_one_sentence_with_its_figure(changes: dict[str, Any], start: str) -> None:
    (doubt,) = doubtful.doubts(folder(**changes), [50, 300, "all"], 50)
    assert doubt.startswith(start)


def test_few_passes_of_finetuning_are_doubtful() -> None:
    assert list(doubtful.doubts(folder(), [50, 300, "all"], 16)) == []
    (doubt,) = doubtful.doubts(folder(), [50, 300, "all"], 4)
    assert doubt.startswith("finetuning passes through all labels only 4 times")


def test_digits_are_classes_and_no_doubt() -> None:
    digits = {str(digit): 100 for digit in range(10)}
    assert list(doubtful.doubts(folder(classes=digits), [100, "all"], 50)) == []


def test_without_labels_that_is_the_only_doubt() -> None:
    found = folder(classes={}, test_classes={}, test=0, test_units=0)
    (doubt,) = doubtful.doubts(found, ["all"], 50)
    assert doubt.startswith("no image has a label")
    assert doubtful.what_the_test_shows(found, ["all"]) is None


def test_the_smallest_gain_is_that_of_each_budget_and_larger_for_a_smaller_test() -> None:
    large, small = (
        doubtful.what_the_test_shows(folder(test_units=units), [50, "all"]) for units in (808, 56)
    )
    gains = "3.1 points at 50 labels, 2.2 points at all 2,620 labels"
    assert large == f"at best the test shows gains from about {gains} (draws of labels not counted)"
    assert "12.0 points at 50 labels, 8.5 points" in str(small)
    assert "no gain can be shown" in str(doubtful.what_the_test_shows(folder(test_units=3), [50]))


# --- time


def test_the_time_is_that_of_all_trainings(raw: dict[str, Any]) -> None:
    settings = load.validated(raw)
    times = Times(pretrain=0.1, finetune=0.01, pool=900)
    assert times.pretraining(settings) == pytest.approx(171.9)
    steps = settings.finetune.draws * (300 + 300 + 300)  # of the budgets 10, 900 and all
    expected = 2 * 171.9 * settings.pretrain.runs + 3 * steps * 0.01 * 2 / 2
    assert times.whole(settings, 900, 500, 2) == pytest.approx(expected)
    with_public = settings.model_copy(update={"baselines": ("imagenet",)})
    assert times.whole(with_public, 900, 500, 2) == pytest.approx(expected + 0.008 * 1400)


@pytest.mark.parametrize(
    ("seconds", "text"), [(4, "1 minutes"), (1234, "21 minutes"), (60_000, "16.7 hours")]
)
def test_a_duration_is_rounded(seconds: float, text: str) -> None:
    assert duration(seconds) == text
