import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from stages.errors import InputError
from stages.settings.schema import Runtime
from stages.training.machine import Machine, set_up
from stages.training.progress import PLAIN_INTERVAL, Bar, progress

CPU = torch.device("cpu")


def asked(**changes: Any) -> Runtime:
    return Runtime(**({"device": "cpu", "precision": "fp32", "threads": 1} | changes))


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_those_of_the_parameters(threads: int) -> None:
    set_up(asked(threads=threads))
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_asked_for_is_what_is_taken(precision: str) -> None:
    assert set_up(asked(precision=precision)) == Machine(CPU, precision)


def test_auto_takes_the_gpu_where_there_is_one() -> None:
    found = set_up(asked(device="auto", precision="auto"))
    assert found.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert found.precision in ("fp32", "bf16")


def test_auto_takes_bf16_where_the_cpu_multiplies_in_it_and_nowhere_else() -> None:
    # torch's own question to the processor is the oracle, in both directions.
    capable = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    found = set_up(asked(device="cpu", precision="auto")).precision
    assert found == ("bf16" if capable else "fp32")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_missing_gpu_is_said() -> None:
    with pytest.raises(InputError, match=r"runtime\.device is 'cuda'.*allowed here: auto, cpu"):
        set_up(asked(device="cuda"))


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_the_machines_format(precision: str, dtype: torch.dtype) -> None:
    ones = torch.ones(2, 2)
    with Machine(CPU, precision).autocast():
        assert (ones @ ones).dtype == dtype
    assert (ones @ ones).dtype == torch.float32


def test_description_is_the_same_from_run_to_run() -> None:
    here = Machine(CPU, "bf16")
    assert here.describe() == here.describe()
    assert here.describe().keys() == {"device", "precision", "torch", "python"}
    assert (here.describe()["device"], here.describe()["precision"]) == ("cpu", "bf16")
    assert here.describe()["torch"] == torch.__version__


def test_timings_have_rate_and_memory() -> None:
    timings = Machine(CPU, "fp32").timings(2.04, 1000)
    assert timings["seconds"] == 2.0
    assert timings["images_per_second"] == 490
    assert timings["threads"] == torch.get_num_threads()
    assert 50 < timings["peak_memory_mb"] < 100_000
    assert Machine(CPU, "fp32").timings(0.0, 0)["images_per_second"] == 0  # scratch trains nothing


def test_plain_progress_ends_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("pretrain simclr", 2000) as bar:
        bar.advance(500)
        bar.advance(1500)
        assert capsys.readouterr().out == ""  # no line per step
    line = capsys.readouterr().out
    assert line.startswith("pretrain simclr: 2,000/2,000 images (100%), ")
    assert "images/s, 0 s left" in line
    assert line.count("\n") == 1


def test_plain_progress_speaks_now_and_then(
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


def test_progress_is_not_called_done_after_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError), progress("pretrain", 10):
        raise InputError("the loss is nan")
    assert "done" not in capsys.readouterr().out
