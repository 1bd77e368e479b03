"""Speed of SimCLR's pretraining on this machine, by encoder, image size and batch size; made for GPUs.

    python -m benchmarks.encoders [--quick]

The images are uint8 noise in a memory-mapped pack. Views, training loop and precision are those of the
pipeline (`digits` for grey images, `photos` for colour). On a CPU only small encoders are measured. Adds the
rows of this machine to `benchmarks/results/encoders.csv`:

- `images_per_second`: images of the pool (each gives two views), over STEPS steps after WARMUP steps;
- `memory_mb`: peak memory of the tensors on the GPU; empty on a CPU;
- `gemm_share`: FLOP/s of convolutions and matrix products, as a fraction of what a large matrix product
  reaches on this machine in the same precision. Views and normalisation layers do not count. The loss grows
  with the square of the batch size; it counts as much per image as in a batch of 32.
"""

import gc
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks import hardware
from benchmarks.contenders import headstart
from benchmarks.contenders.common import Clock, Recipe
from benchmarks.drive import log
from stages.errors import reported
from stages.files.packs import read_pack, write_array
from stages.files.tables import write_table
from stages.networks.encoder import Encoder
from stages.pretrain.start import fresh_encoder
from stages.settings import load
from stages.tools.experiment import applied
from stages.training.machine import Machine, set_up
from stages.training.randomness import Stream

RESULT = Path("benchmarks/results/encoders.csv")
STEPS, WARMUP = 40, 10
SIZES = {"cpu": hardware.SIZES, "cuda": (4096, 8192)}  # of the matrix product
LONG = 40_000  # steps, so that the loop checks its losses as rarely as in a long run; the clock stops it


@dataclass(frozen=True)
class Case:
    """What is measured: an encoder on images of one size in batches of one size."""

    encoder: str
    width: int
    channels: int
    image_size: int
    batch_size: int


CASES = {
    "cpu": [
        Case("residual", 32, 1, 28, 128),
        Case("cnn", 32, 1, 28, 128),
        Case("vit", 32, 1, 28, 128),
        Case("residual", 32, 3, 32, 128),
    ],
    "cuda": [
        Case("residual", 32, 1, 28, 128),
        Case("residual", 32, 1, 28, 512),
        Case("residual", 32, 1, 28, 2048),
        Case("residual", 64, 1, 28, 256),
        Case("vit", 32, 1, 28, 512),
        Case("residual", 32, 3, 32, 512),
        Case("residual", 128, 3, 32, 2048),
        Case("timm/resnet18", 32, 3, 64, 512),
        Case("timm/resnet18", 32, 3, 64, 2048),
        Case("timm/resnet50", 32, 3, 64, 512),
        Case("timm/resnet50", 32, 3, 224, 128),
        Case("timm/vit_base_patch16_224", 32, 3, 224, 128),
    ],
}


class DeviceClock(Clock):
    """A clock that waits for the GPU before it reads the time."""

    def tick(self) -> bool:
        """Count a step; returns whether it was the last one."""
        if torch.cuda.is_available() and self.ticks + 1 in (self.warmup, self.total):
            torch.cuda.synchronize()
        return super().tick()


def main(quick: bool) -> None:
    """Measure each case; quick: one case and two steps, to check that it works; writes nothing."""
    runtime = load.validated(load.read(load.PARAMS)).runtime
    machine = set_up(runtime, runtime.threads.pretrain)
    kind = machine.device.type
    cases = CASES[kind][:1] if quick else CASES[kind]
    peak = hardware.gemm_peak(machine.device, (512,) if quick else SIZES[kind])[machine.precision]
    name = hardware_name(machine)
    log(f"{name}, {machine.precision}: matrix products {peak / 1e12:,.2f} TFLOP/s")
    rows = []
    for case in cases:
        rows.append(asdict(case) | measured(case, machine, peak, 2 if quick else STEPS))
        log(str(rows[-1]))
    table = pd.DataFrame(rows)
    table.insert(0, "hardware", name)
    table.insert(1, "precision", machine.precision)
    table["torch"] = torch.__version__
    if quick:
        return
    if RESULT.exists():
        old = pd.read_csv(RESULT, dtype=str, keep_default_na=False)
        table = pd.concat([old[(old["hardware"] != name) | (old["precision"] != machine.precision)], table])
    write_table(RESULT, table)


def hardware_name(machine: Machine) -> str:
    """The name of the GPU or else of the processor, with the number of CPU cores."""
    description = hardware.machine_description()
    name = (
        torch.cuda.get_device_name(machine.device)
        if machine.device.type == "cuda"
        else description["processor"]
    )
    return f"{name}, {description['cores']} cores"


def measured(case: Case, machine: Machine, peak: float, steps: int) -> dict[str, Any]:
    """Measure one case: images/s, memory, and the share of the FLOP/s of a matrix product (`peak`)."""
    changes = {
        "encoder.name": case.encoder,
        "encoder.width": case.width,
        "views.pretrain": "digits" if case.channels == 1 else "photos",
        "pretrain.simclr.batch_size": case.batch_size,
    }
    settings = load.validated(applied(load.read(load.PARAMS), changes))
    recipe, stream = Recipe.of(settings), Stream.of(settings.seeds.training, "encoders")
    clock = DeviceClock(WARMUP, steps)
    with tempfile.TemporaryDirectory() as folder:
        pool = noise(Path(folder) / "pool.npy", case)
        encoder = fresh_encoder(settings, pool, stream).to(machine.device)
        flops = step_flops(encoder, recipe, machine, case)
        gc.collect()
        if machine.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        headstart.pretrain(encoder, pool, recipe, headstart.SETTINGS[0], LONG, clock)
    rate = clock.steps * case.batch_size / clock.seconds
    memory = torch.cuda.max_memory_allocated() >> 20 if machine.device.type == "cuda" else None
    share = flops * clock.steps / clock.seconds / peak
    return {"images_per_second": round(rate), "memory_mb": memory, "gemm_share": round(share, 4)}


def noise(path: Path, case: Case) -> np.ndarray:
    """Write and read a pack of noise, four batches long."""
    shape = (4 * case.batch_size, case.channels, case.image_size, case.image_size)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    write_array(path, images)
    return read_pack(path)


def step_flops(encoder: Encoder, recipe: Recipe, machine: Machine, case: Case) -> int:
    """FLOPs of a training step: encoder, projector and loss, on the two views of a batch."""
    learner = headstart.build(encoder, recipe, machine)
    # NOTE: only a part of the batch, because fp32 needs more memory; all but the loss is linear in its size.
    part = min(case.batch_size, 32)
    both = torch.rand(2 * part, case.channels, case.image_size, case.image_size, device=machine.device)
    return hardware.step_flops(lambda: headstart.loss_of(learner, both)) * case.batch_size // part


if __name__ == "__main__":
    with reported():
        main(quick="--quick" in sys.argv[1:])
