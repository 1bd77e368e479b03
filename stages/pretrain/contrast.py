"""SimCLR's loss, which `simclr` trains with and `imported` goes on with."""

import torch
import torch.nn.functional as F
from torch import Tensor


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """The normalised-temperature cross-entropy of eq. 1, averaged over all 2N views.

    A view's positive is the other view of its image; its negatives are the 2N − 2 views of the
    other images; it is never compared with itself. The convention is the paper's and lightly's: the mean
    over all 2N views, the positive in the denominator too.

    Args:
        first, second: (N, D) projections of the two views.
    """
    z = F.normalize(torch.cat([first, second]), dim=1)
    # NOTE: bf16 has 8 bits: too few to tell neighbours apart.
    with torch.autocast(z.device.type, enabled=False):
        similarity = z @ z.T / temperature  # (2N, 2N)
    similarity.fill_diagonal_(-torch.inf)
    positive = torch.arange(len(z), device=z.device).roll(len(first))
    return F.cross_entropy(similarity, positive)
