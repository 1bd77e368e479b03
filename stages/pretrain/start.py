"""The encoder that pretraining starts from: with random weights, or with weights from a file."""

from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from stages.errors import InputError
from stages.files import weights
from stages.files.packs import part_size
from stages.networks.build import build, build_on_meta
from stages.networks.encoder import Declaration, Encoder
from stages.networks.pixel_rule import Decoding
from stages.networks.timm import TimmEncoder
from stages.pretrain import foreign
from stages.pretrain.decoding_file import read_decoding
from stages.settings.schema import PUBLISHED, Params, Start
from stages.training.randomness import Stream


def fresh_encoder(settings: Params, pool: np.ndarray, stream: Stream) -> Encoder:
    """The encoder that params.yaml asks for, with random weights and the pool's normalisation.

    It is the same for all methods.

    Args:
        pool: uint8 (N, C, H, W).
        stream: the random numbers for the initial weights.

    Raises:
        InputError: there is no such encoder, or not for images of this size.
    """
    chosen = settings.encoder
    try:
        declaration = Declaration(
            name=chosen.name,
            width=chosen.width,
            channels=pool.shape[1],
            image_size=pool.shape[2],
            decoding=read_decoding(),
            input_size=chosen.input_size,
        )
        encoder = build(declaration, stream.generator())
    except ValidationError as error:
        reason = "; ".join(str(e["msg"]).removeprefix("Value error, ") for e in error.errors())
        raise InputError(f"params.yaml: encoder.name is {chosen.name!r}: {reason}") from None
    except InputError as error:
        raise InputError(f"params.yaml: encoder.name is {chosen.name!r}: {error}") from None
    encoder.set_statistics(*statistics(pool))
    return encoder


def statistics(pool: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each channel of uint8 images (N, C, H, W): (C,) each, for [0, 1]."""
    sums, squares = np.zeros(pool.shape[1]), np.zeros(pool.shape[1])
    size = part_size(pool.shape[1:])
    for start in range(0, len(pool), size):  # in parts, because the pool may be larger than the memory
        part = pool[start : start + size].astype(np.float64) / 255
        sums, squares = sums + part.sum((0, 2, 3)), squares + (part**2).sum((0, 2, 3))
    pixels = pool.size / pool.shape[1]
    mean = sums / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 0))
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()


def given_encoder(method: str, start: Start, fresh: Encoder) -> Encoder:
    """The encoder with the weights, and their normalisation, that a method starts from.

    Args:
        method: the method that starts from these weights.
        start: the method's parameter `start`.
        fresh: with random weights; it may be changed.

    Raises:
        InputError: the weights cannot be used, or the published ones are not on this machine.
    """
    file = Path(start.file)
    if isinstance(fresh, TimmEncoder):
        if start.file == PUBLISHED:
            fresh.load_imagenet()
            return fresh
        if file.is_file() and not weights.is_own(file):
            _load_foreign(method, start, fresh)
            return fresh
    return imported_encoder(method, start, fresh.declaration)


def _load_foreign(method: str, start: Start, encoder: TimmEncoder) -> None:
    """Load a file that Headstart did not write: weights of this network with timm's names.

    Raises:
        InputError: the file cannot be read, its digest is not the one in params.yaml, or it holds another
            network.
    """
    file = Path(start.file)
    _require_digest(method, start, foreign.sha256(file))
    state = foreign.read_state(file)
    try:
        encoder.load_trained(state)
    except InputError as error:
        raise InputError(
            f"params.yaml: pretrain.{method}.start.file is {start.file!r}, which does not fit encoder.name "
            f"{encoder.declaration.name}: {error}"
        ) from None


def _require_digest(method: str, start: Start, digest: str | None) -> None:
    if digest != start.digest:
        raise InputError(
            f"params.yaml: pretrain.{method}.start.digest is {start.digest or 'null'}; "
            f"allowed: {digest}, the digest of {start.file}"
        )


def imported_encoder(method: str, start: Start, expected: Declaration) -> Encoder:
    """The encoder in a file, with its weights and its normalisation.

    It must be the network that params.yaml asks for, because all methods are compared on the same network.
    Only the image size may differ, if no weight depends on it.

    Args:
        method: the method that starts from these weights.
        start: the method's parameter `start`.
        expected: the network that params.yaml and the pool's images ask for.

    Raises:
        InputError: the file does not exist or holds no encoder, its digest is not the one in params.yaml,
            or it holds another network.
    """
    file, key = Path(start.file), f"pretrain.{method}.start"
    if not file.is_file():
        raise InputError(
            f"params.yaml: {key}.file is {start.file!r}, which does not exist; get it, for example with "
            f"`dvc import REPOSITORY models/encoders/simclr/run0.safetensors -o {start.file}`"
        )
    encoder = weights.read_encoder(file)
    _require_digest(method, start, weights.read_digest(file))
    result = build_on_meta(expected)
    if _architecture(encoder) != _architecture(result):
        raise InputError(
            f"params.yaml: {key}.file is {start.file!r}, which holds an encoder with "
            f"{_as_text(encoder.declaration)}; params.yaml and the images ask for {_as_text(expected)}"
        )
    weights.load(result, encoder.state_dict())
    return result


def _architecture(encoder: Encoder) -> tuple[Declaration, dict[str, torch.Size]]:
    """What must be equal in two encoders for one to take the other's weights."""
    shapes = {name: value.shape for name, value in encoder.state_dict().items()}
    return encoder.declaration.model_copy(update={"image_size": 0, "decoding": Decoding()}), shapes


def _as_text(declaration: Declaration) -> str:
    described = declaration.model_dump(exclude={"decoding"}, exclude_none=True)
    return ", ".join(f"{key} {value}" for key, value in described.items())
