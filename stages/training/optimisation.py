"""Optimisation: AdamW and its parameter groups, the learning rate's schedule, the order of the items."""

import math
from collections.abc import Iterable
from functools import lru_cache

import torch
from torch import Tensor, nn

from stages.errors import InputError
from stages.training.randomness import Stream


def decayed_groups(module: nn.Module, learning_rate: float, weight_decay: float) -> list[dict[str, object]]:
    """AdamW groups: the weights of linear and convolutional layers decay, all other parameters do not.

    The others are biases, norms, and the tokens and positions of a transformer: decay would pull these
    towards a zero that means nothing. The decay is decoupled (Loshchilov & Hutter 2019, arXiv:1711.05101).
    Each group has its peak rate in `peak`, which `set_rates` scales.
    """
    weights: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        decays = parameter.ndim > 1 and name.rpartition(".")[2].endswith("weight")
        (weights if decays else rest).append(parameter)
    return [
        {"params": weights, "lr": learning_rate, "peak": learning_rate, "weight_decay": weight_decay},
        {"params": rest, "lr": learning_rate, "peak": learning_rate, "weight_decay": 0.0},
    ]


def adamw(
    groups: Iterable[dict[str, object]], betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.AdamW:
    """AdamW in its fused form: one pass over the parameters, on CPU and CUDA."""
    return torch.optim.AdamW(list(groups), betas=betas, fused=True)


def set_rates(optimiser: torch.optim.Optimizer, scale: float) -> None:
    """Set every group's learning rate to its peak times `scale`."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * scale


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """The schedule's factor at `step` of `steps`: linear up over `warmup` of them, cosine to 0."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def finite_mean(title: str, losses: list[Tensor], done: int, last: str) -> float:
    """The mean of the losses of the steps up to `done`.

    Args:
        losses: one scalar for each of the last steps. They stay on the device until now, because reading a
            value from a device waits for all work that it has been given.
        last: the last good figures, in words.

    Raises:
        InputError: a loss is NaN or infinite; names the first such step.
    """
    values = torch.stack(losses).float()
    bad = (~values.isfinite()).nonzero()
    if len(bad):
        step = done - len(losses) + int(bad[0]) + 1
        raise InputError(
            f"{title}: the loss is {values[bad[0]].item()} at step {step}; last good figures: {last}; "
            f"try a lower learning rate; no model was written"
        )
    return values.mean().item()


def require_finite(title: str, module: nn.Module) -> None:
    """Refuse weights that the last step made infinite or NaN, although its loss was finite (InputError)."""
    for name, parameter in module.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise InputError(
                f"{title}: the last step made {name} infinite or NaN; try a lower learning rate; "
                "no model was written"
            )


def batch_indices(step: int, batch_size: int, n: int, stream: Stream) -> Tensor:
    """The items of one step, (batch_size,) int64 of n: an endless chain of random epochs, cut into batches.

    They depend on the step alone. The order of an epoch is a permutation, so every item is seen once before
    any is seen again, even if a batch holds several epochs of a small budget.
    """
    start = step * batch_size
    parts = []
    while batch_size > 0:  # the rest of this epoch, and what is left of the batch from the next
        part = _epoch_order(stream, start // n, n)[start % n :][:batch_size]
        start, batch_size = start + len(part), batch_size - len(part)
        parts.append(part)
    return torch.cat(parts)


@lru_cache(maxsize=2)  # all steps of an epoch share its order; 8 bytes an item
def _epoch_order(stream: Stream, epoch: int, n: int) -> Tensor:
    return stream.at("epoch", epoch).permutation(n)
