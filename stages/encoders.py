"""Encoders: the networks that turn images into features, and how one is built from its declaration."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.encoder import Declaration, Encoder
from stages.torchvision_encoder import TorchvisionEncoder
from stages.transformer import Block, initialise_transformer, sinusoids


class ClassicCNN(Encoder):
    """The classic two-convolution MNIST network: conv 32, conv 64, max-pool, fully connected 128.

    `width` is the first convolution's; the others follow in the classic proportion.
    """

    def __init__(self, declaration: Declaration) -> None:
        super().__init__(declaration, features=4 * declaration.width)
        width = declaration.width
        side = (declaration.image_size - 4) // 2
        self.conv1 = nn.Conv2d(declaration.channels, width, 3)
        self.conv2 = nn.Conv2d(width, 2 * width, 3)
        self.fc = nn.Linear(2 * width * side * side, self.features)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.conv1(self.normalise(images)))  # (N, w, H-2, W-2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # (N, 2w, (H-4)/2, (W-4)/2)
        return F.relu(self.fc(x.flatten(1)))


class ResidualBlock(nn.Module):
    """The basic block of ResNet (He et al. 2016, arXiv:1512.03385), batch-normalised."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        residual = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(residual + self.shortcut(x))


def generalised_mean(x: Tensor, power: float = 3.0) -> Tensor:
    """Pool (N, C, H, W) to (N, C), between average (power 1) and maximum (power ∞).

    GeM pooling, Radenović et al. 2018, arXiv:1711.02512. Takes non-negative inputs.
    """
    return x.float().clamp_min(1e-4).pow(power).mean(dim=(2, 3)).pow(1 / power)


class SmallResidual(Encoder):
    """A residual network for small images: stride-2 stem, three blocks, generalised-mean pooling.

    At 28 × 28 and width 32: 14 × 14 × 32, 7 × 7 × 64, 4 × 4 × 128, then 128 features. The stride
    in the stem makes it fast on a CPU.
    """

    def __init__(self, declaration: Declaration) -> None:
        super().__init__(declaration, features=4 * declaration.width)
        width = declaration.width
        self.stem = nn.Conv2d(declaration.channels, width, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(
            ResidualBlock(width, width, stride=1),
            ResidualBlock(width, 2 * width, stride=2),
            ResidualBlock(2 * width, 4 * width, stride=2),
        )

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(self.normalise(images))))
        return generalised_mean(self.blocks(x))


class VisionTransformer(Encoder):
    """A small vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), mean-pooled.

    Its patches are a fourteenth of the image's side, as ViT-B/16's at 224, but at least 4 pixels:
    28 × 28 pixels make 7 × 7 tokens. Where they do not divide the side, the image is padded at the
    right and the bottom with its mean. Four blocks of four heads, each of `width` dimensions.
    """

    DEPTH, HEADS = 4, 4
    positions: Tensor

    def __init__(self, declaration: Declaration) -> None:
        super().__init__(declaration, features=4 * declaration.width)
        self.patch = max(4, math.ceil(declaration.image_size / 14))  # pixels
        self.side = math.ceil(declaration.image_size / self.patch)  # tokens
        self.embed = nn.Conv2d(declaration.channels, self.features, self.patch, self.patch)
        self.register_buffer("positions", sinusoids(self.side, self.features))
        self.blocks = nn.Sequential(*(Block(self.features, self.HEADS) for _ in range(self.DEPTH)))
        self.norm = nn.LayerNorm(self.features)

    def initialise(self, generator: torch.Generator) -> None:
        initialise_transformer(self, generator)

    def padded(self, images: Tensor) -> Tensor:
        """Images normalised and padded to whole patches, (N, C, side · patch, side · patch)."""
        missing = self.side * self.patch - images.shape[-1]
        return F.pad(self.normalise(images), (0, missing, 0, missing))

    def tokens(self, images: Tensor) -> Tensor:
        """Patches embedded, each with its position, (N, side², features)."""
        embedded: Tensor = self.embed(self.padded(images)).flatten(2).transpose(1, 2)
        return embedded + self.positions

    def attend(self, tokens: Tensor) -> Tensor:
        """Tokens, all or some of them, through the blocks: (N, T, features) to the same."""
        attended: Tensor = self.norm(self.blocks(tokens))
        return attended

    def forward(self, images: Tensor) -> Tensor:
        return self.attend(self.tokens(images)).float().mean(1)


class Classifier(nn.Module):
    """An encoder with a linear head: images (N, C, H, W) in [0, 1] to logits (N, classes)."""

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.features, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(images))
        return logits


KINDS: dict[str, Callable[[Declaration], Encoder]] = {
    "cnn": ClassicCNN,
    "residual": SmallResidual,
    "vit": VisionTransformer,
    **dict.fromkeys(TorchvisionEncoder.FEATURES, TorchvisionEncoder),
}


def build(declaration: Declaration, generator: torch.Generator) -> Encoder:
    """A freshly initialised encoder; its weights depend on the generator alone."""
    encoder = KINDS[declaration.name](declaration)
    encoder.initialise(generator)
    return encoder.to(memory_format=torch.channels_last)


def unfilled(declaration: Declaration) -> Encoder:
    """The encoder's names and shapes without memory behind them (PyTorch's meta device)."""
    with torch.device("meta"):
        return KINDS[declaration.name](declaration).to(memory_format=torch.channels_last)
