"""What all pretraining methods are: an encoder with the networks that a method adds, and a loss."""

import importlib

import numpy as np
import torch
from torch import Tensor, nn

from stages.networks.encoder import Encoder
from stages.settings.schema import Training, Views
from stages.training.randomness import Stream
from stages.views.augment import two_views


class Learner(nn.Module):
    """A pretraining method: the encoder, the networks that the method adds to it, and the loss of a batch.

    The file of a method holds a subclass called `Method` and the model of its parameters, called `Params`.
    A `Method` is built from the encoder, its parameters, the strengths of the views (which some methods do
    not use) and a stream for its initial weights.

    Attributes:
        betas: AdamW's decay rates for the running means of gradients and squared gradients.
        uninformative: the loss if all embeddings are the same or carry no information, where that is a
            constant. A loss that stays there means that nothing is learnt. None: there is no such constant.
        side: of the views, in pixels; None: that of the images.
    """

    encoder: Encoder
    views: Views  # only in methods that use views
    betas: tuple[float, float] = (0.9, 0.999)
    uninformative: float | None = None
    side: int | None = None

    def pack(self, pool: np.ndarray, large: np.ndarray | None) -> np.ndarray:
        """The images that the method trains on: the larger ones, if there are any and it takes views of them.

        Args:
            pool: uint8 (N, C, H, W).
            large: the same images with more pixels; None: there are none.
        """
        if large is None or not hasattr(self, "views"):
            return pool
        self.side = pool.shape[3]
        return large

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        """The loss of a batch, a scalar.

        Args:
            images: (N, C, H, W) in [0, 1].
            positions: (N,) int64, the position of each image in the global batch.
            stream: the random numbers of this step, which are addressed by position.
        """
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """Called after each optimiser step, for example to update a teacher.

        Args:
            progress: the fraction of the steps that are done, in (0, 1].
        """

    def illustrate(self, images: Tensor, positions: Tensor, stream: Stream) -> dict[str, Tensor]:
        """Rows of images for the report by name, each (N, C, H, W) in [0, 1]: what the method sees or makes.

        By default two views of each image. Arguments as for `forward`.
        """
        first, second = two_views(images, positions, self.views, stream, self.side).chunk(2)
        return {"one view of each": first, "another view": second}


def build(name: str, encoder: Encoder, params: Training, views: Views, stream: Stream) -> Learner:
    """The learner of the method called `name`, on the encoder's device.

    The method is imported by its name: a new one is a new file, and no other code changes.
    """
    module = importlib.import_module(f"stages.pretrain.methods.{name}")
    learner: Learner = module.Method(encoder, params, views, stream.at(name, "init"))
    return learner.to(encoder.mean.device).to(memory_format=torch.channels_last)
