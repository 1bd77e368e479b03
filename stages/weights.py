"""Model files: weights as safetensors, never pickle, for models come from remotes and a pickle runs code.

The header says which encoder they are for, and a digest of itself and all tensors: a file with a flipped
bit is refused.
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
from torch import Tensor

from stages.artifacts import are_names
from stages.encoder import Declaration, Encoder
from stages.encoders import Classifier, unfilled
from stages.errors import InputError
from stages.whole import whole_file

HEADER = "headstart"  # NOTE: one metadata key only: safetensors does not order several


def write(path: Path, module: Encoder | Classifier, header: dict[str, Any]) -> None:
    """Write a module's weights; equal weights give equal bytes."""
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    signed = header | {"digest": digest(header, state)}
    content = save(state, metadata={HEADER: json.dumps(signed, sort_keys=True)})
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def digest(header: dict[str, Any], state: dict[str, Tensor]) -> str:
    """A hash of a header and of tensors (contiguous, on the CPU) with their names and shapes."""
    found = hashlib.blake2b(json.dumps(header, sort_keys=True).encode(), digest_size=16)
    for name in sorted(state):
        found.update(f"{name}{tuple(state[name].shape)}".encode())
        found.update(state[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def write_encoder(path: Path, encoder: Encoder) -> None:
    """Write an encoder with its declaration, so that it can be built from the file alone."""
    write(path, encoder, {"encoder": encoder.declaration.model_dump()})


def write_classifier(path: Path, classifier: Classifier, classes: list[str]) -> None:
    """Write encoder and head with the declaration and the class names."""
    declaration = classifier.encoder.declaration.model_dump()
    write(path, classifier, {"encoder": declaration, "classes": classes})


def read_encoder(path: Path) -> Encoder:
    """Build the encoder that a file declares and fill in its weights."""
    header, state = _read_weights(path)
    encoder = _declared_encoder(path, header)
    _fill(path, encoder, header, state)
    return encoder


def read_digest(path: Path) -> str | None:
    """The hash of its own content that a file of weights states; reading the weights checks it."""
    digest = _read_weights(path)[0].get("digest")
    return str(digest) if digest else None


def read_classifier(path: Path) -> tuple[Classifier, list[str]]:
    """The classifier of a file, and the names of its classes."""
    header, state = _read_weights(path)
    classes = header.get("classes")
    if not isinstance(classes, list) or not classes:
        raise InputError(f"{path}: holds no classifier: its header names no classes")
    if not are_names(classes):
        raise InputError(f"{path}: its header's classes are no list of different names")
    with torch.device("meta"):
        classifier = Classifier(_declared_encoder(path, header), len(classes))
    _fill(path, classifier, header, state)
    return classifier, classes


def _read_weights(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():  # safe_open's own error names no file
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "null"))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no readable safetensors file ({error})") from None
    if not isinstance(header, dict):
        raise InputError(f"{path}: was not written by Headstart: its header says nothing of an encoder")
    return header, state


def _declared_encoder(path: Path, header: dict[str, Any]) -> Encoder:
    try:
        declaration = Declaration.model_validate(header.get("encoder"))
    except ValidationError as error:
        detail = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InputError(f"{path}: declares an encoder that cannot be built ({detail})") from None
    return unfilled(declaration)


def _fill(path: Path, module: Encoder | Classifier, header: dict[str, Any], state: dict[str, Tensor]) -> None:
    """Fill in weights, after checking every name, shape and dtype against the declaration."""
    expected = module.state_dict()
    wrong = list(expected.keys() ^ state.keys())
    for name in expected.keys() & state.keys():
        if expected[name].shape != state[name].shape or expected[name].dtype != state[name].dtype:
            wrong.append(name)
    if wrong:
        raise InputError(f"{path}: does not fit the encoder that it declares: {', '.join(sorted(wrong)[:5])}")
    said = header.pop("digest", None)
    if said != digest(header, state):
        raise InputError(f"{path}: is damaged: it is not what was written")
    # NOTE: a digest says that a file is whole, not that its writer's training went well.
    if infinite := [name for name, value in state.items() if not bool(value.isfinite().all())]:
        raise InputError(f"{path}: holds weights that are infinite or NaN: {', '.join(sorted(infinite)[:5])}")
    # Memory is taken only now: what a file from elsewhere declares may be larger than the machine.
    module.to_empty(device="cpu").load_state_dict(state)
