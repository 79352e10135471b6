"""Spectral angle mapper: Kruse et al., "The spectral image processing system (SIPS)", Remote Sensing of Environment
44(2-3), 1993."""

import torch
from torch import Tensor, nn

from iqazoo.metrics.numerics import full_precision, safe_sqrt


@full_precision
def sam(image: Tensor, reference: Tensor) -> Tensor:
    """The mean angle between the colours of both images, seen as vectors.

    Args:
        image, reference: `[B, 3, H, W]`, at least 0.

    Returns:
        `[B]` in radians, from 0 to pi / 2. A black pixel makes an angle of 0 with a black one, and of pi / 2 with all
        others.
    """
    return sam_map(image, reference).mean((1, 2, 3))


@full_precision
def sam_map(image: Tensor, reference: Tensor) -> Tensor:
    """The angle at every pixel in radians, `[B, 1, H, W]`."""
    length_x, length_y = (safe_sqrt(t.square().sum(1, keepdim=True)) for t in (image, reference))
    x, y = image * length_y, reference * length_x  # of one length
    # Twice the angle of half the rhombus: unlike the arc cosine, exact for small angles.
    apart, along = (safe_sqrt(t.square().sum(1, keepdim=True)) for t in (x - y, x + y))
    black = (length_x == 0) | (length_y == 0)
    angle = 2 * torch.atan2(apart, along.masked_fill(black, 1))
    return torch.where(black, torch.where(length_x == length_y, 0, torch.pi / 2), angle)


class SAM(nn.Module):
    """`sam` and `sam_map` as a network."""

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, 3, H, W]` twice -> `[B]`."""
        return sam(image, reference)

    def map(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, 3, H, W]` twice -> `[B, 1, H, W]`."""
        return sam_map(image, reference)
