"""Optimisation: AdamW, its parameter groups, the learning rate schedule, and the order of the items."""

import math
from collections.abc import Iterable
from functools import lru_cache

import torch
from torch import Tensor, nn

from stages.errors import InputError
from stages.training.randomness import Stream


class DivergedError(InputError):
    """A loss or a weight is NaN or infinite: the learning rate is too high."""


def decayed_groups(module: nn.Module, learning_rate: float, weight_decay: float) -> list[dict[str, object]]:
    """AdamW's two parameter groups: with weight decay, and without.

    The weights of linear, convolutional and attention layers decay. Biases, norms, class tokens and position
    embeddings do not: for them, zero is no better than any other value. The decay is decoupled
    (I. Loshchilov, F. Hutter, ICLR 2019, arXiv:1711.05101).

    Returns:
        The group with decay, then the one without. Each has its peak learning rate in `peak`, for
        `set_rates`.
    """
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        is_weight = parameter.ndim > 1 and name.rpartition(".")[2].endswith("weight")
        (decayed if is_weight else others).append(parameter)
    return [
        {"params": decayed, "lr": learning_rate, "peak": learning_rate, "weight_decay": weight_decay},
        {"params": others, "lr": learning_rate, "peak": learning_rate, "weight_decay": 0.0},
    ]


def adamw(
    groups: Iterable[dict[str, object]], betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.AdamW:
    """Fused AdamW: one pass over the parameters, on CPU and CUDA."""
    return torch.optim.AdamW(list(groups), betas=betas, fused=True)


def set_rates(optimiser: torch.optim.Optimizer, scale: float) -> None:
    """Set each group's learning rate to `scale` times its peak."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * scale


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """The factor on the learning rate at `step`, from 0 to `steps` - 1.

    It rises linearly to 1 during the first `warmup` (a fraction) of the steps, then falls to 0 along a
    cosine.
    """
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def finite_mean(title: str, losses: list[Tensor], done: int, last: str) -> float:
    """The mean loss of the last steps.

    Args:
        title: names the training in the message.
        losses: one scalar per step. They stay on the device until this call, because reading a value from a
            GPU waits until the GPU has finished all its work.
        done: number of steps done so far; the last of `losses` is that of step `done`.
        last: the last good row of the training curve, as text for the message.

    Raises:
        DivergedError: a loss is NaN or infinite; the message names the first such step.
    """
    values = torch.stack(losses).float()
    bad = (~values.isfinite()).nonzero()
    if len(bad):
        step = done - len(losses) + int(bad[0]) + 1
        raise DivergedError(
            f"{title}: the loss is {values[bad[0]].item()} at step {step}; last good figures: {last}; "
            f"try a lower learning rate; no model was written"
        )
    return values.mean().item()


def require_finite(title: str, module: nn.Module) -> None:
    """Check the weights after the last step, whose result no later loss shows.

    Raises:
        DivergedError: a parameter is NaN or infinite.
    """
    for name, parameter in module.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise DivergedError(
                f"{title}: the last step made {name} infinite or NaN; try a lower learning rate; "
                "no model was written"
            )


def batch_indices(step: int, batch_size: int, n: int, stream: Stream) -> Tensor:
    """The items of one step, (batch_size,) int64 in [0, n).

    The items follow one another in random epochs without end, which are cut into batches. Each epoch is a
    permutation of all items, so each item is used once before any is used again, also where a batch is larger
    than n. The result depends only on the arguments.
    """
    start = step * batch_size
    parts = []
    while batch_size > 0:  # the rest of this epoch, then the rest of the batch from the next epochs
        part = _epoch_order(stream, start // n, n)[start % n :][:batch_size]
        start, batch_size = start + len(part), batch_size - len(part)
        parts.append(part)
    return torch.cat(parts)


@lru_cache(maxsize=2)  # all steps of an epoch share its order; 8 bytes per item
def _epoch_order(stream: Stream, epoch: int, n: int) -> Tensor:
    return stream.at("epoch", epoch).permutation(n)
