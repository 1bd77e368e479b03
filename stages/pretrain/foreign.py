"""Weights that other programs wrote: safetensors, or PyTorch's own format, read without running code."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from stages.errors import InputError

PLAIN = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")  # where training scripts put the weights


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by name.

    Raises:
        InputError: it is neither safetensors nor a PyTorch file of tensors alone, or a weight is infinite or
            NaN.
    """
    content = _safetensors(path) if path.suffix == ".safetensors" else _pytorch(path)
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path}: has no weights by name")
    state = {
        str(name).removeprefix("module."): value
        for name, value in content.items()
        if isinstance(value, Tensor)
    }
    if other := [name for name, value in state.items() if value.layout != torch.strided or value.is_meta]:
        raise InputError(
            f"{path}: has tensors that are sparse or without values: {', '.join(sorted(other)[:5])}"
        )
    if other := [name for name, value in state.items() if value.nbytes > value.untyped_storage().nbytes()]:
        raise InputError(
            f"{path}: has tensors that repeat few values, as `expand` makes: {', '.join(sorted(other)[:5])}"
        )
    if other := [name for name, value in state.items() if value.dtype not in PLAIN]:
        kinds = ", ".join(sorted({str(state[name].dtype).removeprefix("torch.") for name in other}))
        raise InputError(
            f"{path}: has weights of type {kinds}; allowed: floating point of 16 bits or more, and integers"
        )
    if wrong := [name for name, value in state.items() if not bool(value.isfinite().all())]:
        raise InputError(f"{path}: has weights that are infinite or NaN: {', '.join(sorted(wrong)[:5])}")
    return state


def _safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path}: is not a readable safetensors file ({reason})") from None


def _pytorch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged file may raise any exception
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"{path}: is not safetensors, nor a PyTorch file of tensors alone ({reason})"
        ) from None
