"""`lightly`: its transform, dataset, head and loss in a plain PyTorch loop, as in its documentation."""

from itertools import chain, repeat

import numpy as np
import torch
from lightly.data import LightlyDataset
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms.simclr_transform import SimCLRTransform
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.contenders.common import Clock, Digits, Recipe, Setting
from stages.networks.encoder import Encoder
from stages.training import optimisation
from stages.training.machine import set_up

SETTINGS = [Setting(workers, precision) for precision in ("fp32", "bf16") for workers in (0, 1, 2)]
TEMPERATURE = 0.5  # the default of lightly


def transform() -> SimCLRTransform:
    """The SimCLR views of lightly for grey digits: no flips, no colours, milder crops, a rotation."""
    return SimCLRTransform(
        input_size=28, cj_sat=0, cj_hue=0, cj_strength=0.5, min_scale=0.4, random_gray_scale=0,
        hf_prob=0, rr_prob=1, rr_degrees=20, sigmas=(0.1, 1.0), normalize=None,
    )  # fmt: skip


def pretrain(
    encoder: Encoder, pool: np.ndarray, recipe: Recipe, setting: Setting, steps: int, clock: Clock
) -> None:
    """Train for `steps` steps, or until the clock stops it."""
    machine = set_up(recipe.runtime(setting.precision), recipe.settings.runtime.threads.pretrain)
    dataset = LightlyDataset.from_torch_dataset(Digits(pool), transform=transform())
    loader = DataLoader(
        dataset,
        batch_size=recipe.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=setting.workers,
        persistent_workers=setting.workers > 0,
    )
    head = SimCLRProjectionHead(
        encoder.features, recipe.projector_hidden, recipe.projector_output, num_layers=3
    )
    model = nn.ModuleDict({"encoder": encoder, "head": head}).to(machine.device).train()
    criterion = NTXentLoss(temperature=TEMPERATURE)
    groups = optimisation.decayed_groups(model, recipe.learning_rate, recipe.weight_decay)
    optimiser = optimisation.adamw(groups)
    for step, (views, _, _) in zip(range(steps), chain.from_iterable(repeat(loader)), strict=False):
        optimisation.set_rates(optimiser, optimisation.warmup_cosine(step, steps, recipe.warmup))
        first, second = (view.to(machine.device, memory_format=torch.channels_last) for view in views)
        with machine.autocast():
            loss = criterion(head(encoder(first)), head(encoder(second)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if clock.tick():
            return
