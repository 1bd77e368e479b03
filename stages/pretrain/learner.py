"""A pretraining method as the training loop sees it: an encoder with what it lacks, and a loss."""

import importlib

import torch
from torch import Tensor, nn

from stages.networks.encoder import Encoder
from stages.settings.schema import Training, Views
from stages.training.randomness import Stream
from stages.views.augment import two_views


class Learner(nn.Module):
    """A pretraining method: an encoder with what it lacks, and a loss for a batch.

    A method's file holds one subclass called `Method` and its parameters' model `Params`. It is made
    from the encoder, its parameters, the strengths of the views (unused where it takes the images as
    they are) and a stream for its initial weights.

    Attributes:
        betas: how long AdamW remembers gradients and their squares.
        uninformative: the loss of a method that knows nothing or has collapsed, where that is a
            constant: a loss that stays there says that nothing is learnt. None: there is no such one.
    """

    encoder: Encoder
    views: Views  # of the methods that see views
    betas: tuple[float, float] = (0.9, 0.999)
    uninformative: float | None = None

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        """The loss of a batch: images (N, C, H, W) in [0, 1], their positions (N,) int64.

        stream: the randomness of this step, addressed by position.
        """
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """What follows an optimiser step, such as moving a teacher; progress goes up to 1."""

    def shown(self, images: Tensor, positions: Tensor, stream: Stream) -> dict[str, Tensor]:
        """Rows of pictures for the report, each (N, C, H, W) in [0, 1]: what it sees and makes.

        Most methods see two views; one that sees or makes something else says so.
        """
        first, second = two_views(images, positions, self.views, stream).chunk(2)
        return {"one view of each": first, "another view": second}


def build(name: str, encoder: Encoder, params: Training, views: Views, stream: Stream) -> Learner:
    """The learner of the method called `name`, on the encoder's device.

    It is imported by its name: a method is a file, and adding one touches no other file.
    """
    module = importlib.import_module(f"stages.pretrain.methods.{name}")
    learner: Learner = module.Method(encoder, params, views, stream.at(name, "init"))
    return learner.to(encoder.mean.device).to(memory_format=torch.channels_last)
