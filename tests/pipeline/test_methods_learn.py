"""Every method learns: on a few thousand digits the kNN accuracy rises well above the untrained encoder's."""

import numpy as np
import pytest
import torch

from stages.images.tensors import as_tensor
from stages.networks.build import build as build_encoder
from stages.networks.encoder import Declaration
from stages.prepare.mnist import Source
from stages.pretrain.health import Monitor
from stages.pretrain.learner import build
from stages.pretrain.train import train
from stages.settings import load, values
from stages.training.machine import Machine
from stages.training.randomness import Stream
from tests.conftest import ROOT

SETTINGS = load.validated(load.read(ROOT / load.PARAMS))
CPU = Machine(torch.device("cpu"), "fp32")
ENCODERS = {"mae": "vit"}  # for the others: residual
STEPS = {"mae": 768, "autoencoder": 320, "gan": 320, "dino": 320}  # for the others: 192
LEARNING = [
    pytest.param(name, marks=[] if name == "simclr" else pytest.mark.full)
    for name in values.available_methods()
    if name not in ("scratch", "imported")
]


@pytest.mark.parametrize("name", LEARNING)
def test_knn_is_well_above_the_untrained_encoder(name: str, mnist: tuple[Source, Source]) -> None:
    pool, validation = mnist[0].images[:4096], as_tensor(mnist[0].images[5000:7000])
    labels = torch.from_numpy(np.array(mnist[0].labels[5000:7000]))
    declaration = Declaration(name=ENCODERS.get(name, "residual"), width=16, channels=1, image_size=28)
    stream = Stream.of(1, "learn")
    encoder = build_encoder(declaration, stream.at("encoder").generator())
    encoder.set_statistics(torch.tensor([0.13]), torch.tensor([0.31]))
    changes = {"images": 1, "steps": STEPS.get(name, 192), "batch_size": 64}
    params = SETTINGS.pretrain[name].model_copy(update=changes)
    learner = build(name, encoder, params, SETTINGS.views.presets["digits"], stream)

    monitor = Monitor(
        name, encoder, validation, labels, torch.arange(len(labels)), SETTINGS.knn, SETTINGS.health, CPU
    )
    monitor.uninformative = learner.uninformative
    curve, _ = train(name, learner, pool, params, CPU, stream, monitor)
    assert monitor.collapse is None
    assert curve[-1]["knn"] > curve[0]["knn"] + 0.05
