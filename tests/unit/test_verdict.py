from typing import Any

import pytest

from stages.compare.verdict import Needed, needed, saved, says, sentence

LABELS = {"n10": 10, "n100": 100, "n1000": 1000}
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


def test_a_gain_is_said_with_what_it_saves() -> None:
    assert sentence(SUMMARY, "simclr", "n10", LABELS, 5) == (
        "With 10 labels, simclr pretraining lifts accuracy from 60.00 % to 94.00 %, +34.00 ± 6.00 points, "
        "over 5 draws; scratch needs about 320 labels to reach the same."
    )


def test_an_interval_over_zero_is_no_measurable_gain() -> None:
    said = sentence(SUMMARY, "simclr", "n100", LABELS, 5)
    assert said == (
        "With 100 labels, simclr pretraining brings no measurable gain: 90.00 % without it, 90.50 % with it, "
        "+0.50 ± 2.00 points, over 5 draws."
    )


def test_a_loss_is_said_as_one() -> None:
    said = sentence(SUMMARY, "simclr", "n1000", LABELS, 5)
    assert (
        "With 1,000 labels, simclr pretraining lowers accuracy from 98.00 % to 95.00 %, -3.00 ± 1.00" in said
    )


def test_one_draw_has_no_interval_and_no_verdict() -> None:
    summary = {m: {"n10": {k: v for k, v in b["n10"].items() if "ci95" not in k}} for m, b in SUMMARY.items()}
    assert sentence(summary, "simclr", "n10", {"n10": 10}, 1) == (
        "With 10 labels, simclr pretraining moves accuracy from 60.00 % to 94.00 %, +34.00 points, "
        "on one draw, which has no interval."
    )


def test_without_a_second_arm_nothing_is_compared() -> None:
    assert sentence(SUMMARY, "scratch", "n10", LABELS, 5) == (
        "With 10 labels, scratch reaches 60.00 % ± 5.00 points, over 5 draws; nothing was pretrained."
    )
    alone = {"simclr": {"n10": {"accuracy": 0.94, "accuracy_ci95": 0.01}}}
    said = sentence(alone, "simclr", "n10", LABELS, 5)
    assert said.endswith("there is no scratch arm beside it.")


@pytest.mark.parametrize(
    ("curve", "accuracy", "expected"),
    [
        ({10: 0.6, 1000: 0.8}, 0.7, Needed(100, "")),  # half the way in log(labels)
        ({10: 0.6, 100: 0.8}, 0.8, Needed(100, "")),
        ({10: 0.6, 100: 0.8}, 0.6, Needed(10, "")),
        ({10: 0.6, 100: 0.8}, 0.5, Needed(10, "fewer")),
        ({10: 0.6, 100: 0.8}, 0.9, Needed(100, "more")),
        ({100: 0.8}, 0.9, Needed(100, "more")),
        ({10: 0.6, 100: 0.9, 1000: 0.7}, 0.85, Needed(68, "")),  # the first time counts
        ({10: 0.6, 100: 0.5, 1000: 0.9}, 0.7, Needed(320, "")),
    ],
)
def test_labels_that_scratch_needs(curve: dict[int, float], accuracy: float, expected: Needed) -> None:
    assert needed(curve, accuracy) == expected


def test_bounds_are_said() -> None:
    assert (
        says(Needed(1000, "more"))
        == "scratch does not reach that with the 1,000 labels that it was given at most"
    )
    assert says(Needed(10, "fewer")) == "scratch reaches that with fewer than 10 labels"


def test_labels_are_saved_only_where_more_is_known() -> None:
    summary = {
        "scratch": {"n10": {"accuracy": 0.6}, "n100": {"accuracy": 0.5}, "n1000": {"accuracy": 0.9}},
        "simclr": {name: {"accuracy": 0.7, "gain": 0.2, "gain_ci95": 0.1} for name in LABELS},
    }
    # A curve that falls at first is looked at from the budget on.
    assert saved(summary, "simclr", "n100", LABELS) == Needed(320, "")
    assert saved(summary, "simclr", "n1000", LABELS) is None  # the last budget
    summary["simclr"]["n10"]["gain_ci95"] = 0.3
    assert saved(summary, "simclr", "n10", LABELS) is None  # not measurable
