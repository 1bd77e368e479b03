"""Weights that other programs wrote: safetensors, or PyTorch's own format, read without running code."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from stages.errors import InputError

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
    if wrong := [name for name, value in state.items() if not bool(value.isfinite().all())]:
        raise InputError(f"{path}: has weights that are infinite or NaN: {', '.join(sorted(wrong)[:5])}")
    return state


def _safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path}: is not a readable safetensors file ({error})") from None


def _pytorch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"{path}: is not safetensors, nor a PyTorch file of tensors alone ({reason})"
        ) from None
