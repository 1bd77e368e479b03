"""Every file that a stage reads or writes: where it is, what is in it.

A file is whole or absent: `stages/whole.py`. Models are in `stages/weights.py`.
"""

import csv
import json
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stages.errors import InputError
from stages.whole import require_writable as require_writable
from stages.whole import whole_file as whole_file
from stages.whole import whole_folder as whole_folder

IMAGES = Path("data/prepared/images")  # pool.npy, validation.npy, pool.csv, validation.csv
LABELS = Path("data/prepared/labels")  # pool.csv, classes.json
TEST = Path("data/prepared/test")  # images.npy, index.csv: for `evaluate` alone
ENCODERS, CLASSIFIERS = Path("models/encoders"), Path("models/classifiers")
PREDICTIONS = Path("data/predictions")
METRICS = Path("metrics")
PART = 4096 * 28 * 28  # bytes of pixels that are worked on at the same time: 4,096 digits


def write_array(path: Path, array: np.ndarray) -> None:
    """Write one array as .npy."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def part_size(shape: Sequence[int]) -> int:
    """How many images of a shape (C, H, W) are a part: as many as have PART bytes, at least one."""
    return max(1, PART // int(np.prod(shape)))


def write_pack(path: Path, images: np.ndarray, rows: np.ndarray) -> None:
    """Write some images of a pack, uint8 (n, C, H, W), as .npy, a part at a time."""
    size = part_size(images.shape[1:])
    with whole_file(path) as temporary, temporary.open("wb") as file:
        head = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), *images.shape[1:])}
        np.lib.format.write_array_header_1_0(file, head)
        for start in range(0, len(rows), size):
            file.write(images[rows[start : start + size]].tobytes())


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, without its row numbers."""
    write_pieces(path, [table])


def write_pieces(path: Path, pieces: Iterable[pd.DataFrame]) -> None:
    """Write a table that is made a piece at a time: of the same columns, and at least one."""
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        for number, piece in enumerate(pieces):
            piece.to_csv(file, index=False, header=number == 0, lineterminator="\n")


def write_json(path: Path, content: Any) -> None:
    """Write JSON with sorted keys. NaN and infinity are refused: no reader agrees on them."""
    with whole_file(path) as temporary:
        text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file that a stage has written."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no valid JSON ({error}); run `dvc repro` to make it again") from None


def read_table(path: Path, *columns: str, text: bool = False) -> pd.DataFrame:
    """Read a CSV table and make sure that it has `columns`; `text`: leave every field as it is written."""
    as_text: dict[str, Any] = {"dtype": str, "keep_default_na": False} if text else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of lines with more fields than the head
            table: pd.DataFrame = pd.read_csv(path, index_col=False, **as_text)
        _require_whole_lines(path)
    except (ValueError, csv.Error, pd.errors.ParserWarning) as error:
        raise InputError(f"{path}: is no readable table ({' '.join(str(error).split())})") from None
    if missing := [name for name in columns if name not in table.columns]:
        has = ", ".join(map(str, table.columns))
        raise InputError(f"{path}: column {', '.join(missing)} is missing; it has {has}")
    return table


def _require_whole_lines(path: Path) -> None:
    """Refuse a line with fewer fields than the head (ValueError): pandas takes what is cut off for empty."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        head = next(lines, [])
        for line in lines:
            if 0 < len(line) < len(head):
                raise ValueError(f"line {lines.line_num} has {len(line)} fields, its head {len(head)}")


# NOTE: numpy parses the head of a pack as Python's literals, with all that can go wrong there.
HEAD_ERRORS = (
    ValueError, TypeError, LookupError, ArithmeticError, EOFError, SyntaxError, TokenError,
    MemoryError, RecursionError,
)  # fmt: skip


def read_images(path: Path, rows: int | None = None) -> np.ndarray:
    """An image pack, uint8 (N, C, H, W), memory-mapped; `rows`: how many its table has, where it matters."""
    try:
        images: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except HEAD_ERRORS as error:
        raise InputError(f"{path}: is no image pack ({' '.join(str(error).split())})") from None
    if not isinstance(images, np.ndarray):
        raise InputError(f"{path}: is an archive; allowed: one array in .npy format")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InputError(
            f"{path}: holds {images.dtype} {images.shape}; allowed: uint8 (N, 1 or 3 channels, height, width)"
        )
    if not images.size:
        raise InputError(f"{path}: holds no pixels: its shape is {images.shape}")
    if isinstance(images, np.memmap) and path.stat().st_size != images.offset + images.nbytes:
        raise InputError(f"{path}: is longer than {images.shape[0]} images of {images[0].nbytes} bytes")
    if rows is not None and rows != len(images):
        raise InputError(f"{path}: holds {len(images)} images; its table has {rows} rows; run `dvc repro`")
    return images


def as_tensor(images: np.ndarray) -> Tensor:
    """Images of a pack as a tensor of their own, uint8 (n, C, H, W)."""
    return torch.from_numpy(np.array(images))


def pixels(images: Tensor, device: torch.device) -> Tensor:
    """uint8 (N, C, H, W) to float in [0, 1] on the device: what views and encoders take."""
    return images.to(device, non_blocking=True).float() / 255


def read_labels(path: Path) -> Tensor:
    """The `label` column of a table, int64 (N,): an index into the classes; where it is empty, -1."""
    column = read_table(path, "label", text=True)["label"].fillna("")
    numbers = {text: class_number(text) for text in set(column)}
    found = [numbers[text] for text in column]
    if None in found:
        row = found.index(None)
        raise InputError(
            f"{path}: column label, row {row + 1}, is {column.iloc[row]!r}; "
            "allowed: the number of a class, or nothing"
        )
    return torch.tensor(found, dtype=torch.int64)


def class_number(text: str) -> int | None:
    """The number of a class as it stands in a table; -1: nothing stands there; None: it is no number."""
    # NOTE: not by pandas, which asks another library where it is installed, and that one lets "\0" through.
    return int(text or -1) if re.fullmatch("[0-9]{0,9}", text) else None


def read_pool_labels() -> tuple[Tensor, list[str]]:
    """The label of each image of the pool, int64 (N,), -1 where it has none, and the names of the classes.

    Raises:
        InputError: the labels are not those of the pool's images, row by row, or are no classes.
    """
    path, classes = LABELS / "pool.csv", read_json(LABELS / "classes.json")
    if not are_names(classes):
        raise InputError(f"{LABELS / 'classes.json'}: is no list of different names")
    ids, expected = (read_table(file, "id", text=True)["id"] for file in (path, IMAGES / "pool.csv"))
    if not ids.equals(expected):
        raise InputError(f"{path}: its ids are not those of {IMAGES / 'pool.csv'}, row by row")
    labels = read_labels(path)
    if len(bad := (labels >= len(classes)).nonzero()):
        row = int(bad[0])
        raise InputError(
            f"{path}: column label, row {row + 1}, is {int(labels[row])}; "
            f"allowed: 0 to {len(classes) - 1}, the number of a class in {LABELS / 'classes.json'}"
        )
    return labels, classes


def are_names(classes: Any) -> bool:
    """Whether something read is a list of names that differ, that are not empty and that can be printed."""
    if not isinstance(classes, list) or not all(isinstance(name, str) and name for name in classes):
        return False
    try:
        "".join(classes).encode()
    except UnicodeEncodeError:  # JSON can hold one half of a character
        return False
    return len(set(classes)) == len(classes)
