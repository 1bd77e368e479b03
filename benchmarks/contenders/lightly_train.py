"""`lightly-train`: its `pretrain` command with the method `simclr` and Headstart's encoder in a wrapper."""

import math
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, nn

os.environ["LIGHTLY_TRAIN_EVENTS_DISABLED"] = "1"  # turns telemetry off
os.environ["LIGHTLY_TRAIN_IMAGE_MODE"] = "UNCHANGED"  # keeps grey images grey

import lightly_train

from benchmarks.contenders.common import Clock, Recipe, Setting, watched
from stages.networks.encoder import Encoder
from stages.training.machine import set_up

SETTINGS = [Setting(workers, precision) for precision in ("fp32", "bf16") for workers in (0, 1, 2)]
TEMPERATURE = 0.5  # the default of lightly; that of lightly-train, 0.1, was not tried
WORK_FOLDER = tempfile.TemporaryDirectory(prefix="lightly-train-")  # removed when the process ends


class Wrapper(nn.Module):
    """The encoder as a custom model of lightly-train; its features are already pooled."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def get_model(self) -> Encoder:
        return self.encoder

    def forward_features(self, images: Tensor) -> dict[str, Tensor]:
        features: Tensor = self.encoder(images)
        return {"features": features[:, :, None, None]}

    def forward_pool(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"pooled_features": features["features"]}

    def feature_dim(self) -> int:
        return self.encoder.features


def views() -> dict[str, Any]:
    """The SimCLR views of lightly-train for grey digits: no flips, milder crops, a rotation.

    Its colour jitter works with one channel or three; saturation and hue are off at 0.
    """
    return {
        "image_size": (28, 28),
        "num_channels": 1,
        "random_resize": {"min_scale": 0.4, "max_scale": 1.0},
        "random_flip": None,
        "random_rotation": {"prob": 1.0, "degrees": 20},
        "color_jitter": {
            "prob": 0.8, "strength": 1.0, "brightness": 0.4, "contrast": 0.4, "saturation": 0.0, "hue": 0.0,
        },
        "random_gray_scale": None,
        "gaussian_blur": {"prob": 0.5, "sigmas": (0.1, 1.0), "blur_limit": 0},
        "normalize": {"mean": (0.0,), "std": (1.0,)},
    }  # fmt: skip


@lru_cache(maxsize=2)
def _folder(images: int) -> Path:
    folder = Path(WORK_FOLDER.name) / str(images)
    folder.mkdir()
    return folder


def files_of(pool: np.ndarray) -> Path:
    """A folder with one PNG file per image of the pool, because lightly-train reads only files."""
    folder = _folder(len(pool))
    if not any(folder.iterdir()):
        for row, image in enumerate(pool):
            Image.fromarray(image[0]).save(folder / f"{row:06}.png", compress_level=1)
    return folder


def pretrain(
    encoder: Encoder, pool: np.ndarray, recipe: Recipe, setting: Setting, steps: int, clock: Clock
) -> None:
    """Train for `steps` steps, or until the clock stops it."""
    machine = set_up(recipe.runtime(setting.precision), recipe.settings.runtime.threads.pretrain)
    with watched(clock):
        lightly_train.pretrain(
            out=Path(WORK_FOLDER.name) / "out",
            overwrite=True,
            data=files_of(pool),
            model=Wrapper(encoder),
            method="simclr",
            method_args={
                "hidden_dim": recipe.projector_hidden,
                "output_dim": recipe.projector_output,
                "num_layers": 3,
                "temperature": TEMPERATURE,
                "reference_batch_size": recipe.batch_size,  # so that it does not scale the learning rate
            },
            epochs=math.ceil(steps / (len(pool) // recipe.batch_size)),
            batch_size=recipe.batch_size,
            num_workers=setting.workers,
            accelerator=machine.device.type,  # NOTE: with "auto" it refuses bf16 on a CPU
            precision="bf16-mixed" if setting.precision == "bf16" else "32-true",
            optim="adamw",
            optim_args={"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay},
            transform_args=views(),
            callbacks={"learning_rate_monitor": None, "model_checkpoint": None, "model_export": None},
            loggers={"jsonl": None, "tensorboard": None},
            trainer_args={"max_steps": steps, "enable_model_summary": False, "enable_checkpointing": False},
        )
