"""Every pretraining method with a tiny network and a short training, for the unit tests."""

import importlib
from typing import Any

from stages.networks.encoder import Encoder
from stages.pretrain.curve import Look
from stages.pretrain.learner import Learner, build
from stages.settings.schema import Training
from stages.training.randomness import Stream
from tests.conftest import MOVING, strengths, tiny_encoder

PROJECTOR = {"projector_hidden": 16, "projector_output": 8}
OWN_PARAMETERS: dict[str, dict[str, Any]] = {
    "autoencoder": {"noise": 0.2, "erase": 0.3, "decoder_width": 8},
    "gan": {"noise": 0.3, "latent": 4, "information": 1.0, "generator_width": 8},
    "mae": {"masked": 0.6, "decoder_width": 8, "decoder_depth": 1, "normalise_patches": False},
    "simclr": {"temperature": 0.5, **PROJECTOR},
    "vicreg": {"invariance": 25.0, "variance": 25.0, "covariance": 1.0, **PROJECTOR},
    "barlow_twins": {"redundancy": 0.005, **PROJECTOR},
    "byol": {"momentum": 0.9, **PROJECTOR},
    "dino": {
        "prototypes": 12, "student_temperature": 0.1, "teacher_temperature": 0.05,
        "momentum": 0.9, "centre_momentum": 0.9, **PROJECTOR,
    },
    "lejepa": {"gaussian": 0.05, "slices": 16, **PROJECTOR},
}  # fmt: skip
METHODS = list(OWN_PARAMETERS)


def parameters(method: str, **changes: Any) -> Training:
    """A method's parameters for a training of 32 steps."""
    module = importlib.import_module(f"stages.pretrain.methods.{method}")
    common = {
        "images": 1,
        "steps": 32,
        "batch_size": 64,
        "learning_rate": 0.01,
        "weight_decay": 1e-4,
        "warmup": 0.1,
    }
    params: Training = module.Params(**{**common, **OWN_PARAMETERS[method], **changes})
    return params


def encoder_for(method: str, seed: int = 0) -> Encoder:
    """A tiny encoder that the method can train."""
    return tiny_encoder("vit" if method == "mae" else "residual", seed)


def tiny_learner(method: str, encoder: Encoder | None = None) -> Learner:
    """The method's learner with strong views."""
    encoder = encoder or encoder_for(method)
    return build(method, encoder, parameters(method), strengths(**MOVING), Stream.of(1, "pretrain"))


def constant_knn(accuracy: float) -> Look:
    """A look at the encoder that finds this kNN accuracy at each look at all images."""
    return lambda _step, _loss, full: {"knn": accuracy} if full else {}
