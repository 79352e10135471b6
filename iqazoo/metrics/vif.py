"""Visual information fidelity: Sheikh, Bovik, "Image information and visual quality", IEEE Transactions on Image
Processing 15(2), 2006."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqazoo import ops
from iqazoo.metrics import steerable_filters
from iqazoo.metrics.color import Channels, check_channels, to_channels
from iqazoo.metrics.numerics import constant, full_precision
from iqazoo.metrics.scale_mixture import eigenvalues, finite_covariance, multiplier

WINDOWS = (17, 9, 5, 3)  # of the levels, from the finest on
BLOCK = 3  # side of the neighbourhoods that are taken for vectors
NOISE = 0.4  # variance of the noise of vision, for images in [0, 255]
TINY = 1e-6  # information below which a reference counts as flat
# The variance up to which a window of the reference counts as flat. Rounding in float32 leaves less in flat parts, but
# more than the authors' 1e-15, which is for doubles; beside NOISE, windows below it hold no information.
FLAT = 1e-6


@full_precision
def vif(image: Tensor, reference: Tensor, *, channels: Channels = "y") -> Tensor:
    """The information that the image keeps, as a share of what the reference holds (equation 18 of the paper).

    Over the vertical and horizontal bands of four levels of a steerable pyramid. Blocks of 3 x 3 coefficients of the
    reference are a Gaussian scale mixture; the image is the reference times a gain, with noise, estimated in windows;
    both are seen through more noise. As in the authors' code, window means are sampled once for each block, and blocks
    whose windows reach beyond the border do not count.

    Args:
        image, reference: `[B, 1 or 3, H, W]` in [0, 1], at least 65 x 65 pixels.
        channels: see `color.to_channels`; with "rgb" the scores of the channels are averaged.

    Returns:
        `[B]`, at least 0: 1 for identical images, above 1 where contrast was enhanced. A flat reference holds no
        information: then 1 where the image is flat, too, and the less, the more the image holds.
    """
    planes = [255 * to_channels(t, channels).flatten(0, 1)[:, None] for t in (image, reference)]  # [B C, 1, H, W]
    # The mean passes no band, but its rounding would. One image at a time: convolutions take much memory.
    first, low, bands = (
        constant(image, f) for f in (steerable_filters.first_low, steerable_filters.low, steerable_filters.bands)
    )
    planes = [_filtered(t - t.mean((2, 3), keepdim=True), first) for t in planes]
    kept, held, alone = (image.new_zeros(()) for _ in range(3))
    for window in WINDOWS:
        for kernel in bands.split(1):
            x, y = (_filtered(t, kernel) for t in planes)
            found = _information(x, y, window)
            kept, held, alone = kept + found[0], held + found[1], found[2]
        planes = [_filtered(t, low, stride=2) for t in planes]
    flat = held < TINY  # [B C]; a NaN is not
    score = torch.where(flat, 1 / (1 + alone), kept / held.masked_fill(flat, 1))
    return score.view(len(image), -1).mean(1)


def _filtered(planes: Tensor, kernels: Tensor, stride: int = 1) -> Tensor:
    """Mirrored about the last pixel beyond the border: `[N, 1, H, W]` -> `[N, K, H', W']`."""
    return F.conv2d(F.pad(planes, [kernels.shape[-1] // 2] * 4, mode="reflect"), kernels, stride=stride)


def _information(x: Tensor, y: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """What the image keeps, what the reference holds, and what the image holds in one band, in nats, `[N]` each."""
    height, width = (side // BLOCK * BLOCK for side in y.shape[2:])
    x, y = x[..., :height, :width], y[..., :height, :width]
    gain, distortion, variance, flat = _distortion(x, y, window)
    planes = [y[:, 0, i : i + height - 2, j : j + width - 2] for i in range(BLOCK) for j in range(BLOCK)]
    vectors = torch.stack(planes, 1).flatten(2)  # [N, 9, K], overlapping
    mean = vectors.mean(2, keepdim=True)  # small beside the deviations: nothing cancels
    covariance = finite_covariance(vectors @ vectors.mT / vectors.shape[2] - mean @ mean.mT)
    blocks = F.pixel_unshuffle(y, BLOCK)  # [N, 9, height / 3, width / 3]
    square = multiplier(blocks.flatten(2), covariance).view(len(y), 1, *blocks.shape[2:])
    square = square.masked_fill(flat, 0)  # what cannot be kept is not held: identical images score 1
    edge = -(-(window // 2) // BLOCK)
    gain, distortion, variance, square = (t[..., edge:-edge, edge:-edge] for t in (gain, distortion, variance, square))
    kept = held = torch.zeros_like(square)
    for value in eigenvalues(covariance):
        signal = square * value[:, None, None, None]
        kept = kept + torch.log1p(gain.square() * signal / (distortion + NOISE))
        held = held + torch.log1p(signal / NOISE)
    alone = torch.log1p(variance / NOISE)
    return kept.sum((1, 2, 3)), held.sum((1, 2, 3)), alone.sum((1, 2, 3))


def _distortion(x: Tensor, y: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gain, noise's variance, and the image's variance in a window about each block's centre; and where y is flat."""
    reach = window // 2
    # The first window lies about the second pixel.
    x, y = (F.pad(t, [reach] * 4, mode="reflect")[..., 1:, 1:] for t in (x, y))
    moments = ops.windowed_moments(x, y, window=window, sigma=None, stride=BLOCK)
    flat = moments.var_y <= FLAT  # a NaN is not
    # A negative one is noise alone; of a flat window it would be rounding over rounding.
    gain = torch.where(flat, 0, moments.cov.relu() / moments.var_y.masked_fill(flat, 1))
    return gain, (moments.var_x - gain * moments.cov).relu(), moments.var_x, flat


class VIF(nn.Module):
    """`vif` with its options bound.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(self, channels: Channels = "y") -> None:
        super().__init__()
        check_channels(channels)
        self.channels: Channels = channels

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return vif(image, reference, channels=self.channels)
