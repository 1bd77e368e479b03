"""What pretraining starts from: an encoder with fresh weights, or with weights from a file."""

from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from stages.errors import InputError
from stages.files import weights
from stages.files.packs import part_size
from stages.networks.build import build, unfilled
from stages.networks.encoder import Declaration, Encoder
from stages.networks.torchvision import TorchvisionEncoder
from stages.settings.schema import Params, Start
from stages.training.randomness import Stream


def fresh_encoder(settings: Params, pool: np.ndarray, stream: Stream) -> Encoder:
    """The encoder of params.yaml with fresh weights, normalised for the pool: equal for all methods."""
    chosen = settings.encoder
    try:
        declaration = Declaration(
            name=chosen.name, width=chosen.width, channels=pool.shape[1], image_size=pool.shape[2]
        )
    except ValidationError as error:
        reason = "; ".join(str(e["msg"]).removeprefix("Value error, ") for e in error.errors())
        raise InputError(f"params.yaml: encoder.name is {chosen.name!r}: {reason}") from None
    encoder = build(declaration, stream.generator())
    encoder.set_statistics(*statistics(pool))
    if chosen.weights == "torchvision" and isinstance(encoder, TorchvisionEncoder):
        encoder.load_published()
    return encoder


def statistics(pool: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of each channel of uint8 images (N, C, H, W), (C,) each, in [0, 1] units."""
    sums, squares = np.zeros(pool.shape[1]), np.zeros(pool.shape[1])
    size = part_size(pool.shape[1:])
    for start in range(0, len(pool), size):  # the pool may be larger than the memory
        part = pool[start : start + size].astype(np.float64) / 255
        sums, squares = sums + part.sum((0, 2, 3)), squares + (part**2).sum((0, 2, 3))
    pixels = pool.size / pool.shape[1]
    mean = sums / pixels
    deviation = np.sqrt(np.maximum(squares / pixels - mean**2, 0))
    return torch.from_numpy(mean).float(), torch.from_numpy(deviation).float()


def imported_encoder(method: str, start: Start, expected: Declaration) -> Encoder:
    """The encoder of a file, with its weights and its own normalisation.

    It must be the network that params.yaml asks for, because it is compared with the other methods.

    Args:
        method: the method that starts from it.
        expected: what params.yaml and the pool's images ask for.

    Raises:
        InputError: there is no such file, it holds no encoder, its digest is another one, or it does not fit.
    """
    file, key = Path(start.file), f"pretrain.{method}.start"
    if not file.is_file():
        raise InputError(
            f"params.yaml: {key}.file is {start.file!r}, and there is no such file; get one, for example by "
            f"`dvc import REPOSITORY models/encoders/simclr.safetensors -o {start.file}`"
        )
    encoder = weights.read_encoder(file)
    digest = weights.read_digest(file)
    if digest != start.digest:
        raise InputError(
            f"params.yaml: {key}.digest is {start.digest or 'null'}; "
            f"allowed: {digest}, the digest of {start.file}"
        )
    fitting = unfilled(expected)
    if _kind(encoder) != _kind(fitting):
        raise InputError(
            f"{start.file}: is an encoder of {_described(encoder.declaration)}; "
            f"allowed: what params.yaml and the images ask for, {_described(expected)}"
        )
    # The size of the images may differ if no weight depends on it.
    fitting.to_empty(device="cpu").load_state_dict(encoder.state_dict())
    return fitting


def _kind(encoder: Encoder) -> tuple[Declaration, dict[str, torch.Size]]:
    """What two encoders must have in common for one to take the other's weights."""
    shapes = {name: value.shape for name, value in encoder.state_dict().items()}
    return encoder.declaration.model_copy(update={"image_size": 0}), shapes


def _described(declaration: Declaration) -> str:
    return ", ".join(f"{key} {value}" for key, value in declaration.model_dump().items())
