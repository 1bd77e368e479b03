"""What unit tests share: one thread for each, unasked, and a small project of digits for the tools."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from stages.files.json_files import write_json
from stages.files.packs import write_array
from stages.files.paths import IMAGES, LABELS
from stages.files.tables import write_table
from stages.settings import load
from stages.tools import preset_trial
from tests.conftest import ROOT, seal
from tests.pipeline.conftest import change

POOL = 300  # images of the small project


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Take back the threads that `set_up` sets for a whole process.

    Two pytest workers with two threads each on two cores wait for each other at every operation: measured,
    a training of 13 seconds took 130 (CPU seconds too, because waiting threads spin).
    """
    yield
    torch.set_num_threads(1)


@pytest.fixture
def small(in_copy: Path, digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Real digits, a narrow encoder, small batches; the labels of every third image of the pool are known."""
    monkeypatch.setattr(preset_trial, "FOLDS", 2)
    monkeypatch.setattr(preset_trial, "SPLITS", 1)
    (in_copy / "stages").symlink_to(ROOT / "stages")
    images, labels = (part.numpy() for part in digits)
    write_array(IMAGES / "pool.npy", images[:POOL])
    write_array(IMAGES / "validation.npy", images[POOL:400])
    ids = pd.DataFrame({"id": [f"train-{row:05}" for row in range(POOL)]})
    write_table(IMAGES / "pool.csv", ids)
    known = pd.Series(labels[:POOL]).astype(str).where(np.arange(POOL) % 3 == 0, "")
    write_table(LABELS / "pool.csv", ids.assign(label=known))
    write_table(IMAGES / "validation.csv", pd.DataFrame({"label": labels[POOL:400]}))
    write_json(LABELS / "classes.json", [str(number) for number in range(10)])
    values = {"encoder.width": 8, "pretrain.simclr.batch_size": 16, "runtime.precision": "fp32"}
    values |= {"methods": ["scratch", "autoencoder", "simclr"], "runtime.threads.pretrain": 1}
    change(in_copy / load.PARAMS, values)
    seal()
    return in_copy
