"""The CPU cores of this machine."""

import os


def cores() -> int:
    """The number of CPU cores that this process may use."""
    # macOS has no sched_getaffinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
