"""The network of PyTorch's MNIST example."""

import torch.nn.functional as F
from torch import Tensor, nn

from stages.networks.encoder import Declaration, Encoder


class ClassicCNN(Encoder):
    """The network of PyTorch's MNIST example: conv 32, conv 64, max-pool, fully connected 128.

    `width` is the number of channels of the first convolution (32 in the example); the other layers scale
    with it.
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
