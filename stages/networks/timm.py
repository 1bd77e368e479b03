"""timm's networks as encoders, by name, without their last layer.

R. Wightman, "PyTorch Image Models", https://github.com/huggingface/pytorch-image-models. Nothing is fetched
from a network: weights come from a generator or from a state that the caller has read.
"""

import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.errors import InputError
from stages.networks.encoder import TIMM, Declaration, Encoder
from stages.networks.imagenet import mobilenet_v2

# Up to this size a network starts with smaller strides. Made for 224 pixels, most of timm's networks reduce
# each side 32-fold: of 64 pixels that leaves 2 × 2.
SMALL_IMAGE = 64
# A first layer with stride 2 and the pooling after it, by the names that families of networks have for them.
STEMS = (("conv1", "maxpool"), ("features.conv0", "features.pool0"), ("stem.conv", "stem.pool"))


class TimmEncoder(Encoder):
    """One of timm's networks: its own architecture, initialisation and pooling, `timm/NAME`.

    The `width` of the declaration is not used. Images are enlarged to `input_size` first, if there is one.
    Images that are then at most SMALL_IMAGE pixels a side meet a `small_stem`.
    """

    def __init__(self, declaration: Declaration) -> None:
        side = declaration.input_size or declaration.image_size
        with torch.device("meta"):  # weights get memory when they are drawn or read
            network = create(declaration)
            images = torch.zeros(2, declaration.channels, side, side)
            try:
                features = network.eval()(images).shape[1]
            except Exception as error:  # whatever its layers raise where the images are too small for them
                raise _unusable(declaration, error) from None
        super().__init__(declaration, features)
        self.network = network.train()

    def initialise(self, generator: torch.Generator) -> None:
        """Draw all weights anew, as timm does, from a seed that comes from the generator."""
        seed = int(torch.randint(2**62, (), generator=generator))
        self.network = _drawn(self.declaration, seed)

    def restore_constants(self) -> None:
        """Compute the tables that a network does not save, such as the relative positions of a window."""
        saved = self.network.state_dict().keys()
        constants = [name for name, _ in self.network.named_buffers() if name not in saved]
        if constants:
            computed = dict(_drawn(self.declaration, 0).named_buffers())
            for name in constants:
                self.network.get_buffer(name).copy_(computed[name])

    def load_imagenet(self) -> None:
        """Load torchvision's weights of MobileNetV2, trained on ImageNet with labels; for mobilenetv2_100.

        Raises:
            InputError: they are not on this machine.
        """
        self.load_trained(mobilenet_v2(self.network.state_dict()))

    def load_trained(self, state: dict[str, Tensor]) -> None:
        """Load weights of this network with timm's names, and the normalisation that they were trained with.

        timm adapts them to the image size and to one channel (the first layer takes the sum over three), and
        leaves out the last layer.

        Raises:
            InputError: these are the weights of another network, or of another first layer.
        """
        import timm

        network, declaration = self.network, self.declaration
        lost: list[str] = []
        handle = network.register_load_state_dict_post_hook(
            lambda _, keys: lost.extend(keys.missing_keys + keys.unexpected_keys)
        )
        config = network.pretrained_cfg | {"state_dict": state, "source": "", "custom_load": False}
        family = sys.modules[timm.models.model_entrypoint(declaration.name.removeprefix(TIMM)).__module__]
        try:
            timm.models.load_pretrained(
                network,
                config,
                num_classes=0,
                in_chans=declaration.channels,
                filter_fn=getattr(family, "checkpoint_filter_fn", None),
            )
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            lines = [line.strip() for line in str(error).splitlines()]
            raise InputError(f"{' '.join(lines[:2])}{self._hint()}") from None
        finally:
            handle.remove()
        if lost:
            raise InputError(f"these weights are missing or not known: {', '.join(lost[:5])}{self._hint()}")
        mean, std = (torch.tensor(config[key], dtype=torch.float32) for key in ("mean", "std"))
        grey = declaration.channels != len(mean)
        self.set_statistics(mean.mean() if grey else mean, std.mean() if grey else std)

    def _hint(self) -> str:
        if (self.declaration.input_size or self.declaration.image_size) > SMALL_IMAGE:
            return ""
        return f"; up to {SMALL_IMAGE} pixels it has a first layer of its own: try encoder.input_size: 96"

    def forward(self, images: Tensor) -> Tensor:
        if (size := self.declaration.input_size) is not None:
            images = F.interpolate(images, (size, size), mode="bilinear")
        features: Tensor = self.network(self.normalise(images))
        return features.float()


def create(declaration: Declaration) -> Any:
    """A network of timm with weights from PyTorch's global generator; pooled, without its last layer.

    It has no dropout and no stochastic depth.

    Raises:
        InputError: timm has no such network, or not for such images.
    """
    import timm  # imported here because it takes seconds

    name = declaration.name.removeprefix(TIMM)
    side = declaration.input_size or declaration.image_size
    options: dict[str, Any] = {}
    try:
        config = timm.get_pretrained_cfg(name)
        if config is not None and config.fixed_input_size:
            options["img_size"] = side
        if side <= SMALL_IMAGE and timm.models.is_model_in_modules(name, ("vision_transformer", "deit")):
            options["patch_size"] = 4 if side <= 32 else 8
        network: Any = timm.create_model(
            name, pretrained=False, in_chans=declaration.channels, num_classes=0, **options
        )
    except Exception as error:  # timm's families raise errors of all kinds
        raise _unusable(declaration, error) from None
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if isinstance(patch, tuple) and side % patch[0]:  # timm would leave out the last rows and columns
        larger = -(-side // patch[0]) * patch[0]
        raise InputError(
            f"its patches have {patch[0]} pixels, images {side}; try encoder.input_size: {larger}"
        )
    if side <= SMALL_IMAGE:
        small_stem(network)
    for layer in network.modules():
        # Dropout and stochastic depth draw from PyTorch's global generator, which a resumed training lacks.
        if isinstance(layer, nn.Dropout | nn.Dropout2d):
            layer.p = 0.0
        if hasattr(layer, "drop_prob"):
            layer.drop_prob = 0.0
    return network


def small_stem(network: nn.Module) -> None:
    """Make the first layers of a network fit small images, in place.

    - ResNet, ResNetV2, DenseNet and their kin: a 3 × 3 convolution of stride 1 instead of 7 × 7 of stride 2,
      and no max-pooling, as He et al. 2016 (arXiv:1512.03385) do for CIFAR's 32 pixels;
    - MobileNet, EfficientNet and their kin: stride 1 instead of 2, all weights as they were;
    - ConvNeXt: patches of 2 × 2 pixels instead of 4 × 4.

    Others stay as they are. Vision transformers get smaller patches from `create`.
    """
    if isinstance(first := getattr(network, "conv_stem", None), nn.Conv2d):
        first.stride = (1, 1)
    modules = dict(network.named_modules())
    first = modules.get("stem.0")
    if isinstance(first, nn.Conv2d) and first.kernel_size == first.stride == (4, 4):
        patches = nn.Conv2d(first.in_channels, first.out_channels, 2, stride=2, bias=first.bias is not None)
        network.set_submodule("stem.0", patches)
    for stem, pool in STEMS:
        if stem in modules and pool in modules:
            network.set_submodule(pool, nn.Identity())
            first = next(layer for layer in modules[stem].modules() if isinstance(layer, nn.Conv2d))
            if first is not modules[stem] or first.kernel_size != (7, 7):
                first.stride = (1, 1)  # of several small convolutions
                continue
            layer = type(first)(first.in_channels, first.out_channels, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            network.set_submodule(stem, layer)


def _drawn(declaration: Declaration, seed: int) -> Any:
    """A network with the weights of a seed; PyTorch's global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return create(declaration)


def _unusable(declaration: Declaration, error: Exception) -> InputError:
    side = declaration.input_size or declaration.image_size
    text = " ".join(str(error).split())[:200]
    return InputError(f"timm does not build it for {side} × {side} pixels ({type(error).__name__}: {text})")
