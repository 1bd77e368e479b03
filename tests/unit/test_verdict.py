import math
from typing import Any

import pytest

from stages.compare.figures import measurable
from stages.compare.labels_needed import LabelsNeeded, labels_for_same, labels_needed, needed_clause
from stages.compare.statistics import Design
from stages.compare.verdict import (
    imported_sentence,
    pool_sentence,
    recall_sentence,
    sentence,
)
from stages.settings.values import CONTROL

LABELS = {"n10": 10, "n100": 100, "n1000": 1000}
FIVE = Design(draws=5, runs=1, images=400, units=400, labelled=2000)
SUMMARY: dict[str, Any] = {
    "scratch": {
        "n10": {"accuracy": 0.60, "accuracy_ci95": 0.05}, "n100": {"accuracy": 0.90, "accuracy_ci95": 0.01},
        "n1000": {"accuracy": 0.98, "accuracy_ci95": 0.001},
    },
    "simclr": {
        "n10": {"accuracy": 0.94, "accuracy_ci95": 0.01, "gain": 0.34, "gain_ci95": 0.06},
        "n100": {"accuracy": 0.905, "accuracy_ci95": 0.01, "gain": 0.005, "gain_ci95": 0.02},
        "n1000": {"accuracy": 0.95, "accuracy_ci95": 0.01, "gain": -0.03, "gain_ci95": 0.01},
    },
}  # fmt: skip


def test_a_gain_is_reported_with_the_labels_that_it_saves() -> None:
    assert sentence(SUMMARY, "simclr", "n10", LABELS, FIVE) == (
        "With 10 labels, simclr pretraining raises accuracy from 60.00 % to 94.00 %, +34.00 ± 6.00 points, "
        "over 5 draws; scratch needs about 320 labels to reach the same mean (without an interval)."
    )


def test_an_interval_that_includes_zero_is_no_measurable_gain() -> None:
    assert sentence(SUMMARY, "simclr", "n100", LABELS, FIVE) == (
        "With 100 labels, simclr pretraining brings no measurable gain: 90.00 % without it, 90.50 % with it, "
        "+0.50 ± 2.00 points, over 5 draws."
    )


def test_a_measurable_loss_is_reported_as_one() -> None:
    assert sentence(SUMMARY, "simclr", "n1000", LABELS, FIVE) == (
        "With 1,000 labels, simclr pretraining lowers accuracy from 98.00 % to 95.00 %, -3.00 ± 1.00 points, "
        "over 5 draws."
    )


def without_intervals() -> dict[str, Any]:
    """The summary at 10 labels without any interval."""
    return {m: {"n10": {k: v for k, v in b["n10"].items() if "ci95" not in k}} for m, b in SUMMARY.items()}


@pytest.mark.parametrize(
    ("draws", "words"),
    [(1, "on one draw; one draw has no interval"), (5, "in each of 5 draws; equal draws have no interval")],
)
def test_without_an_interval_the_difference_is_not_called_measurable(draws: int, words: str) -> None:
    assert sentence(without_intervals(), "simclr", "n10", {"n10": 10}, Design(draws, 1, 400, 400, 2000)) == (
        "With 10 labels, accuracy is 60.00 % from scratch and 94.00 % with simclr pretraining, +34.00 points "
        f"{words}, so the difference cannot be called measurable."
    )
    assert sentence(without_intervals(), "scratch", "n10", {"n10": 10}, Design(draws, 1, 400, 400, 2000)) == (
        f"With 10 labels, scratch reaches 60.00 % {words}; nothing was pretrained."
    )


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"gain": 0.03, "gain_ci95": 0.02}, True),
        ({"gain": -0.03, "gain_ci95": 0.02}, True),
        ({"gain": 0.02, "gain_ci95": 0.02}, False),
        ({"gain": 0.01, "gain_ci95": 0.02}, False),
        ({"gain": 0.03, "gain_ci95": 0.0}, False),
        ({"gain": 0.03, "gain_ci95": math.nan}, False),
        ({"gain": 0.03}, False),
        ({"accuracy": 0.9, "accuracy_ci95": 0.01}, False),  # the control
    ],
)
def test_a_gain_is_measurable_only_with_an_interval_that_excludes_zero(
    row: dict[str, float], expected: bool
) -> None:
    assert measurable(row) is expected


def test_without_the_control_nothing_is_compared() -> None:
    assert sentence(SUMMARY, "scratch", "n10", LABELS, FIVE) == (
        "With 10 labels, scratch reaches 60.00 % ± 5.00 points, over 5 draws; nothing was pretrained."
    )
    alone = {"simclr": {"n10": {"accuracy": 0.94, "accuracy_ci95": 0.01}}}
    assert sentence(alone, "simclr", "n10", LABELS, FIVE) == (
        "With 10 labels, simclr reaches 94.00 % ± 1.00 points, over 5 draws; "
        "scratch was not run for comparison."
    )


DISTILLING = "Distilling (labels spread over the pool, and more steps)"
DISTILLED = {"distilled": 0.96, "distilled_ci95": 0.01, "distilled_gain": 0.02}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            {"distilled_gain_ci95": 0.01},
            f"{DISTILLING} raises it to 96.00 %, +2.00 ± 1.00 points",
        ),
        (
            {"distilled_gain_ci95": 0.01, "distilled_gain": -0.02},
            f"{DISTILLING} lowers it to 96.00 %, -2.00 ± 1.00 points",
        ),
        (
            {"distilled_gain_ci95": 0.03},
            f"{DISTILLING} brings no measurable gain: 96.00 %, +2.00 ± 3.00 points",
        ),
        (
            {},
            f"{DISTILLING}: 96.00 %, +2.00 points (equal draws have no interval)",
        ),
    ],
)
def test_what_the_pool_bought_is_said_beside_what_pretraining_bought(
    row: dict[str, float], words: str
) -> None:
    summary = {"simclr": {"n10": SUMMARY["simclr"]["n10"] | DISTILLED | row}}
    assert pool_sentence(summary, "simclr", "n10", FIVE, 0) == f"{words}."
    summary["scratch"] = {"n10": SUMMARY["scratch"]["n10"] | DISTILLED | {"distilled": 0.7}}
    expected = f"{words}; scratch reaches 70.00 % in the same way."
    assert pool_sentence(summary, "simclr", "n10", FIVE, 0) == expected
    assert pool_sentence(SUMMARY, "simclr", "n10", FIVE, 0) == ""


def test_draws_in_which_nothing_was_spread_are_said() -> None:
    summary = {"simclr": {"n10": SUMMARY["simclr"]["n10"] | DISTILLED}}
    some = pool_sentence(summary, "simclr", "n10", FIVE, not_spread=2)
    assert some.endswith("; in 2 of 5 draws the finetuned model stays.")
    assert pool_sentence(summary, "simclr", "n10", FIVE, not_spread=5) == (
        "Distilling: the finetuned models stay in every draw: the check on a draw's own labels, or "
        "validation, speaks against spreading labels over the pool."
    )


def test_the_gain_over_imported_weights_is_said_too() -> None:
    row = SUMMARY["simclr"]["n10"] | {"gain_over_imported": 0.02, "gain_over_imported_ci95": 0.01}
    summary = {"simclr": {"n10": row}, "imported": {"n10": {"accuracy": 0.92}}}
    words = "Over the imported weights as they came (92.00 %): +2.00 ± 1.00 points"
    assert imported_sentence(summary, "simclr", "n10", FIVE) == f"{words}."
    row["gain_over_imported_ci95"] = 0.03
    assert imported_sentence(summary, "simclr", "n10", FIVE).endswith(
        "± 3.00 points, which is not measurable."
    )
    del row["gain_over_imported_ci95"]
    assert imported_sentence(summary, "simclr", "n10", FIVE).endswith("points; equal draws have no interval.")
    assert imported_sentence(SUMMARY, "simclr", "n10", FIVE) == ""


def test_draws_of_all_labels_are_trainings_on_the_same_labels() -> None:
    summary = {method: {"nall": budgets["n10"]} for method, budgets in SUMMARY.items()}
    for labels in ({"nall": 2000}, {"nall": 1999}):
        words = sentence(summary, "simclr", "nall", labels, FIVE)
        assert ("over 5 trainings on the same labels" in words) == (labels["nall"] == FIVE.labelled)


@pytest.mark.parametrize(
    ("curve", "accuracy", "expected"),
    [
        ({10: 0.6, 1000: 0.8}, 0.7, LabelsNeeded(100, "")),  # halfway in log(labels)
        ({10: 0.6, 100: 0.8}, 0.8, LabelsNeeded(100, "")),
        ({10: 0.6, 100: 0.8}, 0.6, LabelsNeeded(10, "")),
        ({10: 0.6, 100: 0.8}, 0.5, LabelsNeeded(10, "fewer")),
        ({10: 0.6, 100: 0.8}, 0.9, LabelsNeeded(100, "more")),
        ({100: 0.8}, 0.9, LabelsNeeded(100, "more")),
        ({10: 0.6, 100: 0.9, 1000: 0.7}, 0.85, LabelsNeeded(68, "")),  # the first crossing counts
        ({10: 0.6, 100: 0.5, 1000: 0.9}, 0.7, LabelsNeeded(320, "")),
    ],
)
def test_labels_that_scratch_needs(curve: dict[int, float], accuracy: float, expected: LabelsNeeded) -> None:
    assert labels_needed(curve, accuracy) == expected


def test_bounds_are_named() -> None:
    more = needed_clause(LabelsNeeded(1000, "more"))
    assert more == "scratch's mean does not reach that with 1,000 labels, the most that were measured"
    fewer = needed_clause(LabelsNeeded(10, "fewer"))
    assert fewer == "scratch's mean reaches that with fewer than 10 labels"


def test_labels_saved_are_known_only_for_a_measurable_gain_below_the_last_budget() -> None:
    summary = {
        "scratch": {"n10": {"accuracy": 0.6}, "n100": {"accuracy": 0.5}, "n1000": {"accuracy": 0.9}},
        "simclr": {name: {"accuracy": 0.7, "gain": 0.2, "gain_ci95": 0.1} for name in LABELS},
    }
    # The curve is read from the budget on, also where it falls at first.
    assert labels_for_same(summary, "simclr", "n100", LABELS) == LabelsNeeded(320, "")
    assert labels_for_same(summary, "simclr", "n1000", LABELS) is None  # the last budget
    summary["simclr"]["n10"]["gain_ci95"] = 0.3
    assert labels_for_same(summary, "simclr", "n10", LABELS) is None  # not measurable


def test_imported_weights_are_not_called_a_pretraining() -> None:
    summary = {**SUMMARY, "imported": SUMMARY["simclr"]}
    assert "With 10 labels, the imported weights raise accuracy from" in sentence(
        summary, "imported", "n10", LABELS, FIVE
    )
    assert "the imported weights bring no measurable gain" in sentence(
        summary, "imported", "n100", LABELS, FIVE
    )
    assert "the imported weights lower accuracy" in sentence(summary, "imported", "n1000", LABELS, FIVE)


def recalls(mean: float, half: float | None) -> dict[str, Any]:
    gain = {"mean": mean} if half is None else {"mean": mean, "ci95": half}
    rows = {
        CONTROL: {"recall_macro": {"mean": 0.4}},
        "simclr": {"recall_macro": {"mean": 0.4 + mean}, "recall_macro_gain": gain},
    }
    return {method: {"n10": {"finetuned": row}} for method, row in rows.items()}


@pytest.mark.parametrize(
    ("mean", "half", "words"),
    [
        (0.05, 0.02, "it raises 40.00 % to 45.00 %, +5.00 ± 2.00 points."),
        (-0.05, 0.02, "it lowers 40.00 % to 35.00 %, -5.00 ± 2.00 points."),
        (
            0.05,
            0.06,
            "there is no measurable gain: 40.00 % without it, 45.00 % with it, +5.00 ± 6.00 points.",
        ),
        (
            0.05,
            None,
            "it is 40.00 % and 45.00 %, +5.00 points; "
            "equal draws, and a class with one test image or group, have no interval.",
        ),
    ],
)
def test_where_one_class_is_frequent_macro_recall_is_said_beside_accuracy(
    mean: float, half: float | None, words: str
) -> None:
    details = recalls(mean, half)
    start = "The largest class has 60 % of the test images. By macro recall, which counts all classes alike,"
    assert recall_sentence(details, [60, 20, 20], "simclr", "n10", FIVE) == f"{start} {words}"
    assert recall_sentence(details, [60, 0, 20, 20], "simclr", "n10", FIVE) == f"{start} {words}"
    assert recall_sentence(details, [40, 30, 30], "simclr", "n10", FIVE) == ""
    assert recall_sentence(details, [60, 20, 20], CONTROL, "n10", FIVE) == ""
