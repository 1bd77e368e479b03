"""Suggest which images of the pool to label next, the most useful first.

    python -m stages.tools.suggest --count 50 [--strategy typical] [--method simclr] [--ignore-labels]
                                   [--output suggestions.csv] [--sheet suggestions.png]

For images of a folder the table has the columns of its labels.csv: fill in the labels and append it as it
is.

It uses the features of a pretrained encoder, that of run 0, and which images have a label, but not the
labels themselves. `typical` takes different images from dense regions, `centre` those that are farthest from
all labelled ones (`stages/tools/selection.py`). Without `--method` it uses the method with the best kNN
accuracy on validation. `--ignore-labels` treats all images as unlabelled, to try this on a dataset that is
fully labelled.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from stages.compare.written import OnValidation, ValidationCount
from stages.errors import InputError, one_line, reported
from stages.files import weights
from stages.files.digests import require_files_as_written
from stages.files.locks import require_output
from stages.files.packs import read_pack
from stages.files.paths import DATA, IMAGES, LABELS, METRICS, PREPARED, encoder_file
from stages.files.records import read_record, read_recorded
from stages.files.tables import read_table, write_table
from stages.files.whole import whole_file
from stages.images.tensors import as_tensor
from stages.prepare import labels_table
from stages.settings import load
from stages.settings.schema import Params
from stages.settings.values import first_pretrained
from stages.tasks.features import encode
from stages.tasks.power import ENOUGH_VALIDATION
from stages.tools import selection
from stages.training.machine import set_up
from stages.training.progress import progress
from stages.training.resources import cores

CHUNK = 4096  # images that are encoded between two updates of the progress
THUMBNAIL, GAP, CAPTION = 84, 6, 14  # pixels
COLUMNS = 10  # pictures in a row of the contact sheet


def main(arguments: Sequence[str] | None = None) -> None:
    """Choose images, write the table and the contact sheet."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.tools.suggest", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--count", type=int, required=True, help="number of images to label")
    parser.add_argument(
        "--strategy", choices=list(selection.STRATEGIES), default="typical",
        help="typical: from dense regions; centre: far from all labels (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--method", help="the method whose encoder is used (default: the best by kNN on validation)"
    )
    parser.add_argument("--ignore-labels", action="store_true", help="treat all images as unlabelled")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("suggestions.csv"),
        help="the table to write (default: %(default)s)",
    )
    parser.add_argument(
        "--sheet", type=Path, default=Path("suggestions.png"),
        help="the contact sheet to write (default: %(default)s)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    settings = load.validated(load.read(load.PARAMS))
    method = options.method or best_method(settings)
    require_files_as_written(IMAGES, "pool.csv", "pool.npy")
    require_files_as_written(LABELS, "pool.csv")
    index = read_table(IMAGES / "pool.csv", "id", "source", text=True)
    images = read_pack(IMAGES / "pool.npy", rows=len(index))
    labels = read_table(LABELS / "pool.csv", "id", "label", text=True)
    labelled = np.array([], dtype=int) if options.ignore_labels else labelled_rows(index, labels)
    unlabelled = len(images) - len(labelled)
    if not unlabelled:
        raise InputError("all images of the pool have a label; --ignore-labels treats them as unlabelled")
    if not 1 <= options.count <= unlabelled:
        raise InputError(
            f"--count is {options.count}; allowed: 1 to {unlabelled:,}, the images without a label"
        )
    require_output("--output", options.output)
    require_output("--sheet", options.sheet)
    folder = Path(settings.data.path)
    if outside := [file for file in labels.get("file", []) if not PurePath(file).is_relative_to(folder)]:
        raise InputError(f"{LABELS}: has {outside[0]}, which is not in data.path, {folder}; run `dvc repro`")
    features = normalised_features(method, images, settings)
    rows = selection.STRATEGIES[options.strategy](features, labelled, options.count, settings.seeds.draws)
    table = index.iloc[rows][["id", "source"]].reset_index(drop=True)
    if "file" in labels:  # images from a folder: their current paths, as lines of its table
        paths = table["id"].map(dict(zip(labels["id"], labels["file"], strict=True)))
        write_lines(options.output, folder, list(paths))
    else:
        table.insert(0, "rank", range(1, len(rows) + 1))
        write_table(options.output, table)
    with whole_file(options.sheet) as temporary:
        contact_sheet(images[rows]).save(temporary, format="PNG")
    done = f"{len(rows)} images, chosen by {options.strategy} from the features of {method}"
    print(one_line(f"{options.output}, {options.sheet}: {done}"))


def best_method(settings: Params) -> str:
    """The method in params.yaml whose encoder has the best kNN accuracy on validation.

    Where validation has too few labels to choose by: the first pretrained method by name.
    """
    labels = read_recorded(DATA, PREPARED, ValidationCount)["validation_labelled"]
    if labels < ENOUGH_VALIDATION:
        method = first_pretrained(settings.methods)
        print(f"validation has {labels} labels, too few to choose an encoder by; taking that of {method}")
        return method
    knn = {
        method: read_record(METRICS / "pretrain" / f"{method}.json", OnValidation)["knn"] or 0.0
        for method in settings.methods
    }
    return max(reversed(settings.methods), key=lambda method: knn[method])


def labelled_rows(index: pd.DataFrame, labels: pd.DataFrame) -> np.ndarray:
    """The rows of the pool's index, (n,) int, that have a label in the table of labels."""
    labelled_ids = labels[labels["label"] != ""]["id"]
    return np.flatnonzero(index["id"].isin(labelled_ids))


def normalised_features(method: str, images: np.ndarray, settings: Params) -> np.ndarray:
    """The features of all images by the method's encoder of run 0, centred and of length 1.

    Args:
        images: uint8 (N, C, H, W).

    Returns:
        (N, D) float32.
    """
    machine = set_up(settings.runtime, cores())
    file = encoder_file(method, 0)
    require_files_as_written(file.parent, file.name)
    encoder = weights.read_encoder(file).to(machine.device)
    parts = []
    with progress("suggest: features", len(images)) as bar:
        for start in range(0, len(images), CHUNK):
            part = as_tensor(images[start : start + CHUNK])
            parts.append(encode(encoder, part, machine).cpu().numpy())
            bar.advance(len(part))
    features = np.concatenate(parts)
    normalised: np.ndarray = F.normalize(torch.from_numpy(features - features.mean(0)), dim=1).numpy()
    return normalised


def write_lines(output: Path, folder: Path, files: Sequence[str]) -> None:
    """Write files, the most useful first, as a table that can be appended to the folder's labels.csv.

    It has the columns and the delimiter of that table if there is one, and else can become it; the labels are
    empty.
    """
    table, _ = labels_table.find(folder)
    columns, delimiter = ["file", "label"], ","
    if table is not None:
        columns, delimiter = labels_table.header(table), labels_table.delimiter(table)
    with whole_file(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(columns)
        for path in files:
            inside = PurePath(path).relative_to(folder).as_posix()
            writer.writerow(inside if name.strip().casefold() == "file" else "" for name in columns)


def contact_sheet(images: np.ndarray) -> Image.Image:
    """One picture of all images, uint8 (n, C, H, W), in rows, each with its rank above it."""
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    width, height = THUMBNAIL + GAP, THUMBNAIL + CAPTION + GAP
    sheet = Image.new("RGB", (columns * width + GAP, rows * height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for number, image in enumerate(images):
        left, top = GAP + number % columns * width, GAP + number // columns * height
        pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
        thumbnail = Image.fromarray(np.ascontiguousarray(pixels)).resize((THUMBNAIL, THUMBNAIL))
        sheet.paste(thumbnail, (left, top + CAPTION))
        draw.text((left, top), str(number + 1), fill="black")
    return sheet


if __name__ == "__main__":
    with reported():
        main()
