from itertools import pairwise

import pytest
import torch
from torch import Tensor

from stages.errors import InputError
from stages.tasks.draws import budget_name, draw_labelled, shares

LABELS = torch.randint(10, (2000,), generator=torch.Generator().manual_seed(0))


def drawn(budget: int | str, draw: int = 0, seed: int = 1, labels: Tensor = LABELS) -> list[int]:
    return draw_labelled(labels, 10, budget, draw, seed).tolist()


def per_class(rows: list[int]) -> list[int]:
    return torch.bincount(LABELS[rows], minlength=10).tolist()


@pytest.mark.parametrize("budget", [10, 100, 1000])
def test_every_class_gets_as_many(budget: int) -> None:
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
def test_small_budgets_are_among_the_large_ones(draw: int) -> None:
    budgets = [10, 11, 19, 20, 57, 100, 1000]
    sets = [set(drawn(budget, draw)) for budget in budgets]
    for small, large in pairwise(sets):
        assert small < large


def test_draws_and_seeds_differ() -> None:
    sets = [set(drawn(100, draw)) for draw in range(5)] + [set(drawn(100, seed=2))]
    for i, one in enumerate(sets):
        for other in sets[:i]:
            assert len(one & other) < 30  # 5 are expected by chance


def test_draws_are_random_rows_and_not_the_first_ones() -> None:
    rows = torch.tensor(drawn(1000)).double()
    assert 900 < rows.mean() < 1100


def test_a_draw_is_a_function_of_its_arguments() -> None:
    first = drawn(100, 2)
    torch.manual_seed(9)
    assert drawn(100, 2) == first  # so every method sees the same images


def test_all_is_the_whole_pool() -> None:
    assert drawn("all", 0) == drawn("all", 1) == list(range(2000))


@pytest.mark.parametrize("budget", [9, 2001])
def test_budget_outside_classes_and_pool_is_refused(budget: int) -> None:
    with pytest.raises(InputError, match=rf"finetune\.budgets has {budget}; .*'all'.*10.*2000"):
        drawn(budget)


def test_the_others_make_up_for_a_rare_class() -> None:
    labels = torch.cat([torch.arange(10).repeat(50), torch.tensor([3] * 100)])
    labels = labels[(labels != 7) | (torch.arange(600) < 30)]  # class 7: the first three
    counts = torch.bincount(labels[drawn(75, labels=labels)], minlength=10)
    assert counts.tolist() == [8] * 7 + [3] + [8] * 2
    nested = [set(drawn(n, labels=labels)) for n in (30, 31, 40, 77, 200, len(labels))]
    assert all(small < large for small, large in pairwise(nested))


@pytest.mark.parametrize("available", [[5, 2, 50], [0, 7, 7], [1, 10, 10], [4, 4, 4]])
def test_shares_are_as_even_as_the_classes_allow(available: list[int]) -> None:
    order = [2, 0, 1]
    for n in range(sum(available) + 1):
        given = shares(available, n, order)
        assert sum(given) == n
        free = [given[label] for label in order if given[label] < available[label]]
        assert all(given[label] <= available[label] for label in order)
        # Who could give more gives as much as the others, but for the remainder, in order.
        assert not free or max(given) - min(free) <= 1
        assert free == sorted(free, reverse=True)


def test_budgets_have_names_without_dots() -> None:
    assert [budget_name(budget) for budget in (10, 1000, "all")] == ["n10", "n1000", "nall"]
