"""Universal image quality index: Wang, Bovik, "A universal image quality index", IEEE Signal Processing Letters 9(3),
2002."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqazoo.metrics.numerics import exact_moments, full_precision
from iqazoo.ops.windows import check_window

FLAT = 1e-7  # variances that one level of 8 bits in one pixel of a window exceeds, and rounding in float32 does not


@full_precision
def uqi(
    image: Tensor, reference: Tensor, *, window: int = 8, sigma: float | None = None, stabilizer: float = 0.0
) -> Tensor:
    """The mean of the index Q (equation 2 of the paper) over all windows and channels of an image.

    Q = 4 cov mean_x mean_y / ((var_x + var_y) (mean_x^2 + mean_y^2)). As in the authors' code, windows that are flat in
    both images count by their means alone, and such that are black in both as 1.

    Args:
        image, reference: `[B, C, H, W]` in [0, 1].
        window: side of the square window in pixels.
        sigma: standard deviation of a Gaussian window in pixels; None: all its pixels weigh the same, as in the paper.
        stabilizer: added to the denominator, where it makes flat windows count as 0; torchmetrics adds the epsilon
            of float32, to a window of 11 with sigma 1.5.

    Returns:
        `[B]` in [-1, 1], and 1 for identical images if stabilizer is 0.

    Raises:
        InputError: the image is smaller than the window.
    """
    return _index(image, reference, window, sigma, stabilizer).mean((1, 2, 3))


@full_precision
def uqi_map(
    image: Tensor, reference: Tensor, *, window: int = 8, sigma: float | None = None, stabilizer: float = 0.0
) -> Tensor:
    """Q at every pixel, averaged over channels: `[B, 1, H, W]`. Arguments as for `uqi`; the border is repeated."""
    index = _index(image, reference, window, sigma, stabilizer).mean(1, keepdim=True)
    before, after = (window - 1) // 2, window // 2
    return F.pad(index, [before, after, before, after], mode="replicate")


def _index(image: Tensor, reference: Tensor, *options: Any) -> Tensor:
    """Q of every window, channel by channel, as float64 takes much memory."""
    channels = zip(image.split(1, 1), reference.split(1, 1), strict=True)
    return torch.cat([_index_of_channel(x, y, *options) for x, y in channels], 1)


def _index_of_channel(image: Tensor, reference: Tensor, window: int, sigma: float | None, stabilizer: float) -> Tensor:
    moments = exact_moments(image, reference, window=window, sigma=sigma)
    product, squares = moments.mean_x * moments.mean_y, moments.mean_x.square() + moments.mean_y.square()
    variances = moments.var_x + moments.var_y
    if stabilizer > 0:
        return 4 * product * moments.cov / (squares * variances + stabilizer)
    dark, flat = squares <= FLAT, variances <= FLAT  # a NaN is neither
    luminance = torch.where(dark, 1, 2 * product / squares.masked_fill(dark, 1))
    structure = torch.where(flat, 1, 2 * moments.cov / variances.masked_fill(flat, 1))
    return luminance * structure


class UQI(nn.Module):
    """`uqi` and `uqi_map` with their options bound.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(self, window: int = 8, sigma: float | None = None, stabilizer: float = 0.0) -> None:
        super().__init__()
        check_window(window, sigma, "valid", even=True)
        self.window, self.sigma, self.stabilizer = window, sigma, stabilizer
        self.min_size = window

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return uqi(image, reference, window=self.window, sigma=self.sigma, stabilizer=self.stabilizer)

    def map(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B, 1, H, W]`."""
        return uqi_map(image, reference, window=self.window, sigma=self.sigma, stabilizer=self.stabilizer)
