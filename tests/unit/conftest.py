"""What all unit tests need, unasked: what one test sets does not slow down the others."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Take back the threads that `set_up` sets for a whole process.

    Two pytest workers with two threads each on two cores wait for each other at every operation: measured,
    a training of 13 seconds took 130 (CPU seconds too, because waiting threads spin).
    """
    yield
    torch.set_num_threads(1)
