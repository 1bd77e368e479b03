"""Speed and peak memory of `prepare` for a folder of many small JPEG files, and the cost of a rerun.

    python -m benchmarks.decoding [IMAGES …]
    python -m benchmarks.decoding photographs

The benchmark generates the JPEG files: 64 × 48 pixels of blurred noise, in ten class folders. For each number
of images one process reads, decodes, splits and writes them. A second process repeats this after ten images
were added, and decodes only these. Writes `benchmarks/results/decoding.csv`. `peak_memory_mb` is the peak of
anonymous and shared memory, measured every 0.2 s, without the page cache.

`photographs` prepares 2,000 JPEG files of 1000 × 800 pixels, at the reduced scale that JPEG offers and then
at full size. Writes `benchmarks/results/decoding_photographs.csv`.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from benchmarks.drive import log, memory_of_command
from stages.errors import reported
from stages.files.tables import write_table
from stages.prepare import own_images
from stages.settings import load
from stages.training.randomness import Stream

RESULT = Path("benchmarks/results/decoding.csv")
IMAGES = (10_000, 30_000, 100_000)
PHOTOGRAPHS = Path("benchmarks/results/decoding_photographs.csv")
LARGE = 2_000  # photographs
MORE = 10  # images that are added before the rerun


def main(sizes: tuple[int, ...]) -> None:
    """Measure each number of images, then again with more images, each in a new process."""
    rows = []
    for images in sizes:
        with tempfile.TemporaryDirectory() as folder:
            for start, stop in ((0, images), (images, images + MORE)):
                write_jpegs(Path(folder) / "images", start, stop)
                answer, peak = memory_of_command("benchmarks.decoding", "--one", folder)
                seconds = json.loads(answer.splitlines()[-1])["seconds"]
                row = {"images": stop, "decoded": stop - start, "seconds": seconds}
                row |= {"images_per_second": round(stop / seconds), "peak_memory_mb": peak >> 20}
                rows.append(row)
                log(f"{stop:,} images, {stop - start:,} of them new: {row}")
    table = pd.DataFrame(rows)
    write_table(RESULT, table)
    print(table.to_string(index=False))


def photographs() -> None:
    """Measure large photographs at reduced scale and at full size, each in a new process."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_jpegs(Path(folder) / "images", 0, LARGE, (1000, 800))
        for scale in ("reduced", "full"):
            answer, peak = memory_of_command("benchmarks.decoding", "--one", folder, scale)
            seconds = json.loads(answer.splitlines()[-1])["seconds"]
            row = {"images": LARGE, "scale": scale, "seconds": seconds}
            row |= {"images_per_second": round(LARGE / seconds), "peak_memory_mb": peak >> 20}
            rows.append(row)
            log(f"{row}")
            shutil.rmtree(Path(folder) / "data")
    table = pd.DataFrame(rows)
    write_table(PHOTOGRAPHS, table)
    print(table.to_string(index=False))


def write_jpegs(folder: Path, start: int, stop: int, size: tuple[int, int] = (64, 48)) -> None:
    """Write the images `start` to `stop`, of some width and height, into class folders."""
    for number in range(start, stop):
        noise = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        class_folder = folder / str(number % 10)
        class_folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(class_folder / f"{number:07d}.jpg")


def measure_one(folder: str, scale: str = "reduced") -> None:
    """Prepare the images of one folder and print the seconds."""
    if scale == "full":
        JpegImageFile.draft = lambda *_: None  # type: ignore[method-assign]
    settings = load.validated(load.read(load.PARAMS))
    os.chdir(folder)
    data = settings.data.model_copy(update={"source": "folder", "path": "images"})
    started = time.perf_counter()
    own_images.prepare(data, Stream.of(settings.seeds.split, "prepare")).write({})
    print(json.dumps({"seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    with reported():
        if sys.argv[1:2] == ["--one"]:
            measure_one(*sys.argv[2:])
        elif sys.argv[1:] == ["photographs"]:
            photographs()
        else:
            main(tuple(map(int, sys.argv[1:])) or IMAGES)
