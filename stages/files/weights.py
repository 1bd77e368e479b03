"""Model files: weights as safetensors, because models come from remotes and loading a pickle runs code.

The header declares the encoder, and holds a digest of itself and of all tensors, so that a damaged file is
refused.
"""

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from stages.errors import InputError
from stages.files.whole import whole_file
from stages.networks.build import build_on_meta
from stages.networks.encoder import Declaration, Encoder

HEADER = "headstart"  # NOTE: only one metadata key, because safetensors writes several in no fixed order


def write(path: Path, module: nn.Module, header: dict[str, Any]) -> None:
    """Write a module's weights; equal weights give equal bytes."""
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    signed = header | {"digest": digest(header, state)}
    content = save(state, metadata={HEADER: json.dumps(signed, sort_keys=True)})
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def digest(header: dict[str, Any], state: dict[str, Tensor]) -> str:
    """A hash of a header and of tensors with their names and shapes; tensors: contiguous, on the CPU."""
    content = hashlib.blake2b(json.dumps(header, sort_keys=True).encode(), digest_size=16)
    for name in sorted(state):
        content.update(f"{name}{tuple(state[name].shape)}".encode())
        content.update(state[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


def write_encoder(path: Path, encoder: Encoder) -> None:
    """Write an encoder with its declaration, which is all that is needed to build it again."""
    write(path, encoder, {"encoder": encoder.declaration.model_dump()})


def read_encoder(path: Path) -> Encoder:
    """Build the encoder that a file declares and load its weights.

    Raises:
        InputError: the file is damaged, or does not hold an encoder.
    """
    header, state = read(path)
    encoder = declared_encoder(path, header)
    fill(path, encoder, header, state)
    return encoder


def is_own(path: Path) -> bool:
    """Whether Headstart wrote this file: it has the header."""
    try:
        with safe_open(path, framework="pt") as file:
            return HEADER in (file.metadata() or {})
    except (SafetensorError, ValueError):
        return False


def read_digest(path: Path) -> str | None:
    """The digest in the header of a file of weights, not checked: `read_encoder` does that."""
    digest = read(path)[0].get("digest")
    return str(digest) if digest else None


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a file, not checked against each other: `fill` does that.

    Raises:
        InputError: it is not a safetensors file, or Headstart did not write it.
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():  # the error of safe_open does not name the file
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "null"))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path}: is not a readable safetensors file ({reason})") from None
    if not isinstance(header, dict):
        raise InputError(f"{path}: was not written by Headstart: its header declares no encoder")
    return header, state


def declared_encoder(path: Path, header: dict[str, Any]) -> Encoder:
    """The encoder that a header declares, on PyTorch's meta device: without memory for its weights.

    Raises:
        InputError: such an encoder cannot be built.
    """
    try:
        declaration = Declaration.model_validate(header.get("encoder"))
    except ValidationError as error:
        detail = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InputError(f"{path}: declares an encoder that cannot be built ({detail})") from None
    try:
        return build_on_meta(declaration)
    except InputError as error:
        raise InputError(f"{path}: declares an encoder that cannot be built ({error})") from None


def fill(path: Path, module: nn.Module, header: dict[str, Any], state: dict[str, Tensor]) -> None:
    """Load weights into a module on the meta device, after checking names, shapes, dtypes and digest.

    Raises:
        InputError: the weights do not fit the module, are damaged, or are not finite.
    """
    expected = module.state_dict()
    wrong = list(expected.keys() ^ state.keys())
    for name in expected.keys() & state.keys():
        if expected[name].shape != state[name].shape or expected[name].dtype != state[name].dtype:
            wrong.append(name)
    if wrong:
        raise InputError(f"{path}: does not fit the encoder that it declares: {', '.join(sorted(wrong)[:5])}")
    stated = header.pop("digest", None)
    if stated != digest(header, state):
        raise InputError(
            f"{path}: is damaged: its content does not match its digest; fetch it again, or run `dvc repro`"
        )
    # NOTE: a training that diverged also has a valid digest.
    if infinite := [name for name, value in state.items() if not bool(value.isfinite().all())]:
        raise InputError(f"{path}: has weights that are infinite or NaN: {', '.join(sorted(infinite)[:5])}")
    # Memory is allocated only now: a file from elsewhere may declare more than this machine has.
    load(module, state)


def load(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Give a module on the meta device memory and weights that fit it."""
    module.to_empty(device="cpu").load_state_dict(state)
    for encoder in module.modules():
        if isinstance(encoder, Encoder):
            encoder.restore_constants()
