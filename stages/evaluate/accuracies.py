"""Accuracies on the terminal, as soon as they are measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Budget → protocol, or name of a baseline → the figures of each draw.
Figures = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]


def print_accuracies(title: str, figures: Figures) -> None:
    """Print the mean test accuracy of each protocol and budget, before the other methods are done."""
    protocols = list(dict.fromkeys(protocol for of in figures.values() for protocol in of))
    budgets = [budget.removeprefix("n") for budget in figures]
    width = max(12, *map(len, protocols), 0)
    print(f"{title}: test accuracy in %, by number of labels", flush=True)
    print(" " * (width + 2) + "".join(f"{budget:>8}" for budget in budgets), flush=True)
    for protocol in protocols:
        accuracies = [[100 * draw["accuracy"] for draw in of.get(protocol, ())] for of in figures.values()]
        means = [f"{np.mean(draws):.1f}" if draws else "" for draws in accuracies]
        print(f"  {protocol:{width}}" + "".join(f"{mean:>8}" for mean in means), flush=True)
