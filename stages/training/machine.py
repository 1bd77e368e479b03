"""Where and how the arithmetic runs: device, precision, threads."""

import os
import platform
import resource
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from stages.errors import InputError
from stages.settings.schema import Runtime


@dataclass(frozen=True)
class Machine:
    """The device and the number format that a stage computes with."""

    device: torch.device
    precision: str

    def autocast(self) -> AbstractContextManager[object]:
        """Run the enclosed forward pass in bf16, or as it stands in fp32."""
        enabled = self.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def describe(self) -> dict[str, str]:
        """Device, precision and versions, for the figures: the same on every machine of a kind."""
        return {
            "device": self.device.type,
            "precision": self.precision,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }

    def timings(self, seconds: float, images: int) -> dict[str, float | int | str]:
        """What a stage took here; differs from run to run, so it is kept apart from the figures."""
        hardware = platform.processor() or platform.machine()
        unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux kilobytes
        if self.device.type == "cuda":
            hardware = torch.cuda.get_device_name(self.device)
        return {
            "hardware": hardware,
            "threads": torch.get_num_threads(),
            "seconds": round(seconds, 1),
            "images_per_second": round(images / seconds) if seconds > 0 else 0,
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit,
        }


def set_up(settings: Runtime) -> Machine:
    """Set up the arithmetic as params.yaml asks, or say why this machine cannot.

    "auto" takes the GPU where there is one, and bf16 where the hardware multiplies in it: on
    other CPUs bf16 is emulated and slower than fp32.
    """
    torch.set_num_threads(settings.threads)
    # On a GPU equal bytes need these; on a CPU they change nothing.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
    torch.use_deterministic_algorithms(torch.cuda.is_available(), warn_only=True)
    wants_gpu = settings.device != "cpu"
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "params.yaml: runtime.device is 'cuda', but no GPU is visible; allowed on this machine: auto, cpu"
        )
    device = torch.device("cuda" if wants_gpu and torch.cuda.is_available() else "cpu")
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if _multiplies_bf16(device) else "fp32"
    return Machine(device, precision)


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            flags = info.read()
    except OSError:  # no Linux: fp32 is always right
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
