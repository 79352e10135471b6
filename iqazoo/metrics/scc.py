"""Spatial correlation coefficient: Zhou, Civco, Silander, "A wavelet transform method to merge Landsat TM and SPOT
panchromatic data", International Journal of Remote Sensing 19(4), 1998."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqazoo import ops
from iqazoo.errors import InputError
from iqazoo.metrics.numerics import full_precision, safe_sqrt

FLAT = 1e-12  # the variance below which details count as none


@full_precision
def scc(image: Tensor, reference: Tensor, *, window: int | None = None) -> Tensor:
    """The correlation of both images' details, as a Laplacian of 3 x 3 pixels finds them, averaged over channels.

    Args:
        image, reference: `[B, C, H, W]`.
        window: None for one correlation of all pixels, as in the paper; else the side in pixels of square windows,
            centred on every pixel, whose correlations are averaged, those without details in one image counting 0:
            8 as torchmetrics does.

    Returns:
        `[B]` in [-1, 1]. Of all pixels: 1 for identical images, 0 where one image alone is without details.
    """
    x, y = _details(image), _details(reference)
    if window is None:
        x, y = (t - t.mean((2, 3), keepdim=True) for t in (x, y))
        cov, var_x, var_y = ((a * b).mean((2, 3)) for a, b in ((x, y), (x, x), (y, y)))
        found = torch.where((var_x <= FLAT) & (var_y <= FLAT), 1, _correlation(cov, var_x, var_y))
        return found.mean(1)
    before, after = window // 2, (window - 1) // 2
    x, y = (F.pad(t, [before, after, before, after]) for t in (x, y))
    moments = ops.windowed_moments(x, y, window=window, sigma=None)
    return _correlation(moments.cov, moments.var_x, moments.var_y).mean((1, 2, 3))


def _details(image: Tensor) -> Tensor:
    """8 times each pixel minus its neighbours; the border is repeated."""
    return 9 * (image - F.avg_pool2d(F.pad(image, [1] * 4, mode="replicate"), 3, stride=1))


def _correlation(cov: Tensor, var_x: Tensor, var_y: Tensor) -> Tensor:
    flat = (var_x <= FLAT) | (var_y <= FLAT)  # a NaN is not
    return torch.where(flat, 0, cov / safe_sqrt((var_x * var_y).masked_fill(flat, 1)))


class SCC(nn.Module):
    """`scc` with its options bound.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(self, window: int | None = None) -> None:
        super().__init__()
        if window is not None and not 2 <= window <= 33:
            raise InputError(f"window must be a side from 2 to 33 pixels, or None for the whole image; got {window!r}")
        self.window = window

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return scc(image, reference, window=self.window)
