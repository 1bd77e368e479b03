"""Checkpoints: a training that was killed resumes where it stopped, and ends with the same bytes.

Checkpoints are outside DVC's outputs, because DVC deletes outputs before it runs a stage. A checkpoint is
used only if its key matches. The key is a hash of everything that the result depends on: parameters, code,
inputs, device, the CPU's instructions, number of threads and versions. The checkpoint of a finished training
is kept until the method is trained with another key, so that the training is not lost if DVC is killed before
it updates `dvc.lock`.
"""

import hashlib
import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from stages.files import provenance
from stages.files.whole import whole_file
from stages.settings import load
from stages.training.machine import Machine

CHECKPOINTS = Path("models/checkpoints")
EVERY = 2.0  # seconds between two checkpoints, if writing is fast
SHARE = 0.02  # the largest fraction of the time that is spent on writing
FACTS = "facts"  # name of the tensor that holds the facts as JSON
DIGEST = 32  # bytes
NUMERICAL = ("numpy", "safetensors")  # libraries besides torch that can change results


@dataclass(frozen=True)
class Saved:
    """The content of a checkpoint: facts (JSON), and tensors by name."""

    facts: dict[str, Any]
    tensors: dict[str, Tensor]

    def restore(self, module: nn.Module, optimiser: torch.optim.Optimizer) -> list[Tensor]:
        """Restore module and optimiser in place.

        Returns:
            The losses of the last steps, which are in no row of the training curve yet.
        """
        module.load_state_dict(_below("module.", self.tensors))
        device = next(module.parameters()).device
        for number, parameter in enumerate(_parameters(optimiser)):
            for name, value in _below(f"optimiser.{number}.", self.tensors).items():
                # NOTE: the fused AdamW goes by memory order, so its state needs the memory layout of the
                # parameter.
                like = parameter if value.shape == parameter.shape else value
                optimiser.state[parameter][name] = torch.empty_like(like, device=device).copy_(value)
        return list(self.tensors["losses"].to(device).unbind())


@dataclass(frozen=True)
class Origin:
    """Everything that the result of a stage's training depends on.

    A stage records it before it reads anything, and compares it before it writes its outputs, because a
    result must not be recorded as made from files that changed in between.

    Attributes:
        hashes: of the files that dvc.yaml declares for the stage, by path.
        parts: the declared parameters by dotted key, the hashes by path, and machine, threads and versions
            under `machine`.
    """

    stage: str
    method: str
    machine: Machine
    hashes: dict[str, str]
    parts: dict[str, Any]

    @staticmethod
    def of(stage: str, method: str, machine: Machine, raw: Any = None) -> "Origin":
        """The current state.

        Args:
            raw: the content of params.yaml that the stage uses; None: read the file.
        """
        hashes = provenance.hashes(stage, method)
        parts = load.declared_values(stage, method, raw) | hashes
        parts["machine"] = [machine.describe(), torch.get_num_threads(), *map(version, NUMERICAL)]
        return Origin(stage, method, machine, hashes, parts)

    def key(self, without: Collection[str] = ()) -> str:
        """A hash of all parts.

        Args:
            without: parameters, files and folders to leave out, for a part of the stage that does not depend
                on them; `narrowed` adds what the part does depend on.
        """
        excluded = set(without)
        used = {
            name: part
            for name, part in self.parts.items()
            if not excluded.intersection((name, *map(str, Path(name).parents)))
        }
        return narrowed(self.stage, used)

    def require_unchanged(self) -> None:
        """Check that nothing has changed since then.

        Raises:
            InputError: names the parts that have changed.
        """
        before = {name: part for name, part in self.parts.items() if name != "machine"}
        provenance.require_unchanged(self.stage, self.method, before)


class Checkpoint:
    """The state of one training on disk.

    Attributes:
        saved: the content of an existing checkpoint with this key; None: there was none. If `path` is a
            folder, a message is printed and no checkpoint is written.
        beside: further tensors, which are saved and restored with the state.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self.written, self.cost = time.monotonic(), 0.0
        self.saved = self._read()
        self.beside = _below("beside.", self.saved.tensors) if self.saved else {}

    def due(self) -> bool:
        """Whether it is time to write the next checkpoint."""
        return not self.path.is_dir() and time.monotonic() - self.written >= max(EVERY, self.cost / SHARE)

    def write(
        self,
        facts: dict[str, Any],
        module: nn.Module,
        optimiser: torch.optim.Optimizer | None,
        losses: list[Tensor],
    ) -> None:
        """Replace the checkpoint by this state, atomically.

        Args:
            facts: what the training resumes from, as JSON.
            optimiser: None: the training is finished.
            losses: of the last steps, which are in no row of the training curve yet.
        """
        if self.path.is_dir():
            return
        started = time.monotonic()
        tensors = {f"module.{name}": value for name, value in module.state_dict().items()}
        if optimiser is not None:
            for number, parameter in enumerate(_parameters(optimiser)):
                for name, value in optimiser.state[parameter].items():
                    tensors[f"optimiser.{number}.{name}"] = value
        tensors |= {f"beside.{name}": value for name, value in self.beside.items()}
        tensors["losses"] = torch.stack(losses) if losses else torch.empty(0)
        text = json.dumps({"key": self.key, "finished": optimiser is None, **facts}).encode()
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        facts_tensor = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        content = safetensors.torch.save({**plain, FACTS: facts_tensor})
        with whole_file(self.path) as temporary:
            temporary.write_bytes(hashlib.blake2b(content, digest_size=DIGEST).digest() + content)
        self.written = time.monotonic()
        self.cost = self.written - started

    def _read(self) -> Saved | None:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except IsADirectoryError:
            print(
                f"{self.path}: is a folder, so no checkpoint of this training is written; remove the folder",
                flush=True,
            )
            return None
        except OSError as error:
            print(f"{self.path}: cannot be read ({error.strerror}); starting from the beginning", flush=True)
            return None
        digest, content = content[:DIGEST], content[DIGEST:]
        try:
            if hashlib.blake2b(content, digest_size=DIGEST).digest() != digest:
                raise ValueError("its checksum is wrong")
            tensors = safetensors.torch.load(content)
            facts = json.loads(tensors.pop(FACTS).numpy().tobytes())
        except (ValueError, KeyError, SafetensorError) as error:
            print(f"{self.path}: is damaged ({error}); starting from the beginning", flush=True)
            return None
        finished = facts.pop("finished", True)
        if facts.pop("key") != self.key:
            if not finished:  # the work of a finished one is in the outputs
                print(
                    f"{self.path}: was made with other parameters, data or code; starting from the beginning",
                    flush=True,
                )
            return None
        return Saved(facts, tensors)


def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def narrowed(key: str, *facts: object) -> str:
    """The key of a part of a stage that also depends on these facts (JSON)."""
    text = json.dumps([key, *facts], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=DIGEST).hexdigest()


def remove_unused(folder: Path, used: Collection[str]) -> None:
    """Remove the checkpoints in a folder that are no longer needed: those that are not named in `used`."""
    if folder.is_file():  # earlier versions had one checkpoint with this name
        folder.unlink()
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name in used:
            continue
        if path.is_dir():
            print(f"{path}: is a folder, which no stage makes; it is not removed", flush=True)
        else:
            path.unlink()
