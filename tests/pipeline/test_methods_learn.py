"""Every method learns: on a few thousand real digits its encoder is well above an untrained one."""

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
from stages.settings import load, schema
from stages.training.machine import Machine
from stages.training.randomness import Stream
from tests.conftest import ROOT

SETTINGS = load.validated(load.read(ROOT / load.PARAMS))
HERE = Machine(torch.device("cpu"), "fp32")
ENCODERS = {"mae": "vit"}  # residual is the others'
EPOCHS = {"mae": 12}  # 5 are enough for the others


LEARNING = [name for name in schema.available_methods() if name not in ("scratch", "imported")]


@pytest.mark.parametrize("name", LEARNING)
def test_knn_is_well_above_the_untrained_encoder(name: str, mnist: tuple[Source, Source]) -> None:
    images, held_out = mnist[0].images[:4096], as_tensor(mnist[0].images[5000:7000])
    labels = torch.from_numpy(np.array(mnist[0].labels[5000:7000]))
    declaration = Declaration(name=ENCODERS.get(name, "residual"), width=16, channels=1, image_size=28)
    stream = Stream.of(1, "learn")
    encoder = build_encoder(declaration, stream.at("encoder").generator())
    encoder.set_statistics(torch.tensor([0.13]), torch.tensor([0.31]))
    changes = {"epochs": EPOCHS.get(name, 5), "batch_size": 64}
    section = SETTINGS.pretrain[name].model_copy(update=changes)
    method = build(name, encoder, section, SETTINGS.views.presets["digits"], stream)

    monitor = Monitor(name, encoder, held_out, labels, SETTINGS.knn, SETTINGS.health, HERE)
    monitor.uninformative = method.uninformative
    curve, _ = train(name, method, images, section, HERE, stream, monitor)
    assert monitor.collapse is None
    assert curve[-1]["knn"] > curve[0]["knn"] + 0.05
