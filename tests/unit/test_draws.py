from itertools import pairwise

import pytest
import torch
from torch import Tensor

from stages.errors import InputError
from stages.tasks.draws import allocate, budget_name, draw_labelled, parse_budget, usable_budgets

LABELS = torch.randint(10, (2000,), generator=torch.Generator().manual_seed(0))


def drawn(budget: int | str, draw: int = 0, seed: int = 1, labels: Tensor = LABELS) -> list[int]:
    return draw_labelled(labels, 10, budget, draw, seed).tolist()


def per_class(rows: list[int]) -> list[int]:
    return torch.bincount(LABELS[rows], minlength=10).tolist()


@pytest.mark.parametrize("budget", [10, 100, 1000])
def test_classes_are_balanced(budget: int) -> None:
    rows = drawn(budget)
    assert per_class(rows) == [budget // 10] * 10
    assert len(set(rows)) == budget


@pytest.mark.parametrize("budget", [11, 19, 105])
def test_the_remainder_goes_to_random_classes(budget: int) -> None:
    extra = set()
    for draw in range(20):
        counts = per_class(drawn(budget, draw))
        assert sum(counts) == budget
        assert set(counts) == {budget // 10, budget // 10 + 1}
        extra.add(tuple(counts))
    assert len(extra) > 5


@pytest.mark.parametrize("draw", [0, 3])
def test_draws_are_nested(draw: int) -> None:
    budgets = [10, 11, 19, 20, 57, 100, 1000]
    sets = [set(drawn(budget, draw)) for budget in budgets]
    for small, large in pairwise(sets):
        assert small < large


def test_draws_and_seeds_differ() -> None:
    sets = [set(drawn(100, draw)) for draw in range(5)] + [set(drawn(100, seed=2))]
    for i, one in enumerate(sets):
        for other in sets[:i]:
            assert len(one & other) < 30  # 5 are expected by chance


def test_draws_are_random_rows() -> None:
    rows = torch.tensor(drawn(1000)).double()
    assert 900 < rows.mean() < 1100


def test_a_draw_is_a_function_of_its_arguments() -> None:
    first = drawn(100, 2)
    torch.manual_seed(9)
    assert drawn(100, 2) == first  # so every method sees the same images


def test_all_is_every_labelled_image() -> None:
    assert drawn("all", 0) == drawn("all", 1) == list(range(2000))
    some = torch.where(torch.arange(2000) < 1500, LABELS, -1)
    assert drawn("all", labels=some) == list(range(1500))


@pytest.mark.parametrize("budget", [9, 2001])
def test_budget_outside_classes_and_pool_is_refused(budget: int) -> None:
    with pytest.raises(InputError, match=rf"finetune\.budgets has {budget}; .*'all'.*10.*2000"):
        drawn(budget)


def test_other_classes_give_more_if_one_is_rare() -> None:
    labels = torch.cat([torch.arange(10).repeat(50), torch.tensor([3] * 100)])
    labels = labels[(labels != 7) | (torch.arange(600) < 30)]  # of class 7 the first three
    counts = torch.bincount(labels[drawn(75, labels=labels)], minlength=10)
    assert counts.tolist() == [8] * 7 + [3] + [8] * 2
    nested = [set(drawn(n, labels=labels)) for n in (30, 31, 40, 77, 200, len(labels))]
    assert all(small < large for small, large in pairwise(nested))


@pytest.mark.parametrize("available", [[5, 2, 50], [0, 7, 7], [1, 10, 10], [4, 4, 4]])
def test_counts_are_as_even_as_the_classes_allow(available: list[int]) -> None:
    order = [2, 0, 1]
    for n in range(sum(available) + 1):
        counts = allocate(available, n, order)
        assert sum(counts) == n
        free = [counts[label] for label in order if counts[label] < available[label]]
        assert all(counts[label] <= available[label] for label in order)
        # Classes with images left give as many as the others, except for the remainder, in order.
        assert not free or max(counts) - min(free) <= 1
        assert free == sorted(free, reverse=True)


def test_budgets_have_names() -> None:
    budgets, names = [10, 1000, "all"], ["n10", "n1000", "nall"]
    assert [budget_name(budget) for budget in budgets] == names  # no dots: a dot separates keys of metrics
    assert [parse_budget(name) for name in names] == budgets


@pytest.mark.parametrize(
    ("labelled", "classes", "expected"),
    [(1000, 10, [10, 1000, "all"]), (999, 10, [10, "all"]), (9, 10, []), (50, 20, ["all"]), (0, 0, [])],
)
def test_budgets_without_enough_labels_are_skipped_with_a_message(
    labelled: int, classes: int, expected: list[int | str], capsys: pytest.CaptureFixture[str]
) -> None:
    budgets: list[int | str] = [10, 1000, "all"]
    assert usable_budgets(budgets, labelled, classes) == expected
    skipped = ", ".join(str(budget) for budget in budgets if budget not in expected)
    message = (
        f"{labelled:,} images of the pool have a label, of {classes} classes: skipping the budget {skipped}\n"
    )
    assert capsys.readouterr().out == (message if skipped else "")
