"""A small residual network."""

import torch.nn.functional as F
from torch import Tensor, nn

from stages.networks.encoder import Declaration, Encoder


class ResidualBlock(nn.Module):
    """The basic block of ResNet, with batch normalisation (He et al. 2016, arXiv:1512.03385)."""

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
    """Generalised-mean (GeM) pooling of (N, C, H, W) to (N, C), Radenović et al. 2018, arXiv:1711.02512.

    Power 1 is average pooling, power ∞ is max pooling. The inputs must not be negative.
    """
    return x.float().clamp_min(1e-4).pow(power).mean(dim=(2, 3)).pow(1 / power)


class SmallResidual(Encoder):
    """A residual network for small images: a stem with stride 2, three blocks, generalised-mean pooling.

    Images of 28 × 28 pixels at width 32 become maps of 14 × 14 × 32, 7 × 7 × 64 and 4 × 4 × 128, then 128
    features. The stride of the stem makes it fast on a CPU.
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
