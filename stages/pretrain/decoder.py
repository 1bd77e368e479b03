"""The decoder: features back to images, for methods that reconstruct or generate."""

from torch import Tensor, nn

from stages.encoder import Declaration, initialise
from stages.randomness import Stream


class Decoder(nn.Module):
    """Vectors (N, D) to images (N, C, H, W) in [0, 1]: a small map that is doubled twice."""

    def __init__(self, inputs: int, declaration: Declaration, width: int, init: Stream) -> None:
        super().__init__()
        self.size = declaration.image_size
        self.side = -(-self.size // 4)  # a quarter of the image, rounded up
        self.expand = nn.Linear(inputs, 2 * width * self.side**2)
        self.layers = nn.Sequential(
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, declaration.channels, 4, stride=2, padding=1),
        )
        initialise(self.expand, init.at("expand").generator())
        initialise(self.layers, init.at("decoder").generator())

    def forward(self, vectors: Tensor) -> Tensor:
        seed = self.expand(vectors).unflatten(1, (-1, self.side, self.side))
        decoded: Tensor = self.layers(seed)[:, :, : self.size, : self.size]
        return decoded.float().sigmoid()
