"""The parts of the benchmarks that need no timing: counting, choosing, ratios, tables."""

import itertools
import os
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks import encoders, equal_time, hardware, scaling, throughput
from benchmarks.contender import NAMES, Request, respond
from benchmarks.contenders import compute_limit, headstart
from benchmarks.contenders.common import Clock, Recipe, Setting, watched
from benchmarks.drive import PeakMemory, memory
from stages.files.json_files import read_json
from stages.files.packs import read_pack, write_array
from stages.files.paths import IMAGES
from stages.settings import load
from stages.training.machine import set_up
from tests.conftest import ROOT, tiny_encoder
from tests.pipeline.conftest import change

PARAMS = (ROOT / load.PARAMS).read_text().replace("threads: 2", "threads: 1")
SETTINGS = load.validated(load.read(ROOT / load.PARAMS))


def answer(rate: float, memory_mb: int = 100) -> dict[str, Any]:
    return {"images_per_second": rate, "images": 256, "steps": 2, "peak_memory_mb": memory_mb}


def test_flops_of_a_linear_layer_match_a_calculation_by_hand() -> None:
    layer, x = nn.Linear(5, 7, bias=False), torch.randn(3, 5)
    # forward 2·3·5·7, and the same for the gradient of the weights; the input needs none
    assert hardware.step_flops(lambda: layer(x).sum()) == 4 * 3 * 5 * 7


def test_flops_of_two_convolutions_match_a_calculation_by_hand() -> None:
    first, second = nn.Conv2d(1, 4, 3, bias=False), nn.Conv2d(4, 6, 1, bias=False)
    x = torch.randn(2, 1, 8, 8)  # 6 × 6 after the first
    of_first, of_second = 2 * 2 * 36 * 4 * 9, 2 * 2 * 36 * 6 * 4
    assert hardware.step_flops(lambda: second(first(x)).sum()) == 2 * of_first + 3 * of_second


def test_flops_of_a_training_step_match_a_calculation_by_hand() -> None:
    recipe = Recipe.of(SETTINGS)
    flops = throughput.flops_of_a_step(recipe)
    n = 2 * recipe.batch_size
    loss = 3 * 2 * n * n * recipe.projector_output  # the similarities and both their gradients
    projector = [128, recipe.projector_hidden, recipe.projector_hidden, recipe.projector_output]
    head = sum(3 * 2 * n * a * b for a, b in itertools.pairwise(projector))
    w = SETTINGS.encoder.width
    stem = 2 * 2 * n * 14 * 14 * w * 9  # its input needs no gradient
    first = 2 * 14 * 14 * w * w * 9
    second = 7 * 7 * (w * 2 * w * 9 + 4 * w * w * 9 + w * 2 * w)
    third = 4 * 4 * (2 * w * 4 * w * 9 + 16 * w * w * 9 + 2 * w * 4 * w)
    assert flops == stem + 3 * 2 * n * (first + second + third) + head + loss


def test_the_ratio_is_the_median_of_the_ratios_within_each_round() -> None:
    # The machine slows down to a tenth in the last round; the ratio does not change.
    assert throughput.ratio([400.0, 440.0, 40.0], [100.0, 100.0, 10.0]) == 4.0


def test_the_summary_has_the_ratios_medians_and_utilisation() -> None:
    rates = {"headstart": (900, 1000, 1100), "compute_limit": (1000, 1000, 1000), "lightly": (250, 250, 250)}
    measured = {name: [answer(rate, index) for index, rate in enumerate(of)] for name, of in rates.items()}
    result = throughput.summary(measured, flops=128, peak=5000)
    assert (result["ratio_to_lightly"], result["share_of_compute_limit"]) == (4.0, 1.0)
    ours = result["contenders"]["headstart"]
    assert ours["images_per_second"] == 1000
    assert ours["images_per_second_by_round"] == [900, 1000, 1100]
    assert ours["peak_memory_mb"] == 2
    assert ours["utilisation"] == 0.2  # 128 FLOP a step of 128 images at 1,000 images/s is 1,000 FLOP/s


class KnownContender:
    """A contender with known rates."""

    name = "known"

    def __init__(self, rates: dict[Setting, float]) -> None:
        self.rates = {repr(asdict(setting)): rate for setting, rate in rates.items()}
        self.settings = [asdict(setting) for setting in rates]

    def ask(self, setting: dict[str, Any], steps: int) -> dict[str, Any]:
        return answer(self.rates[repr(setting)])


def test_the_fastest_setting_is_chosen_and_the_trial_recorded() -> None:
    rates = {
        Setting(0, "fp32"): 100.0, Setting(1, "fp32"): 150.0, Setting(2, "fp32"): 200.0,
        Setting(0, "bf16"): 400.0, Setting(1, "bf16"): 500.0, Setting(2, "bf16"): 300.0,
        Setting(0, "bf16", "batch"): 450.0, Setting(2, "bf16", "batch"): 50.0,
    }  # fmt: skip
    best = throughput.fastest_setting(KnownContender(rates), steps=1)  # type: ignore[arg-type]
    assert best["setting"] == asdict(Setting(1, "bf16"))
    tried = {(row["workers"], row["precision"], row["views"]) for row in best["trial"]}
    assert len(tried) == 6
    assert not {(0, "fp32", "image"), (1, "fp32", "image")} & tried  # the precision is chosen first


def test_a_contender_with_one_setting_tries_nothing() -> None:
    only = Setting(0, "auto", "batch")
    best = throughput.fastest_setting(KnownContender({only: 1.0}), steps=1)  # type: ignore[arg-type]
    assert best == {"setting": asdict(only), "trial": []}


def result() -> dict[str, Any]:
    measured = {name: [answer(100.0 * (5 - index))] for index, name in enumerate(NAMES)}
    summary = throughput.summary(measured, flops=10**9, peak=10**11)
    for name in NAMES:
        summary["contenders"][name]["setting"] = asdict(Setting(0, "auto" if name == "headstart" else "fp32"))
    return summary | {
        "machine": hardware.machine_description(), "gemm_peak_gflops": {"bf16": 200.0, "fp32": 100.0},
        "precision": "bf16", "rounds": 1, "steps": 2, "batch_size": 128,
    }  # fmt: skip


def test_the_table_has_a_row_for_each_contender() -> None:
    lines = throughput.table(result()).splitlines()
    assert [line.split(" | ")[0] for line in lines[2 : 2 + len(NAMES)]] == [f"| {name}" for name in NAMES]
    assert lines[2] == "| headstart | 500 |  | 100 | 3.9% | 0 | bf16 | image |"
    assert lines[4].startswith("| lightly | 300 | 1.67 | 100 |")


def test_the_description_of_the_machine_has_no_host_name() -> None:
    description = hardware.machine_description()
    assert {"processor", "flags", "cores", "threads", "torch", "python", "date"} <= set(description)
    assert os.uname().nodename not in map(str, description.values())


def test_gains_at_equal_time_are_paired_by_draw() -> None:
    by_draw = {"headstart": [0.91, 0.80, 0.70], "lightly": [0.80, 0.70, 0.60]}
    answers = {
        name: {"accuracies": {"10": of}, "seconds": 120.04, "images": 1000, "steps": 98, "planned": 100}
        for name, of in by_draw.items()
    }
    table = equal_time.rows(answers)
    peer = table[table["contender"] == "lightly"].iloc[0]
    assert (peer["accuracy"], peer["gain_of_headstart"], peer["gain_ci95"]) == (0.7, 0.1033, 0.0143)
    assert peer["ci95"] > 0.2  # the draws differ much more than their paired differences
    assert (peer["labels"], peer["seconds"], peer["schedule_done"]) == (10, 120.0, 0.98)
    assert np.isnan(table.iloc[0]["gain_of_headstart"])


def test_the_clock_does_not_time_the_warmup_and_stops_at_the_last_step() -> None:
    clock = Clock(warmup=2, steps=3)
    assert [clock.tick() for _ in range(5)] == [False] * 4 + [True]
    assert clock.steps == 3
    assert clock.seconds > 0


def test_the_clock_stops_at_the_time_limit() -> None:
    clock = Clock(warmup=1, steps=1000, limit=0.0)
    assert [clock.tick(), clock.tick()] == [False, True]
    assert clock.steps == 1


def test_a_watched_loop_ends_with_the_clock_and_later_steps_do_not_count() -> None:
    weight = nn.Parameter(torch.ones(1))
    optimiser, clock = torch.optim.SGD([weight], lr=0.1), Clock(warmup=1, steps=2)
    with watched(clock):
        while True:
            weight.grad = torch.ones(1)
            optimiser.step()
    assert weight.item() == pytest.approx(0.7)
    optimiser.step()
    assert clock.ticks == 3


@pytest.mark.parametrize("contender", [headstart, compute_limit])
def test_our_contenders_train_the_encoder_for_exactly_the_requested_steps(contender: Any) -> None:
    section = SETTINGS.pretrain["simclr"].model_copy(update={"batch_size": 8})
    threads = SETTINGS.runtime.threads.model_copy(update={"pretrain": 1})
    runtime = SETTINGS.runtime.model_copy(update={"threads": threads})
    recipe = Recipe.of(SETTINGS.model_copy(update={"pretrain": {"simclr": section}, "runtime": runtime}))
    encoder = tiny_encoder()
    before = [p.detach().clone() for p in encoder.parameters()]
    pool = np.random.default_rng(0).integers(0, 256, (50, 1, 28, 28), dtype=np.uint8)
    clock = Clock(warmup=1, steps=9)
    contender.pretrain(encoder, pool, recipe, Setting(0, "fp32", "batch"), clock.total, clock)
    assert clock.ticks == 10
    after = [p.detach().cpu() for p in encoder.parameters()]  # it may be on a GPU
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_an_answer_has_steps_images_and_seconds(tmp_path: Any, monkeypatch: Any) -> None:
    pool = np.random.default_rng(0).integers(0, 256, (60, 1, 28, 28), dtype=np.uint8)
    monkeypatch.chdir(tmp_path)
    (tmp_path / load.PARAMS).write_text(PARAMS)
    change(tmp_path / load.PARAMS, {"pretrain.simclr.batch_size": 16})
    write_array(IMAGES / "pool.npy", pool)
    request = Request(setting=asdict(headstart.SETTINGS[0]), steps=2, warmup=1)
    response = respond(headstart, request)
    assert response["steps"] == 2
    assert response["images"] == 2 * 16
    assert response["seconds"] > 0


@pytest.mark.usefixtures("in_copy")
def test_an_encoder_of_any_kind_of_image_is_measured() -> None:
    machine = set_up(SETTINGS.runtime, 1)
    case = encoders.Case("residual", 8, 3, 16, 16)
    once = encoders.measured(case, machine, peak=1e9, steps=2)
    assert once["images_per_second"] > 0
    assert (once["memory_mb"] is not None) == (machine.device.type == "cuda")
    twice = encoders.measured(case, machine, peak=2e9, steps=2)
    shares = [row["gemm_share"] / row["images_per_second"] for row in (once, twice)]
    assert shares[0] == pytest.approx(2 * shares[1], rel=0.1)  # both are rounded


def test_a_synthetic_pack_is_read_like_any_other(tmp_path: Any) -> None:
    scaling.write_pack(tmp_path / "pool.npy", 20)
    images = read_pack(tmp_path / "pool.npy")
    assert images.shape == (20, 1, 28, 28)
    assert 100 < images.mean() < 155


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="memory is read from /proc")
def test_memory_counts_that_of_children_but_no_mapped_files(tmp_path: Any) -> None:
    scaling.write_pack(tmp_path / "pool.npy", 100_000)  # 75 MB
    mapped = read_pack(tmp_path / "pool.npy")
    before = memory(os.getpid())
    assert mapped.sum() > 0  # every page is read
    assert memory(os.getpid()) - before < 20 << 20
    program = "import sys; block = bytearray(100 << 20); print('ready', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with PeakMemory(os.getpid()) as peak_memory:
            pass
        child.communicate()
    assert peak_memory.peak - before > 90 << 20


def test_the_environment_of_the_peers_has_our_versions() -> None:
    def pins(name: str) -> dict[str, str]:
        lines = (ROOT / name).read_text().splitlines()
        return dict(line.rstrip(" \\").split("==", 1) for line in lines if "==" in line and line[0] != " ")

    ours, peers = pins("requirements-dev.lock"), pins("requirements-peers.lock")
    shared = ("torch", "torchvision", "numpy", "lightly", "pandas")
    assert {name: peers[name] for name in shared} == {name: ours[name] for name in shared}
    assert peers["stable-pretraining"] == "0.1.8"
    assert peers["lightly-train"] == "0.18.0"


@pytest.mark.parametrize("name", ["throughput.json", "equal_time.csv", "scaling.csv", "encoders.csv"])
def test_committed_results_are_complete(name: str) -> None:
    path = ROOT / "benchmarks" / "results" / name
    if not path.exists():
        pytest.skip("not measured yet; run `make bench`")
    if name == "throughput.json":
        results = read_json(path)
        assert {"ratio_to_lightly", "ratio_to_stable_pretraining", "share_of_compute_limit"} <= set(results)
        assert path.with_suffix(".md").read_text() == throughput.table(results)
    elif name == "equal_time.csv":
        table = pd.read_csv(path)
        assert set(table["contender"]) == set(equal_time.CONTENDERS)
        assert set(table["labels"]) == set(equal_time.BUDGETS)
    elif name == "encoders.csv":
        table = pd.read_csv(path)
        columns = list(encoders.Case.__dataclass_fields__)
        for hardware_name, rows in table.groupby(["hardware", "precision"]):
            cases = [encoders.Case(**row) for row in rows[columns].to_dict("records")]
            assert cases in encoders.CASES.values(), hardware_name
            assert rows["gemm_share"].between(0, 1, inclusive="neither").all()
    else:
        assert tuple(pd.read_csv(path)["images"]) == scaling.IMAGES
