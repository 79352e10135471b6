"""Structural similarity: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to
structural similarity", IEEE Transactions on Image Processing 13(4), 2004."""

import functools
import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqazoo.errors import InputError
from iqazoo.metrics.color import Channels, check_channels, to_channels

Padding = Literal["valid", "same", "reflect"]


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
    return _index(x, y, window, sigma, padding, (k1 * data_range) ** 2, (k2 * data_range) ** 2).mean(dim=(1, 2, 3))


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
    index = _index(x, y, window, sigma, padding, (k1 * data_range) ** 2, (k2 * data_range) ** 2)
    index = index.mean(dim=1, keepdim=True)
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
        if padding not in get_args(Padding):
            raise InputError(f"padding must be one of {', '.join(get_args(Padding))}; got {padding!r}")
        if not isinstance(window, int) or window < 1 or window % 2 == 0:
            raise InputError(f"window must be an odd number of pixels, so that it has a centre; got {window!r}")
        if not (data_range > 0 and (sigma is None or sigma > 0)):
            raise InputError(f"data_range and sigma must be positive; got {data_range!r} and {sigma!r}")
        self.min_size = _least_size(window, padding)
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


def _index(x: Tensor, y: Tensor, window: int, sigma: float | None, padding: Padding, c1: float, c2: float) -> Tensor:
    """The index of every window, `[B, C, H', W']`."""
    least = _least_size(window, padding)
    if min(x.shape[2:]) < least:
        raise InputError(
            f"SSIM with window={window} and padding={padding!r} needs at least {least} x {least} pixels, "
            f"got {x.shape[2]} x {x.shape[3]}; choose a smaller window or padding='same'"
        )
    # Variances are differences of squares, and cancel least near zero: so subtract each image's mean first.
    pivot_x, pivot_y = (t.detach().mean(dim=(2, 3), keepdim=True) for t in (x, y))
    x, y = _pad(x, window, padding) - pivot_x, _pad(y, window, padding) - pivot_y
    moments = torch.stack([x, y, x * x + y * y, x * y])  # [4, B, C, H, W]
    with torch.autocast(x.device.type, enabled=False):  # in half precision the differences below would be noise
        mean_x, mean_y, squares, product = _filter(moments, _taps(window, sigma))
    variances = squares - mean_x * mean_x - mean_y * mean_y
    covariance = product - mean_x * mean_y
    mean_x, mean_y = mean_x + pivot_x, mean_y + pivot_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    return luminance * (2 * covariance + c2) / (variances + c2)


def _least_size(window: int, padding: Padding) -> int:
    return {"valid": window, "same": 1, "reflect": window // 2 + 1}[padding]


def _pad(x: Tensor, window: int, padding: Padding) -> Tensor:
    if padding == "valid":
        return x
    return F.pad(x, [window // 2] * 4, mode="constant" if padding == "same" else "reflect")


def _filter(x: Tensor, taps: tuple[float, ...]) -> Tensor:
    """Weigh every window of `[..., H, W]` by the outer product of `taps` with itself: a row pass, a column pass."""
    planes = x.flatten(0, -3).unsqueeze(0)  # [1, N, H, W]: depthwise is the quick road of torch's convolution
    kernel = x.new_tensor(taps).expand(planes.shape[1], 1, 1, -1)
    planes = F.conv2d(planes, kernel, groups=planes.shape[1])
    planes = F.conv2d(planes, kernel.transpose(2, 3), groups=planes.shape[1])
    return planes.reshape(*x.shape[:-2], *planes.shape[2:])


def _taps(window: int, sigma: float | None) -> tuple[float, ...]:
    """The one-dimensional window, with sum 1."""
    if sigma is None:
        return (1 / window,) * window
    weights = [math.exp(-0.5 * ((i - window // 2) / sigma) ** 2) for i in range(window)]
    return tuple(w / math.fsum(weights) for w in weights)
