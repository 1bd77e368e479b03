"""What a classifier costs: in numbers that do not change, and in time on this machine."""

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

RUNS, WARM_UP, LONGEST = 100, 10, 3.0  # of single images; seconds after which fewer will do


def size(classifier: Classifier, file: Path) -> dict[str, Any]:
    """Encoder, trainable parameters, multiply-adds for one image, and bytes of the model's file."""
    declaration = classifier.encoder.declaration
    side = declaration.image_size
    image = torch.zeros(1, declaration.channels, side, side, device=classifier.encoder.mean.device)
    classifier.eval()
    # NOTE: it counts convolutions and matrix products, a multiply-add as two. It does not see into the fused
    # layers that torchvision's transformers take without gradients, nor, with torch 2.11, into the CPU's
    # fused attention: so attention is done as the plain matrix products that it consists of.
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
    """Milliseconds from one image, uint8 (1, C, H, W), to its probabilities: median and 95th percentile."""
    classifier.eval()
    seconds: list[float] = []
    for _ in range(WARM_UP + RUNS):
        started = time.perf_counter()
        with machine.autocast():
            classifier(pixels(image, machine.device)).float().softmax(1).cpu()
        seconds.append(time.perf_counter() - started)
        if len(seconds) > WARM_UP + 1 and sum(seconds) > LONGEST:
            break
    taken = 1000 * np.array(seconds[WARM_UP:])
    return {
        "latency_ms_p50": round(float(np.percentile(taken, 50)), 3),
        "latency_ms_p95": round(float(np.percentile(taken, 95)), 3),
    }
