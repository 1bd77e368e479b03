"""Which images of the pool to label next, the most useful first.

    python -m stages.suggest --count 50 [--strategy typical] [--method simclr] [--ignore-labels]
                             [--output suggestions.csv] [--sheet suggestions.png]

It looks at the pretrained encoder's features and at which images have a label already, at no label's value.
`typical` takes images from dense regions that differ from each other, `centre` those farthest from all
that have a label (`stages/selection.py`). Without `--method` it is the encoder with the best kNN accuracy
on validation.
`--ignore-labels` chooses as if none had a label, to try it on a dataset that has them all.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from stages.errors import InputError, reported
from stages.files import weights
from stages.files.json_files import read_json
from stages.files.locks import require_writable
from stages.files.packs import read_pack
from stages.files.paths import ENCODERS, IMAGES, LABELS, METRICS
from stages.files.tables import read_table, write_table
from stages.files.whole import whole_file
from stages.images.tensors import as_tensor
from stages.settings import load
from stages.settings.schema import Params
from stages.tasks.features import encode
from stages.tools import selection
from stages.training.machine import set_up
from stages.training.progress import progress

PART = 4096  # images that are encoded between two lines of progress
THUMBNAIL, GAP, CAPTION, ACROSS = 84, 6, 14, 10  # pixels, and pictures in a row


def main(arguments: Sequence[str] | None = None) -> None:
    """Choose, then write the table and the contact sheet."""
    parser = argparse.ArgumentParser(prog="python -m stages.suggest", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, required=True, help="how many images to label")
    parser.add_argument("--strategy", choices=list(selection.STRATEGIES), default="typical")
    parser.add_argument("--method", help="whose encoder (default: the best by kNN)")
    parser.add_argument("--ignore-labels", action="store_true", help="as if no image had a label")
    parser.add_argument("--output", type=Path, default=Path("suggestions.csv"), help="(default: %(default)s)")
    parser.add_argument("--sheet", type=Path, default=Path("suggestions.png"), help="(default: %(default)s)")
    chosen = parser.parse_args(arguments)
    settings = load.validated(load.read(load.PARAMS))
    method = chosen.method or best_method(settings)
    index = read_table(IMAGES / "pool.csv", "id", "source", text=True)
    images = read_pack(IMAGES / "pool.npy", rows=len(index))
    labels = read_table(LABELS / "pool.csv", "id", "label", text=True)
    labelled = np.array([], dtype=int) if chosen.ignore_labels else rows_with_label(index, labels)
    free = len(images) - len(labelled)
    if not free:
        raise InputError("every image of the pool has a label; --ignore-labels chooses as if none had one")
    if not 1 <= chosen.count <= free:
        raise InputError(f"--count is {chosen.count}; allowed: 1 to {free:,}, the images without a label")
    require_writable(chosen.output, chosen.sheet)
    features = encoded(method, images, settings)
    rows = selection.STRATEGIES[chosen.strategy](features, labelled, chosen.count, settings.seed)
    table = index.iloc[rows][["id", "source"]].reset_index(drop=True)
    if "file" in labels:  # a folder's images: where they lie now
        table["source"] = table["id"].map(dict(zip(labels["id"], labels["file"], strict=True)))
    table.insert(0, "rank", range(1, len(rows) + 1))
    write_table(chosen.output, table)
    with whole_file(chosen.sheet) as temporary:
        contact_sheet(images[rows]).save(temporary, format="PNG")
    print(f"{chosen.output}, {chosen.sheet}: {len(rows)} images, {chosen.strategy}, by {method}'s features")


def best_method(settings: Params) -> str:
    """The method in params.yaml whose encoder has the best kNN accuracy on validation."""
    knn = {
        method: read_json(METRICS / "pretrain" / f"{method}.json")["knn"] or 0.0
        for method in settings.methods
    }
    # NOTE: without any validation label all are 0: then the last, for scratch comes first and is no choice.
    return max(reversed(settings.methods), key=lambda method: knn[method])


def rows_with_label(index: pd.DataFrame, labels: pd.DataFrame) -> np.ndarray:
    """The rows of the pool that have a label by the table of labels."""
    named = labels[labels["label"] != ""]["id"]
    return np.flatnonzero(index["id"].isin(named))


def encoded(method: str, images: np.ndarray, settings: Params) -> np.ndarray:
    """Every image's features by the method's encoder, centred, of length 1: (N, D) float32."""
    here = set_up(settings.runtime)
    encoder = weights.read_encoder(ENCODERS / f"{method}.safetensors").to(here.device)
    parts = []
    with progress("suggest: features", len(images)) as bar:
        for start in range(0, len(images), PART):
            part = as_tensor(images[start : start + PART])
            parts.append(encode(encoder, part, here).cpu().numpy())
            bar.advance(len(part))
    features = np.concatenate(parts)
    normalised: np.ndarray = F.normalize(torch.from_numpy(features - features.mean(0)), dim=1).numpy()
    return normalised


def contact_sheet(images: np.ndarray) -> Image.Image:
    """The images (n, C, H, W), each with its rank, in rows."""
    across = min(ACROSS, len(images))
    down = -(-len(images) // across)
    wide, high = THUMBNAIL + GAP, THUMBNAIL + CAPTION + GAP
    sheet = Image.new("RGB", (across * wide + GAP, down * high + GAP), "white")
    write = ImageDraw.Draw(sheet)
    for number, image in enumerate(images):
        left, top = GAP + number % across * wide, GAP + number // across * high
        pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
        picture = Image.fromarray(np.ascontiguousarray(pixels)).resize((THUMBNAIL, THUMBNAIL))
        sheet.paste(picture, (left, top + CAPTION))
        write.text((left, top), str(number + 1), fill="black")
    return sheet


if __name__ == "__main__":
    with reported():
        main()
