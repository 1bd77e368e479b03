"""Checkpoints: a training that was killed goes on where it was, and ends with the same bytes.

They lie outside DVC's outputs, for those DVC deletes before it runs a stage. A checkpoint counts only
under its key, which stands for all that the result depends on: parameters, code, inputs, device,
number of threads and versions. A finished training's stays until its column is trained under another
key: a kill between a stage's end and DVC's note of it must not cost the training.
"""

import hashlib
import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from stages import params, provenance
from stages.errors import InputError
from stages.runtime import Machine
from stages.whole import whole_file

CHECKPOINTS = Path("models/checkpoints")
EVERY = 2.0  # seconds of work that a kill may cost, where writing is cheap
SHARE = 0.02  # of the time at most goes into writing
FACTS = "facts"  # the tensor that holds the JSON
DIGEST = 32  # bytes
NUMERICAL = ("numpy", "safetensors")  # libraries that results pass through, beside torch


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds: facts (JSON), tensors by name, and whether the training was at its end."""

    facts: dict[str, Any]
    tensors: dict[str, Tensor]
    finished: bool

    def restore(self, module: nn.Module, optimiser: torch.optim.Optimizer) -> list[Tensor]:
        """Put back, in place, the state; gives the losses that nothing was made of yet."""
        module.load_state_dict(_below("module.", self.tensors))
        device = next(module.parameters()).device
        for number, parameter in enumerate(_parameters(optimiser)):
            for name, value in _below(f"optimiser.{number}.", self.tensors).items():
                # NOTE: the fused AdamW walks over memory, so its state must lie there as the parameter does.
                like = parameter if value.shape == parameter.shape else value
                optimiser.state[parameter][name] = torch.empty_like(like, device=device).copy_(value)
        return list(self.tensors["losses"].to(device).unbind())


@dataclass(frozen=True)
class Origin:
    """All that the result of a stage's training depends on.

    It is taken before the stage reads anything, and looked at again before it writes its outputs: what was
    changed in between must not be filed as if the result were made from it.

    Attributes:
        hashes: those of the files that dvc.yaml declares for the stage, by path.
        parts: what it declares, parameters by their dotted keys and files as hashes; and under other names
            the machine, the threads and the versions.
    """

    stage: str
    method: str
    machine: Machine
    hashes: dict[str, str]
    parts: dict[str, Any]

    @staticmethod
    def of(stage: str, method: str, machine: Machine, raw: Any = None) -> "Origin":
        """The state of things now; `raw`: the content of params.yaml that the stage goes by."""
        hashes = provenance.hashes(stage, method)
        parts = params.declared_values(stage, method, raw) | hashes
        parts["machine"] = [machine.describe(), torch.get_num_threads(), *map(version, NUMERICAL)]
        return Origin(stage, method, machine, hashes, parts)

    def key(self, without: Collection[str] = ()) -> str:
        """A hash of it.

        Args:
            without: parameters, files and folders that are left out, because a part of the stage depends on
                less: `narrowed` adds that.
        """
        left_out = set(without)
        kept = {
            name: part
            for name, part in self.parts.items()
            if not left_out.intersection((name, *map(str, Path(name).parents)))
        }
        return narrowed(self.stage, kept)

    def require_unchanged(self) -> None:
        """Raise an InputError, which names them, where some of its parts are not what they were."""
        now = Origin.of(self.stage, self.method, self.machine).parts
        changed = [name for name in sorted(self.parts.keys() | now) if self.parts.get(name) != now.get(name)]
        if changed:
            raise InputError(
                f"{self.stage} {self.method}: params.yaml, code or data changed while it ran "
                f"({', '.join(changed[:3])}): nothing was written; run `dvc repro` again"
            )


class Checkpoint:
    """One training's state on disk.

    Attributes:
        saved: what was found at the start and counts; None where nothing was, or where it does not count.
            A folder in its place is said and left alone: then nothing is written.
        beside: tensors that are written with the state, and are there again when it is taken up.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self.written, self.cost = time.monotonic(), 0.0
        self.saved = self._found()
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
        """Replace what is there by this state, as a whole.

        Args:
            facts: JSON that the training goes on from.
            optimiser: None where the training is finished.
            losses: those of the last steps that nothing was made of yet.
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
        content = save({**plain, FACTS: torch.frombuffer(bytearray(text), dtype=torch.uint8)})
        with whole_file(self.path) as temporary:
            temporary.write_bytes(hashlib.blake2b(content, digest_size=DIGEST).digest() + content)
        self.written = time.monotonic()
        self.cost = self.written - started

    def write_beside(self, tensors: dict[str, Tensor]) -> None:
        """Write tensors alone, where it is no training that is kept: they are `beside` the next time."""
        self.beside = tensors
        self.write({}, nn.Module(), None, [])

    def _found(self) -> Saved | None:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except IsADirectoryError:
            print(f"{self.path}: is a folder; no state of this training is kept until it is gone", flush=True)
            return None
        except OSError as error:
            print(f"{self.path}: cannot be read ({error.strerror}); starting anew", flush=True)
            return None
        digest, content = content[:DIGEST], content[DIGEST:]
        try:
            if hashlib.blake2b(content, digest_size=DIGEST).digest() != digest:
                raise ValueError("its checksum is wrong")
            tensors = load(content)
            facts = json.loads(tensors.pop(FACTS).numpy().tobytes())
        except (ValueError, KeyError, SafetensorError) as error:
            print(f"{self.path}: damaged ({error}); starting anew", flush=True)
            return None
        finished = facts.pop("finished", True)
        if facts.pop("key") != self.key:
            if not finished:  # a finished one is no work lost
                print(f"{self.path}: of other parameters, data or code; starting anew", flush=True)
            return None
        return Saved(facts, tensors, finished)


def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def narrowed(key: str, *facts: object) -> str:
    """The key of a part of a stage's training, which depends on these facts (JSON) too."""
    text = json.dumps([key, *facts], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=DIGEST).hexdigest()
