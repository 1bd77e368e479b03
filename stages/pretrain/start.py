"""What pretraining starts from: an encoder with its first weights, or one that was trained elsewhere."""

from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from stages import encoders, weights
from stages.artifacts import part_size
from stages.encoder import Declaration, Encoder
from stages.errors import InputError
from stages.randomness import Stream
from stages.sections import Params, Section
from stages.torchvision_encoder import TorchvisionEncoder


class Import(Section):
    """An encoder that another branch, repository or remote has trained.

    Attributes:
        file: where it lies, such as after `dvc import` or `dvc get`.
        digest: what the file says of its own content. It stands among the parameters, so that another
            encoder is noticed, and nobody's figures are of another one than they say. None: not known yet.
    """

    file: str
    digest: str | None


def fresh_encoder(settings: Params, pool: np.ndarray, stream: Stream) -> Encoder:
    """The encoder of params.yaml with its first weights, normalised for the pool: the same for all."""
    chosen = settings.encoder
    try:
        declaration = Declaration(
            name=chosen.name, width=chosen.width, channels=pool.shape[1], image_size=pool.shape[2]
        )
    except ValidationError as error:  # of a file from elsewhere it would be no mistake in params.yaml
        reason = "; ".join(str(e["msg"]).removeprefix("Value error, ") for e in error.errors())
        raise InputError(f"params.yaml: encoder.name is {chosen.name!r}: {reason}") from None
    encoder = encoders.build(declaration, stream.generator())
    sums, squares = np.zeros(pool.shape[1]), np.zeros(pool.shape[1])
    size = part_size(pool.shape[1:])
    for start in range(0, len(pool), size):  # in parts: the pool may be larger than the memory
        part = pool[start : start + size].astype(np.float64) / 255
        sums, squares = sums + part.sum((0, 2, 3)), squares + (part**2).sum((0, 2, 3))
    pixels = pool.size / pool.shape[1]
    mean = sums / pixels
    encoder.set_statistics(
        torch.from_numpy(mean).float(),
        torch.from_numpy(np.sqrt(np.maximum(squares / pixels - mean**2, 0))).float(),
    )
    if chosen.weights == "torchvision" and isinstance(encoder, TorchvisionEncoder):
        encoder.load_published()
    return encoder


def imported_encoder(chosen: Import, expected: Declaration) -> Encoder:
    """The encoder of a file, with its weights and its own normalisation.

    It must be the network that the other methods train: it is measured beside them.

    Args:
        expected: what `params.yaml` and the pool's images ask for.

    Raises:
        InputError: the file is not there, is no encoder, is another than the digest says, or does not fit.
    """
    file = Path(chosen.file)
    if not file.is_file():
        raise InputError(
            f"params.yaml: pretrain.imported.file is {chosen.file!r}, which is not here; allowed: one, "
            f"as after `dvc import REPOSITORY models/encoders/simclr.safetensors -o {chosen.file}`"
        )
    encoder = weights.read_encoder(file)
    digest = weights.read_digest(file)
    if digest != chosen.digest:
        raise InputError(
            f"params.yaml: pretrain.imported.digest is {chosen.digest or 'null'}; allowed: {digest}, "
            f"which is what {chosen.file} holds"
        )
    fitting = encoders.unfilled(expected)
    if _kind(encoder) != _kind(fitting):
        raise InputError(
            f"{chosen.file}: is an encoder of {_said(encoder.declaration)}; "
            f"allowed: what params.yaml and the images ask for, {_said(expected)}"
        )
    # The images' size may be another one where no weight depends on it.
    fitting.to_empty(device="cpu").load_state_dict(encoder.state_dict())
    return fitting


def _kind(encoder: Encoder) -> tuple[Declaration, dict[str, torch.Size]]:
    """What two encoders must have in common for one to take the other's weights."""
    shapes = {name: value.shape for name, value in encoder.state_dict().items()}
    return encoder.declaration.model_copy(update={"image_size": 0}), shapes


def _said(declaration: Declaration) -> str:
    return ", ".join(f"{key} {value}" for key, value in declaration.model_dump().items())
