"""Where and how arithmetic runs: device, precision, threads."""

import os
import platform
import resource
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from stages.errors import InputError
from stages.settings.schema import Runtime

# Of oneDNN and MKL, beside PyTorch's ATEN_CPU_CAPABILITY, which PyTorch has in its answer.
CHOOSE_INSTRUCTIONS = (
    *("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"),
    *("MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR", "OPENBLAS_CORETYPE"),
)


@dataclass(frozen=True)
class Machine:
    """The device and the precision (`fp32` or `bf16`) that a stage computes with."""

    device: torch.device
    precision: str

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which a forward pass runs in the machine's precision."""
        enabled = self.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def describe(self) -> dict[str, str]:
        """Device, precision, instructions and versions, for the metrics files; equal on equal machines."""
        return {
            "device": self.device.type,
            "precision": self.precision,
            "instructions": instructions(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        }

    def timings(self, seconds: float, images: int) -> dict[str, float | int | str]:
        """Time and memory that a stage took, for a separate file, because they differ from run to run."""
        hardware = platform.processor() or platform.machine()
        if self.device.type == "cuda":
            hardware = torch.cuda.get_device_name(self.device)
        return {
            "hardware": hardware,
            "threads": torch.get_num_threads(),
            "seconds": round(seconds, 1),
            "images_per_second": round(images / seconds) if seconds > 0 else 0,
            "peak_memory_mb": peak_memory_mb(),
        }


def instructions() -> str:
    """The instructions that the CPU adds and multiplies with, such as AVX2: others give other last bits.

    With the environment variables that choose them and that are set.
    """
    chosen = [f"{name}={os.environ[name]}" for name in CHOOSE_INSTRUCTIONS if os.environ.get(name)]
    return ", ".join([torch.backends.cpu.get_cpu_capability(), *chosen])


def peak_memory_mb() -> int:
    """The largest amount of memory that this process has used so far."""
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


def set_up(settings: Runtime, threads: int, worker: int = 0) -> Machine:
    """Set up threads, device and precision as params.yaml asks.

    "auto" uses a GPU if there is one, and bf16 if the hardware multiplies in it: other CPUs emulate bf16,
    which is slower than fp32.

    Args:
        threads: CPU threads of this process.
        worker: the number of this worker process; workers take the GPUs by turns.

    Raises:
        InputError: this machine does not have the device.
    """
    torch.set_num_threads(threads)
    # Without these, a GPU does not give equal bytes from run to run; on a CPU they change nothing.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
    torch.use_deterministic_algorithms(torch.cuda.is_available(), warn_only=True)
    wants_gpu = settings.device != "cpu"
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "params.yaml: runtime.device is 'cuda', but there is no GPU; allowed on this machine: auto, cpu"
        )
    device = torch.device("cpu")
    if wants_gpu and torch.cuda.is_available():
        device = torch.device("cuda", worker % torch.cuda.device_count())
        torch.cuda.set_device(device)
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
    except OSError:  # not Linux: fp32 always works
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
