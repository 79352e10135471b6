"""Relative dimensionless global error in synthesis: Wald, "Quality of high resolution synthesised images: is there a
simple criterion?", Fusion of Earth Data, 2000."""

import torch
from torch import Tensor, nn

from iqazoo.errors import InputError
from iqazoo.metrics.numerics import full_precision, safe_sqrt


@full_precision
def ergas(image: Tensor, reference: Tensor, *, ratio: float = 4.0) -> Tensor:
    """100 / ratio times the root mean square, over channels, of RMSE / mean of the reference.

    Args:
        image, reference: `[B, C, H, W]`, at least 0.
        ratio: how many pixels of the fine image lie along one of the coarse image.

    Returns:
        `[B]`, at least 0; infinity where a channel of the reference alone is black.
    """
    square = (image - reference).square().mean((2, 3))  # [B, C]
    level = reference.mean((2, 3)).square()
    same = square == 0  # also where the channel is black in both
    relative = torch.where(same, 0, square / level.masked_fill(same, 1))
    return 100 / ratio * safe_sqrt(relative.mean(1))


class ERGAS(nn.Module):
    """`ergas` with its options bound.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(self, ratio: float = 4.0) -> None:
        super().__init__()
        if not ratio > 0:
            raise InputError(f"ratio must be a positive number; got {ratio!r}")
        self.ratio = ratio

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return ergas(image, reference, ratio=self.ratio)
