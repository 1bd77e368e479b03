"""`stable-pretraining`: its transforms, dataset, data module, module and loss with Lightning's trainer."""

import math
from functools import partial
from typing import Any

import kornia.augmentation as kornia
import lightning
import numpy as np
import stable_pretraining as spt
import torch
from stable_pretraining.data import gpu_transforms, transforms
from stable_pretraining.forward import simclr
from torchvision.transforms import v2

from benchmarks.contenders.common import Clock, Digits, Recipe, Setting
from stages.networks.encoder import Encoder
from stages.pretrain.two_views import perceptron
from stages.training import optimisation
from stages.training.machine import set_up

SETTINGS = [Setting(workers, precision) for precision in ("fp32", "bf16") for workers in (0, 1, 2)]
SETTINGS += [Setting(workers, "bf16", views="batch") for workers in (0, 1, 2)]
TEMPERATURE = 0.5  # the default of stable-pretraining
OFF = (
    "logging", "env_dump", "trainer_info", "sklearn_checkpoint", "wandb_checkpoint", "trackio_checkpoint",
    "swanlab_checkpoint", "module_summary", "slurm_info", "unused_params", "hf_checkpoint",
)  # fmt: skip
# Logs and checkpoints would only cost time.
spt.set(default_callbacks=dict.fromkeys(OFF, False), progress_bar="none")


class Stopper(lightning.Callback):
    """Ticks the clock after each step, and stops the trainer after the last."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
        if self.clock.tick():
            trainer.should_stop = True


def by_image() -> Any:
    """The views per image for grey digits: no flips, no colours, milder crops, a rotation."""
    # NOTE: the ColorJitter of stable-pretraining fails if saturation or hue is off.
    jitter = v2.RandomApply([v2.ColorJitter(brightness=0.4, contrast=0.4)], p=0.8)
    view = transforms.Compose(
        transforms.RandomRotation(20),
        transforms.RandomResizedCrop(28, scale=(0.4, 1.0)),
        transforms.WrapTorchTransform(jitter),
        transforms.PILGaussianBlur(sigma=(0.1, 1.0), p=0.5),
        transforms.ToImage(),
    )
    return transforms.MultiViewTransform([view, view])


def by_batch() -> Any:
    """The same views with kornia, for the whole batch at once."""
    # NOTE: the colour jitter of stable-pretraining needs three channels, and it has no rotation.
    ops = (
        kornia.RandomRotation(20.0, p=1.0),
        kornia.RandomResizedCrop((28, 28), scale=(0.4, 1.0)),
        kornia.RandomBrightness((0.6, 1.4), p=0.8),
        kornia.RandomContrast((0.6, 1.4), p=0.8),
        kornia.RandomGaussianBlur((5, 5), (0.1, 1.0), p=0.5),
    )
    wrapped = [gpu_transforms._KorniaWrap(op, record_params=False) for op in ops]
    return gpu_transforms.StackedMultiView(gpu_transforms.GPUCompose(wrapped))


def pretrain(
    encoder: Encoder, pool: np.ndarray, recipe: Recipe, setting: Setting, steps: int, clock: Clock
) -> None:
    """Train for `steps` steps, or until the clock stops it."""
    machine = set_up(recipe.runtime(setting.precision), recipe.settings.runtime.threads.pretrain)
    by_whole_batch = setting.views == "batch"
    dataset = spt.data.FromTorchDataset(
        Digits(pool),
        names=["image", "label"],
        transform=transforms.ToImage() if by_whole_batch else by_image(),
        gpu_transform=by_batch() if by_whole_batch else None,
    )
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=recipe.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=setting.workers,
        persistent_workers=setting.workers > 0,
    )
    hidden = recipe.projector_hidden
    rate = partial(optimisation.warmup_cosine, steps=steps, warmup=recipe.warmup)
    module = spt.Module(
        forward=simclr,
        backbone=encoder,
        projector=perceptron(encoder.features, hidden, hidden, recipe.projector_output),
        simclr_loss=spt.losses.NTXEntLoss(temperature=TEMPERATURE),
        optim={
            "optimizer": partial(
                torch.optim.AdamW, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
            ),
            "scheduler": partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=rate),
            "interval": "step",
        },
    )
    trainer = lightning.Trainer(
        max_steps=steps,
        max_epochs=math.ceil(steps / len(loader)),
        precision="bf16-mixed" if setting.precision == "bf16" else "32-true",
        accelerator=machine.device.type,
        devices=1,
        callbacks=[Stopper(clock)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    # NOTE: the configuration of stable-pretraining has no option that turns this callback off.
    trainer.callbacks = [c for c in trainer.callbacks if type(c).__name__ != "HardwareMonitor"]
    trainer.fit(module, datamodule=spt.data.DataModule(train=loader))
