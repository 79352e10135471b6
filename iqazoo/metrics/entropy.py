"""Entropy: Shannon, "A mathematical theory of communication", Bell System Technical Journal 27, 1948."""

import torch
from torch import Tensor, nn

from iqazoo.metrics.color import LUMA, mix
from iqazoo.metrics.numerics import full_precision

LEVELS = 256


@full_precision
def entropy(image: Tensor) -> Tensor:
    """The entropy of the histogram of an image's luma, rounded to the levels of 8 bits.

    A histogram has no gradient.

    Args:
        image: `[B, 1 or 3, H, W]` in [0, 1]; what lies beyond counts as 0 or 1.

    Returns:
        `[B]` in bits, from 0 (flat) to 8.
    """
    luma = mix(image, LUMA).flatten(1)  # [B, N]
    levels = (luma.nan_to_num(0, 1, 0) * (LEVELS - 1)).round().clamp(0, LEVELS - 1).long()
    # In whole numbers: float32 counts to 2^24, fewer than the pixels of a large image.
    counts = levels.new_zeros(len(luma), LEVELS).scatter_add_(1, levels, levels.new_ones(()).expand_as(levels))
    share = counts.to(luma.dtype) / luma.shape[1]
    bits = -(share * share.where(share > 0, 1).log2()).sum(1)
    return bits.masked_fill(~luma.isfinite().all(1), torch.nan)


class Entropy(nn.Module):
    """`entropy` as a network."""

    def forward(self, image: Tensor) -> Tensor:
        """`[B, C, H, W]` -> `[B]`."""
        return entropy(image)
