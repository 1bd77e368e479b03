"""The decoder, from features to images, for methods that reconstruct or generate."""

from itertools import pairwise

from torch import Tensor, nn

from stages.networks.encoder import Declaration, initialise
from stages.training.randomness import Stream


class Decoder(nn.Module):
    """Vectors (N, D) to images (N, C, H, W) in [0, 1].

    A linear layer gives a map with a side of at most LARGEST_SIDE. Transposed convolutions double it, at
    least twice, until it covers the image; what is beyond the image is cut off. The linear layer, which has
    most of the parameters, is therefore no larger for larger images.

    Args:
        inputs: D.
        declaration: the encoder's; it has size and channels of the images.
        width: channels before the last layer; all layers before it have twice as many.
        init: the random numbers for the initial weights.
    """

    LARGEST_SIDE = 8

    def __init__(self, inputs: int, declaration: Declaration, width: int, init: Stream) -> None:
        super().__init__()
        self.size = declaration.image_size
        doublings = 2
        while self.size > self.LARGEST_SIDE * 2**doublings:
            doublings += 1
        self.side = -(-self.size // 2**doublings)
        channels = [2 * width] * (doublings - 1) + [width]
        self.expand = nn.Linear(inputs, channels[0] * self.side**2)
        layers: list[nn.Module] = [nn.BatchNorm2d(channels[0]), nn.ReLU()]
        for before, after in pairwise(channels):
            layers += [
                nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        layers.append(nn.ConvTranspose2d(width, declaration.channels, 4, stride=2, padding=1))
        self.layers = nn.Sequential(*layers)
        initialise(self.expand, init.at("expand").generator())
        initialise(self.layers, init.at("decoder").generator())

    def forward(self, vectors: Tensor) -> Tensor:
        seed = self.expand(vectors).unflatten(1, (-1, self.side, self.side))
        decoded: Tensor = self.layers(seed)[:, :, : self.size, : self.size]
        return decoded.float().sigmoid()
