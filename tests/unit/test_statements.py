"""The four statements about the quality tables: each can be true, false and open."""

import math

import pandas as pd
import pytest

from benchmarks.statements import judged

Row = tuple[str, str, str, float]  # labels, protocol, method, accuracy
Gain = tuple[str, str, float, float]  # labels, method, gain, ci95
GOOD: list[Row] = [
    ("50", "finetuned", "scratch", 0.60),
    ("50", "finetuned", "simclr", 0.70),
    ("50", "linear", "scratch", 0.40),
    ("50", "linear", "simclr", 0.705),
    ("50", "baseline", "majority", 0.20),
    ("50", "baseline", "hog_svm", 0.70),
    ("all", "finetuned", "scratch", 0.90),
    ("all", "finetuned", "simclr", 0.89),
    ("all", "linear", "simclr", 0.80),
    ("all", "baseline", "hog_svm", 0.85),
]
GAINS: list[Gain] = [("50", "simclr", 0.10, 0.03), ("all", "simclr", -0.01, 0.02)]


def holds(rows: list[Row], gains: list[Gain]) -> list[bool | None]:
    """Which statements hold."""
    return [statement.holds for statement in statements(rows, gains)]


def statements(rows: list[Row], gains: list[Gain]) -> list:  # type: ignore[type-arg]
    accuracies = pd.DataFrame(rows, columns=["labels", "protocol", "method", "accuracy"])
    table = pd.DataFrame(gains, columns=["labels", "method", "gain", "ci95"])
    return judged(accuracies, table.assign(protocol="finetuned", over="scratch"))


def test_all_hold() -> None:
    assert holds(GOOD, GAINS) == [True, True, True, True]


@pytest.mark.parametrize(
    ("rows", "gains", "expected"),
    [
        (GOOD, [("50", "simclr", 0.10, 0.03), ("all", "vicreg", -0.03, 0.02)], 0),
        ([*GOOD, ("300", "finetuned", "simclr", 0.70), ("300", "linear", "simclr", 0.711)], GAINS, 1),
        ([*GOOD, ("all", "baseline", "forest", 0.901)], GAINS, 2),
        (GOOD, [("50", "simclr", 0.03, 0.03), ("all", "simclr", -0.01, 0.02)], 3),
        (GOOD, [("50", "imported", 0.10, 0.03), ("all", "simclr", -0.01, 0.02)], 3),
        (GOOD, [("50", "simclr", 0.10, math.nan), ("all", "simclr", -0.01, math.nan)], 3),
    ],
    ids=["worse", "below its probe", "below a baseline", "not sure", "not pretrained", "no interval"],
)
def test_each_can_be_false_alone(rows: list[Row], gains: list[Gain], expected: int) -> None:
    assert holds(rows, gains) == [number != expected for number in range(4)]


def test_what_was_not_measured_is_open() -> None:
    arms = [row for row in GOOD if row[1] == "finetuned"]
    assert holds(arms, []) == [None, None, None, None]


def test_the_figures_name_every_case_that_decides() -> None:
    rows = [*GOOD, ("300", "finetuned", "simclr", 0.70), ("300", "linear", "simclr", 0.75)]
    gains = [*GAINS, ("300", "simclr", -0.05, 0.01), ("300", "vicreg", -0.06, 0.01)]
    worse, probe, baseline, sure = (str(statement) for statement in statements(rows, gains))
    assert worse.splitlines() == [
        "FALSE no method is measurably worse than scratch",
        "        300 labels, simclr: -5.00 ± 1.00",
        "        300 labels, vicreg: -6.00 ± 1.00",
    ]
    assert probe.splitlines()[1:] == ["        300 labels, simclr: 70.00, its probe 75.00"]
    assert baseline.splitlines()[1:] == [
        "        50 labels: simclr 70.00, hog_svm 70.00",
        "        all labels: scratch 90.00, hog_svm 85.00",
    ]
    assert sure.splitlines() == [
        "true  the best pretrained method beats scratch beyond the interval (with 1 of 3 budgets)",
        "        sure     50 labels, simclr: +10.00 ± 3.00",
        "        not sure all labels, simclr: -1.00 ± 2.00",
        "        not sure 300 labels, simclr: -5.00 ± 1.00",
    ]


def test_gains_over_other_controls_and_of_other_protocols_do_not_count() -> None:
    accuracies = pd.DataFrame(GOOD, columns=["labels", "protocol", "method", "accuracy"])
    columns = ["labels", "method", "gain", "ci95", "protocol", "over"]
    rows = [
        ("50", "simclr", 0.10, 0.03, "finetuned", "scratch"),
        ("50", "simclr", -0.10, 0.03, "linear", "scratch"),
        ("50", "simclr", -0.10, 0.03, "finetuned", "imported"),
    ]
    assert judged(accuracies, pd.DataFrame(rows, columns=columns))[0].holds
