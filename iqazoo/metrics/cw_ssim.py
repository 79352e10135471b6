"""Complex wavelet structural similarity: Sampat, Wang, Gupta, Bovik, Markey, "Complex wavelet structural similarity: a
new image similarity index", IEEE Transactions on Image Processing 18(11), 2009."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqazoo.errors import InputError
from iqazoo.metrics.color import Channels, check_channels, to_channels
from iqazoo.metrics.numerics import constant, full_precision, safe_sqrt

WINDOW = 7


@full_precision
def cw_ssim(
    image: Tensor,
    reference: Tensor,
    *,
    levels: int = 4,
    orientations: int = 8,
    stabilizer: float = 0.0,
    channels: Channels = "y",
) -> Tensor:
    """How far the phases of both images' wavelet coefficients change alike (equation 7 of the paper).

    The index of a window of 7 x 7 coefficients, (2 |sum c_x c_y*| + K) / (sum |c_x|^2 + sum |c_y|^2 + K), is averaged
    over the coarsest level of a complex steerable pyramid, with Gaussian weights about the centre of the image and a
    standard deviation of a quarter of its height, and then over orientations. Small shifts, rotations and changes of
    scale turn all phases of a window alike, and hardly change it.

    Args:
        image, reference: `[B, 1 or 3, H, W]` in [0, 1].
        levels: of the pyramid; each has half the sides of the one before.
        orientations: of its bands.
        stabilizer: K, for images in [0, 255]. With 0, windows that are empty in both images count as 1.
        channels: see `color.to_channels`; with "rgb" the scores of the channels are averaged.

    Returns:
        `[B]` in [0, 1]; 1 for identical images.

    Raises:
        InputError: the coarsest level is smaller than a window.
    """
    x, y = (_bands(255 * to_channels(t, channels), levels, orientations) for t in (image, reference))
    product = x * y.conj()
    parts = torch.stack([product.real, product.imag, _square(x) + _square(y)])  # [3, B, C, O, h, w]
    real, imaginary, squares = F.avg_pool2d(parts.flatten(0, 3), WINDOW, stride=1).unflatten(0, parts.shape[:4])
    together = 2 * safe_sqrt(real.square() + imaginary.square())
    empty = squares + stabilizer <= 1e-9  # what rounding leaves of an image without detail; a NaN is not
    index = torch.where(empty, 1, (together + stabilizer) / (squares + stabilizer).masked_fill(empty, 1))
    weights = constant(index, _gaussian, *index.shape[-2:], x.shape[-2] / 4)
    return (index * weights).sum((-2, -1)).mean((1, 2))


def coarsest(side: int, levels: int) -> int:
    """How many coefficients lie along a side of the coarsest level."""
    for _ in range(levels - 1):
        side = math.ceil((side - 0.5) / 2)
    return side


def _bands(planes: Tensor, levels: int, orientations: int) -> Tensor:
    """The coarsest level of Portilla and Simoncelli's pyramid: `[B, C, H, W]` -> complex `[B, C, O, h, w]`."""
    height, width = planes.shape[2:]
    rows, columns = _kept(height, levels), _kept(width, levels)
    count = (len(columns) + 1) // 2  # of those that are not negative, which come first
    # The mean passes no band, but its rounding would.
    centred = planes - planes.mean((2, 3), keepdim=True)
    half = torch.fft.fft(torch.fft.rfft(centred)[..., : count + 1], dim=2)
    upper, lower = (half[:, :, torch.from_numpy(np.mod(sign * rows, height)).to(half.device)] for sign in (1, -1))
    negative = -columns[count:]  # from the greatest on
    mirrored = lower[..., torch.from_numpy(negative).to(half.device)].conj()
    spectrum = torch.cat([upper[..., :count], mirrored], dim=3)[:, :, None]
    return torch.fft.ifft2(spectrum * constant(planes, _masks, height, width, levels, orientations))


def _kept(side: int, levels: int) -> np.ndarray:
    """The frequencies of the coarsest level in cycles per image, the zero first."""
    size = coarsest(side, levels)
    return np.fft.ifftshift(np.arange(size) - size // 2)


def _masks(height: int, width: int, levels: int, orientations: int) -> np.ndarray:
    """What passes each band, `[O, h, w]`: an octave, with raised cosines on both sides, and half of all directions."""
    y, x = _kept(height, levels)[:, None] / (height / 2), _kept(width, levels)[None, :] / (width / 2)
    radius, angle = np.hypot(y, x), np.arctan2(y, x)
    octaves = np.log2(np.where(radius > 0, radius, 1)) + levels - 1  # 0 at the edge of the level's spectrum
    radial = np.cos(np.clip(octaves + 1, 0, 1) * np.pi / 2) * np.sin(np.clip(octaves + 2, 0, 1) * np.pi / 2)
    radial[radius == 0] = 0
    order = orientations - 1
    size = 4**order * math.factorial(order) ** 2 / (orientations * math.factorial(2 * order))
    turned = angle - np.pi * np.arange(orientations)[:, None, None] / orientations
    return radial * 2 * math.sqrt(size) * np.clip(np.cos(turned), 0, None) ** order


def _square(bands: Tensor) -> Tensor:
    return bands.real.square() + bands.imag.square()


def _gaussian(height: int, width: int, sigma: float) -> np.ndarray:
    rows, columns = (np.exp(-((np.arange(n) - (n - 1) / 2) ** 2) / (2 * sigma**2)) for n in (height, width))
    return np.outer(rows, columns) / (rows.sum() * columns.sum())


class CWSSIM(nn.Module):
    """`cw_ssim` with its options bound.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(
        self, levels: int = 4, orientations: int = 8, stabilizer: float = 0.0, channels: Channels = "y"
    ) -> None:
        super().__init__()
        check_channels(channels)
        if levels < 1 or orientations < 2 or not stabilizer >= 0:
            raise InputError(
                "levels must be at least 1, orientations at least 2 and stabilizer at least 0; "
                f"got {levels!r}, {orientations!r} and {stabilizer!r}"
            )
        self.levels, self.orientations, self.stabilizer = levels, orientations, stabilizer
        self.channels: Channels = channels
        self.min_size = next(side for side in range(WINDOW, 2**levels * WINDOW) if coarsest(side, levels) >= WINDOW)

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return cw_ssim(
            image, reference, levels=self.levels, orientations=self.orientations, stabilizer=self.stabilizer,
            channels=self.channels,
        )  # fmt: skip
