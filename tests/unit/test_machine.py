import os
import subprocess
import sys
import time
from typing import Any

import pytest
import torch

from stages.errors import InputError
from stages.settings.schema import Runtime
from stages.training.machine import Machine, set_up
from stages.training.progress import PLAIN_INTERVAL, Bar, progress
from tests.conftest import ROOT

CPU = torch.device("cpu")
THREADS = {"pretrain": 1, "finetune": 1, "evaluate": 1}


def runtime(**changes: Any) -> Runtime:
    return Runtime(**({"device": "cpu", "precision": "fp32", "threads": THREADS} | changes))


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_is_set(threads: int) -> None:
    set_up(runtime(), threads)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_given_precision_is_used(precision: str) -> None:
    assert set_up(runtime(precision=precision), 1) == Machine(CPU, precision)


def test_auto_uses_a_gpu_if_there_is_one() -> None:
    machine = set_up(runtime(device="auto", precision="auto"), 1)
    assert machine.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert machine.precision in ("fp32", "bf16")


def test_auto_uses_bf16_if_and_only_if_the_cpu_multiplies_in_it() -> None:
    # The oracle is PyTorch's own test of the CPU.
    capable = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    precision = set_up(runtime(device="cpu", precision="auto"), 1).precision
    assert precision == ("bf16" if capable else "fp32")


def test_auto_is_fp32_where_the_system_does_not_list_what_the_cpu_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """macOS has no /proc."""
    real = open

    def without_proc(file: Any, *arguments: Any, **options: Any) -> Any:
        if str(file).startswith("/proc/"):
            raise FileNotFoundError(file)
        return real(file, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", without_proc)
        precision = set_up(runtime(device="cpu", precision="auto"), 1).precision
    assert precision == "fp32"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_an_error() -> None:
    with pytest.raises(InputError, match=r"runtime\.device is 'cuda'.*allowed on this machine: auto, cpu"):
        set_up(runtime(device="cuda"), 1)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_the_precision_of_the_machine(precision: str, dtype: torch.dtype) -> None:
    ones = torch.ones(2, 2)
    with Machine(CPU, precision).autocast():
        assert (ones @ ones).dtype == dtype
    assert (ones @ ones).dtype == torch.float32


def test_description_is_the_same_from_run_to_run() -> None:
    machine = Machine(CPU, "bf16")
    assert machine.describe() == machine.describe()
    assert machine.describe().keys() == {"device", "precision", "instructions", "torch", "python"}
    assert (machine.describe()["device"], machine.describe()["precision"]) == ("cpu", "bf16")
    assert machine.describe()["torch"] == torch.__version__


@pytest.mark.parametrize(
    ("variable", "value", "ending"),
    [
        ("ATEN_CPU_CAPABILITY", "default", "DEFAULT"),
        ("ATEN_CPU_CAPABILITY", "avx2", "AVX2"),
        ("ONEDNN_MAX_CPU_ISA", "SSE41", ", ONEDNN_MAX_CPU_ISA=SSE41"),
        ("ONEDNN_DEFAULT_FPMATH_MODE", "BF16", ", ONEDNN_DEFAULT_FPMATH_MODE=BF16"),
        ("MKL_CBWR", "COMPATIBLE", ", MKL_CBWR=COMPATIBLE"),
    ],
)
def test_instructions_that_the_environment_chooses_are_in_the_description(
    variable: str, value: str, ending: str
) -> None:
    """They change the last bits of results, so a checkpoint must not be taken from one to the other."""
    code = "from stages.training.machine import instructions; print(instructions())"
    environment = os.environ | {variable: value}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip().endswith(ending)


def test_timings_have_rate_and_memory() -> None:
    timings = Machine(CPU, "fp32").timings(2.04, 1000)
    assert timings["seconds"] == 2.0
    assert timings["images_per_second"] == 490
    assert timings["threads"] == torch.get_num_threads()
    assert 50 < timings["peak_memory_mb"] < 100_000
    assert Machine(CPU, "fp32").timings(0.0, 0)["images_per_second"] == 0  # the method scratch trains nothing


def test_plain_progress_ends_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("pretrain simclr", 2000) as bar:
        bar.advance(500)
        bar.advance(1500)
        assert capsys.readouterr().out == ""  # no line per step
    line = capsys.readouterr().out
    assert line.startswith("pretrain simclr: 2,000/2,000 images (100%), ")
    assert "images/s, 0 s left" in line
    assert line.count("\n") == 1


def test_plain_progress_prints_a_line_per_interval(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    bar = Bar("finetune", 100, "models")
    for _ in range(9):
        now[0] += PLAIN_INTERVAL / 4
        bar.advance(1, "n10-draw0")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("finetune: 4/100 models (4%), 0 models/s, ")
    assert f"{96 * PLAIN_INTERVAL / 4:.0f} s left" in lines[0]
    assert lines[0].endswith("n10-draw0")


def test_progress_does_not_print_done_after_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError), progress("pretrain", 10):
        raise InputError("the loss is nan")
    assert "done" not in capsys.readouterr().out
