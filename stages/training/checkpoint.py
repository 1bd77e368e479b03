"""Checkpoints: a training that was killed resumes where it was, and ends with the same bytes.

They lie outside DVC's outputs, because DVC deletes those before it runs a stage. A checkpoint is used only
under its key, a hash of everything that the result depends on: parameters, code, inputs, device, number of
threads and versions. The checkpoint of a finished training stays until its column is trained under another
key: if DVC is killed between the end of the stage and its entry in the lock, the training is not lost.
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

from stages.errors import InputError
from stages.files import provenance
from stages.files.whole import whole_file
from stages.settings import load
from stages.training.machine import Machine

CHECKPOINTS = Path("models/checkpoints")
EVERY = 2.0  # seconds of work that a kill may cost, if writing is fast
SHARE = 0.02  # the largest share of the time that is spent on writing
FACTS = "facts"  # the tensor that holds the JSON
DIGEST = 32  # bytes
NUMERICAL = ("numpy", "safetensors")  # libraries that can change results, beside torch


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds: facts (JSON), tensors by name, and whether the training was finished."""

    facts: dict[str, Any]
    tensors: dict[str, Tensor]
    finished: bool

    def restore(self, module: nn.Module, optimiser: torch.optim.Optimizer) -> list[Tensor]:
        """Restore module and optimiser in place.

        Returns:
            The losses of the last steps that are in no row of the training curve yet.
        """
        module.load_state_dict(_below("module.", self.tensors))
        device = next(module.parameters()).device
        for number, parameter in enumerate(_parameters(optimiser)):
            for name, value in _below(f"optimiser.{number}.", self.tensors).items():
                # NOTE: the fused AdamW walks over memory, so its state needs the parameter's memory layout.
                like = parameter if value.shape == parameter.shape else value
                optimiser.state[parameter][name] = torch.empty_like(like, device=device).copy_(value)
        return list(self.tensors["losses"].to(device).unbind())


@dataclass(frozen=True)
class Origin:
    """Everything that the result of a stage's training depends on.

    It is taken before the stage reads anything, and compared before the stage writes its outputs: a change
    in between must not be recorded as if the result were made from it.

    Attributes:
        hashes: of the files that dvc.yaml declares for the stage, by path.
        parts: the declared parameters by their dotted keys, the declared files as hashes, and the machine,
            the threads and the versions under names of their own.
    """

    stage: str
    method: str
    machine: Machine
    hashes: dict[str, str]
    parts: dict[str, Any]

    @staticmethod
    def of(stage: str, method: str, machine: Machine, raw: Any = None) -> "Origin":
        """The present state; `raw`: the content of params.yaml that the stage uses."""
        hashes = provenance.hashes(stage, method)
        parts = load.declared_values(stage, method, raw) | hashes
        parts["machine"] = [machine.describe(), torch.get_num_threads(), *map(version, NUMERICAL)]
        return Origin(stage, method, machine, hashes, parts)

    def key(self, without: Collection[str] = ()) -> str:
        """A hash of all parts.

        Args:
            without: parameters, files and folders to leave out, for a part of the stage that depends on less;
                `narrowed` adds what it depends on.
        """
        left_out = set(without)
        used = {
            name: part
            for name, part in self.parts.items()
            if not left_out.intersection((name, *map(str, Path(name).parents)))
        }
        return narrowed(self.stage, used)

    def require_unchanged(self) -> None:
        """Raise an InputError that names the parts that have changed, if any have."""
        now = Origin.of(self.stage, self.method, self.machine).parts
        changed = [name for name in sorted(self.parts.keys() | now) if self.parts.get(name) != now.get(name)]
        if changed:
            raise InputError(
                f"{self.stage} {self.method}: params.yaml, code or data changed while it ran "
                f"({', '.join(changed[:3])}): no model was written; run `dvc repro` again"
            )


class Checkpoint:
    """The state of one training on disk.

    Attributes:
        saved: the checkpoint found at the start; None: there was none under this key. If a folder is in its
            place, a message says so, the folder stays, and no checkpoint is written.
        beside: tensors that are written with the state and read again with it.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self.written, self.cost = time.monotonic(), 0.0
        self.saved = self._read()
        self.beside = _below("beside.", self.saved.tensors) if self.saved else {}

    def due(self) -> bool:
        """Whether it is time to write again."""
        return not self.path.is_dir() and time.monotonic() - self.written >= max(EVERY, self.cost / SHARE)

    def write(
        self,
        facts: dict[str, Any],
        module: nn.Module,
        optimiser: torch.optim.Optimizer | None,
        losses: list[Tensor],
    ) -> None:
        """Replace the checkpoint by this state, as a whole.

        Args:
            facts: JSON that the training resumes from.
            optimiser: None: the training is finished.
            losses: of the last steps that are in no row of the training curve yet.
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

    def write_beside(self, tensors: dict[str, Tensor]) -> None:
        """Write tensors alone, for work that is no training: they are `beside` the next time."""
        self.beside = tensors
        self.write({}, nn.Module(), None, [])

    def _read(self) -> Saved | None:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except IsADirectoryError:
            print(
                f"{self.path}: is a folder; remove it, or no checkpoint of this training is written",
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
            if not finished:  # a finished one is no lost work
                print(
                    f"{self.path}: was made with other parameters, data or code; starting from the beginning",
                    flush=True,
                )
            return None
        return Saved(facts, tensors, finished)


def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def narrowed(key: str, *facts: object) -> str:
    """The key of a part of a stage's training, which also depends on these facts (JSON)."""
    text = json.dumps([key, *facts], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=DIGEST).hexdigest()
