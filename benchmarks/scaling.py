"""How time and memory grow with the number of images: 10 thousand, 100 thousand and a million.

    python -m benchmarks.scaling [IMAGES …]

The images are uint8 noise of 28 × 28 pixels in a memory-mapped pack in a temporary folder. For each number
of images a new process builds an encoder and computes the statistics of the pool (it reads every image once),
then trains SimCLR for a fixed number of steps. Writes `benchmarks/results/scaling.csv`:

- `start_seconds`: building the encoder and computing the statistics of the pool.
- `order_seconds`, `order_mb`: the permutation of the pool at the start of each epoch.
- `seconds`, `images_per_second`: the fixed number of steps; `epoch_seconds`: a full epoch at that rate,
  with its permutation.
- `peak_memory_mb`: the peak of anonymous and shared memory of the process, measured every 0.2 s, without the
  page cache, which the kernel frees when memory is needed. `page_cache_mb`: the mapped file pages at the end
  (RssFile): libraries, and the parts of the pool that were read.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.contenders import headstart
from benchmarks.contenders.common import Clock, Recipe
from benchmarks.drive import log, memory_of_command
from stages.errors import reported
from stages.files.packs import read_pack
from stages.files.tables import write_table
from stages.pretrain.start import fresh_encoder
from stages.settings import load
from stages.training.optimisation import batch_indices
from stages.training.randomness import Stream

RESULT = Path("benchmarks/results/scaling.csv")
IMAGES = (10_000, 100_000, 1_000_000)
STEPS, WARMUP = 60, 4


def main(sizes: tuple[int, ...]) -> None:
    """Measure each number of images in a new process, and write the table."""
    rows = []
    for images in sizes:
        with tempfile.TemporaryDirectory() as folder:
            pack = Path(folder) / "pool.npy"
            write_pack(pack, images)
            answer, peak = memory_of_command("benchmarks.scaling", "--one", str(pack))
        rows.append({"images": images, **json.loads(answer), "peak_memory_mb": peak >> 20})
        log(f"{images:,} images: {rows[-1]}")
    table = pd.DataFrame(rows)
    write_table(RESULT, table)
    print(table.to_string(index=False))


def write_pack(path: Path, images: int) -> None:
    """Write a pack of noise, uint8 (images, 1, 28, 28), part by part."""
    pack = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(images, 1, 28, 28))
    generator = np.random.default_rng(0)
    for start in range(0, images, 50_000):
        part = pack[start : start + 50_000]
        part[:] = generator.integers(0, 256, part.shape, dtype=np.uint8)
    pack.flush()


def measured(path: Path) -> dict[str, Any]:
    """Measure one pack, in the process whose memory is measured from outside."""
    settings = load.validated(load.read(load.PARAMS))
    recipe = Recipe.of(settings)
    pool = read_pack(path)
    stream = Stream.of(settings.seeds.training, "pretrain")
    started = time.perf_counter()
    encoder = fresh_encoder(settings, pool, stream.at("encoder"))
    start_seconds = time.perf_counter() - started
    started = time.perf_counter()
    batch_indices(0, recipe.batch_size, len(pool), stream.at("scaling"))
    order_seconds = time.perf_counter() - started
    clock = Clock(WARMUP, STEPS)
    headstart.pretrain(encoder, pool, recipe, headstart.SETTINGS[0], clock.total, clock)
    rate = clock.steps * recipe.batch_size / clock.seconds
    return {
        "steps": clock.steps,
        "start_seconds": round(start_seconds, 2),
        "order_seconds": round(order_seconds, 4),
        "order_mb": round(8 * len(pool) / 2**20, 1),
        "seconds": round(clock.seconds, 2),
        "images_per_second": round(rate),
        "epoch_seconds": round(order_seconds + len(pool) / rate, 1),
        "page_cache_mb": mapped_files() >> 20,
    }


def mapped_files() -> int:
    """Bytes of file pages that this process has mapped; 0 without /proc."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    sizes = dict(line.split(":", 1) for line in lines)
    return int(sizes.get("RssFile", "0 kB").split()[0]) << 10


if __name__ == "__main__":
    with reported():
        if sys.argv[1:2] == ["--one"]:
            answer = sys.stdout
            sys.stdout = sys.stderr  # the progress of the training
            print(json.dumps(measured(Path(sys.argv[2]))), file=answer)
        else:
            main(tuple(map(int, sys.argv[1:])) or IMAGES)
