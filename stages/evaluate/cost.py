"""The cost of a classifier: its size and number of operations, and its latency on this machine."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from stages.images.tensors import pixels
from stages.tasks.classifier import Classifier
from stages.training.machine import Machine

WARM_UP, RUNS = 10, 100  # predictions of a single image
LONGEST = 3.0  # seconds after which no further ones are started


def size(classifier: Classifier, file: Path) -> dict[str, Any]:
    """Encoder, image size, number of parameters, multiply-adds per image, and bytes of the model's file."""
    declaration = classifier.encoder.declaration
    side = declaration.image_size
    image = torch.zeros(1, declaration.channels, side, side, device=classifier.encoder.mean.device)
    classifier.eval()
    # NOTE: FlopCounterMode counts convolutions and matrix products, a multiply-add as two operations. It does
    # not count fused transformer layers (PyTorch's fast path without gradients) nor, with torch 2.11, the
    # CPU's fused attention, so both are turned off.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            classifier(image)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return {
        "encoder": declaration.name,
        "image_size": side,
        "parameters": sum(p.numel() for p in classifier.parameters()),
        "multiply_adds": counter.get_total_flops() // 2,
        "file_bytes": file.stat().st_size,
    }


@torch.no_grad()
def latency(classifier: Classifier, image: Tensor, machine: Machine) -> dict[str, float]:
    """Milliseconds to predict one image, uint8 (1, C, H, W): median and 95th percentile."""
    classifier.eval()
    seconds: list[float] = []
    for _ in range(WARM_UP + RUNS):
        started = time.perf_counter()
        with machine.autocast():
            classifier(pixels(image, machine.device)).float().softmax(1).cpu()
        seconds.append(time.perf_counter() - started)
        if len(seconds) > WARM_UP + 1 and sum(seconds) > LONGEST:
            break
    milliseconds = 1000 * np.array(seconds[WARM_UP:])
    return {
        "latency_ms_p50": round(float(np.percentile(milliseconds, 50)), 3),
        "latency_ms_p95": round(float(np.percentile(milliseconds, 95)), 3),
    }
