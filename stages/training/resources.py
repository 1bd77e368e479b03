"""The CPU cores and the memory of this machine, or of the container that this process runs in."""

import math
import os
import re
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  # of a container; version 2
MEMINFO = Path("/proc/meminfo")


def cores() -> int:
    """The number of CPU cores that this process may use."""
    # macOS has no sched_getaffinity.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _text(CGROUP / "cpu.max").partition(" ")  # such as "200000 100000", or "max 100000"
    if quota.isdecimal() and period.strip().isdecimal():
        allowed = min(allowed, math.ceil(int(quota) / int(period)))
    return max(1, allowed)


def available_memory_mb() -> float:
    """The memory that programs can still take; infinite where the system does not say it as Linux does."""
    line = re.search(r"MemAvailable:\s*([0-9]+) kB", _text(MEMINFO))
    available = int(line[1]) / 1000 if line else math.inf
    limit, used = _text(CGROUP / "memory.max").strip(), _text(CGROUP / "memory.current").strip()
    if limit.isdecimal() and used.isdecimal():
        # Files that were read stay in memory until a program needs it, and count as used.
        cached = re.search(r"^inactive_file ([0-9]+)$", _text(CGROUP / "memory.stat"), re.MULTILINE)
        taken = int(used) - (int(cached[1]) if cached else 0)
        available = min(available, (int(limit) - taken) / 1e6)
    return available


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
