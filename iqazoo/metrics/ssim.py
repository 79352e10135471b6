"""Structural similarity: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to
structural similarity", IEEE Transactions on Image Processing 13(4), 2004."""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqazoo import ops
from iqazoo.metrics.color import Channels, check_channels, to_channels
from iqazoo.ops.structural_similarity import check_constants
from iqazoo.ops.windows import Padding, check_window, least_size


def ssim(
    image: Tensor,
    reference: Tensor,
    *,
    window: int = 11,
    sigma: float | None = 1.5,
    padding: Padding = "valid",
    channels: Channels = "rgb",
    downsample: bool = False,
    data_range: float = 1.0,
    k1: float = 0.01,
    k2: float = 0.03,
) -> Tensor:
    """The mean of the SSIM index (equation 13 of the paper) over all windows and channels of an image.

    Args:
        image, reference: `[B, C, H, W]` in [0, data_range].
        window: side of the square window in pixels, odd.
        sigma: standard deviation of the Gaussian window in pixels; None: all its pixels weigh the same.
        padding: "valid" counts the windows that lie inside the image; "same" and "reflect" centre one on every
            pixel, beyond the border being zeros or the mirrored image.
        channels: see `color.to_channels`; "y-8bit" and "y-studio" only for images in [0, 1].
        downsample: first average over blocks of round(min(H, W) / 256) pixels, as the authors suggest; halves are
            rounded up as in their MATLAB code (piq rounds them to even, and so differs at 640, 1152, ...).
        data_range: the greatest minus the least possible value.
        k1, k2: the constants of the paper's equations 7 and 9.

    Returns:
        `[B]`, at most 1, and 1 for identical images.

    Raises:
        InputError: the image is smaller than the padding and the window allow.
    """
    x, y = _prepare(image, reference, channels, downsample)
    return ops.ssim(x, y, window=window, sigma=sigma, padding=padding, data_range=data_range, k1=k1, k2=k2)


def ssim_map(
    image: Tensor,
    reference: Tensor,
    *,
    window: int = 11,
    sigma: float | None = 1.5,
    padding: Padding = "valid",
    channels: Channels = "rgb",
    downsample: bool = False,
    data_range: float = 1.0,
    k1: float = 0.01,
    k2: float = 0.03,
) -> Tensor:
    """The SSIM index at every pixel, averaged over channels: `[B, 1, H, W]`. Arguments as for `ssim`.

    With padding "valid" the border, on which no window is centred, repeats the nearest value inside; with
    `downsample`, every pixel of a block has the block's value.
    """
    x, y = _prepare(image, reference, channels, downsample)
    index = ops.ssim(
        x, y, window=window, sigma=sigma, padding=padding, data_range=data_range, k1=k1, k2=k2, reduction="map"
    ).mean(dim=1, keepdim=True)
    if padding == "valid":
        index = F.pad(index, [window // 2] * 4, mode="replicate")
    return F.interpolate(index, size=image.shape[2:]) if index.shape[2:] != image.shape[2:] else index


class SSIM(nn.Module):
    """`ssim` and `ssim_map` with their options bound.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(
        self,
        window: int = 11,
        sigma: float | None = 1.5,
        padding: Padding = "valid",
        channels: Channels = "rgb",
        downsample: bool = False,
        data_range: float = 1.0,
        k1: float = 0.01,
        k2: float = 0.03,
    ) -> None:
        super().__init__()
        check_channels(channels, data_range)
        check_window(window, sigma, padding)
        check_constants(data_range, k1, k2)
        self.min_size = least_size(window, padding)
        self.data_range = data_range
        self._score = functools.partial(
            ssim, window=window, sigma=sigma, padding=padding, channels=channels, downsample=downsample,
            data_range=data_range, k1=k1, k2=k2,
        )  # fmt: skip
        self._map = functools.partial(ssim_map, **self._score.keywords)

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return self._score(image, reference)

    def map(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B, 1, H, W]`."""
        return self._map(image, reference)


def _prepare(image: Tensor, reference: Tensor, channels: Channels, downsample: bool) -> tuple[Tensor, Tensor]:
    x, y = (to_channels(t if t.dtype == torch.float64 else t.float(), channels) for t in (image, reference))
    block = math.floor(min(x.shape[2:]) / 256 + 0.5) if downsample else 1
    return (F.avg_pool2d(x, block), F.avg_pool2d(y, block)) if block > 1 else (x, y)
