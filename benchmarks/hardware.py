"""Description of this machine, and the speed of its matrix products."""

import datetime
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

FORMATS = {"bf16": torch.bfloat16, "fp32": torch.float32}
SIZES = (2048, 4096)
REPEATS = 4  # of each matrix product; the fastest counts
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")


def gemm_peak(device: torch.device, sizes: tuple[int, ...] = SIZES) -> dict[str, float]:
    """Peak FLOP/s of the product of two square matrices, by precision."""
    return {name: max(_gemm(device, size, kind) for size in sizes) for name, kind in FORMATS.items()}


def _gemm(device: torch.device, size: int, kind: torch.dtype) -> float:
    a, b = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        product = a @ b
        product[0, 0].item()  # waits for a GPU
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)


def step_flops(loss: Callable[[], Tensor]) -> int:
    """FLOPs of one forward and backward pass; a multiply-add counts as two.

    Only convolutions and matrix products count, because they are compared with a matrix product.
    """
    with FlopCounterMode(display=False) as counter:
        loss().backward()
    return int(counter.get_total_flops())


def machine_description() -> dict[str, Any]:
    """Processor with its vector instructions, cores, memory, versions and date, without the host name."""
    lines: list[str] = []
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    info = {key.strip(): value.strip() for key, value in fields.items()}
    flags = info.get("flags", "").split()
    return {
        "processor": info.get("model name", platform.machine()),
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }
