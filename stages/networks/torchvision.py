"""torchvision's networks as encoders, without their last layer.

They are made for images of 64 pixels or more: they downsample by 16 or 32 in each direction.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from stages.errors import InputError
from stages.networks.encoder import Declaration, Encoder, initialise
from stages.networks.vit import initialise_transformer

# The normalisation of the images that the published weights were trained on.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TorchvisionEncoder(Encoder):
    """ResNet-18 or ResNet-50 (He et al. 2016, arXiv:1512.03385) or ViT-B/16 (arXiv:2010.11929).

    The `width` of the declaration is not used. For images with one channel, the first layer takes the sum of
    the published weights over the three channels.
    """

    FEATURES: ClassVar[dict[str, int]] = {"resnet18": 512, "resnet50": 2048, "vit_b_16": 768}

    def __init__(self, declaration: Declaration) -> None:
        super().__init__(declaration, self.FEATURES[declaration.name])
        from torchvision import models  # imported here because it takes seconds

        if declaration.name == "vit_b_16":
            self.network = models.vit_b_16(weights=None, image_size=declaration.image_size)
            self.network.conv_proj = nn.Conv2d(declaration.channels, self.features, 16, 16)
            self.network.heads = nn.Identity()
        else:
            self.network = models.get_model(declaration.name, weights=None)
            self.network.conv1 = nn.Conv2d(declaration.channels, 64, 7, 2, padding=3, bias=False)
            self.network.fc = nn.Identity()

    def initialise(self, generator: torch.Generator) -> None:
        """Draw all weights anew from the generator, because torchvision draws from the global one."""
        if self.declaration.name != "vit_b_16":
            initialise(self, generator)
            return
        initialise_transformer(self, generator)
        for layer in self.modules():
            if isinstance(layer, nn.MultiheadAttention):
                nn.init.xavier_uniform_(layer.in_proj_weight, generator=generator)
                nn.init.zeros_(layer.in_proj_bias)
        nn.init.zeros_(self.network.class_token)
        nn.init.normal_(self.network.encoder.pos_embedding, std=0.02, generator=generator)

    def load_published(self) -> None:
        """Load the weights that torchvision publishes, trained on ImageNet with labels.

        Raises:
            InputError: they are not in the cache and cannot be downloaded.
        """
        from torchvision import models

        name = self.declaration.name
        try:
            state = models.get_model_weights(name).DEFAULT.get_state_dict(progress=False, check_hash=True)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"params.yaml: a method starts from the weights that torchvision publishes, but those of "
                f"{name} cannot be downloaded ({error}); run this once with access to the network"
            ) from None
        self.load_torchvision(state)

    def load_torchvision(self, state: dict[str, Tensor]) -> None:
        """Load weights with torchvision's names, made for three channels and, for ViT-B/16, 224 pixels."""
        declaration = self.declaration
        first = "conv_proj.weight" if declaration.name == "vit_b_16" else "conv1.weight"
        if declaration.channels != 3:
            state[first] = state[first].sum(1, keepdim=True).repeat(1, declaration.channels, 1, 1)
            state[first] /= declaration.channels
        if declaration.name == "vit_b_16":
            from torchvision.models.vision_transformer import interpolate_embeddings

            state = interpolate_embeddings(declaration.image_size, 16, state)
        trunk = {key: value for key, value in state.items() if not key.startswith(("fc.", "heads."))}
        self.network.load_state_dict(trunk)
        grey = declaration.channels != 3
        mean, std = (torch.tensor(values) for values in (IMAGENET_MEAN, IMAGENET_STD))
        self.set_statistics(mean.mean() if grey else mean, std.mean() if grey else std)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(self.normalise(images))
        return features.float()
