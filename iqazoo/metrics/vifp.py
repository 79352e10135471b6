"""Visual information fidelity in the pixel domain: Sheikh, Bovik, "Image information and visual quality", IEEE
Transactions on Image Processing 15(2), 2006, in the multi-scale pixel form that its authors published."""

import torch
from torch import Tensor, nn

from iqazoo import ops
from iqazoo.errors import InputError
from iqazoo.metrics.color import Channels, check_channels, to_channels
from iqazoo.metrics.numerics import exact_moments, full_precision

WINDOWS = (17, 9, 5, 3)  # of the scales, from the finest on; Gaussian, with a standard deviation of a fifth
NOISE = 2.0  # variance of the noise of vision, for images in [0, 255]
TINY = 1e-6  # information below which a reference counts as flat
FLAT = 1e-6 / 255**2  # the variance up to which a window of the reference counts as flat: that of vif, in [0, 1]


@full_precision
def vifp(image: Tensor, reference: Tensor, *, channels: Channels = "y", noise: float = NOISE) -> Tensor:
    """The information that the image keeps, as a share of what the reference holds.

    At every window, the image is the reference times a gain, with noise; both are seen through more noise. The score is
    the quotient of the sums of log(1 + gain^2 var_y / (var_noise + noise)) and log(1 + var_y / noise).

    Args:
        image, reference: `[B, 1 or 3, H, W]` in [0, 1].
        channels: see `color.to_channels`; with "rgb" the scores of the channels are averaged.
        noise: variance of the noise of vision, in squared levels of 8 bits. torchmetrics takes its 2 for the images as
            they are: for images in [0, 1] that is noise=2 * 255**2 here.

    Returns:
        `[B]`, at least 0: 1 for identical images, above 1 where contrast was enhanced. A flat reference holds no
        information: then 1 where the image is flat, too, and the less, the more the image holds.
    """
    x, y = to_channels(image, channels), to_channels(reference, channels)
    kept, held = x.new_zeros(()), x.new_zeros(())
    alone = x.new_zeros(())
    for scale, window in enumerate(WINDOWS):
        if scale > 0:  # smoothed, every second pixel of what lies inside
            x, y = ops.windowed_moments(x, y, window=window, sigma=window / 5, stride=2)[:2]
        found = _information(x, y, window, noise / 255**2)
        kept, held, alone = kept + found[0], held + found[1], found[2]
    flat = held < TINY  # [B, C]; a NaN is not
    return torch.where(flat, 1 / (1 + alone), kept / held.masked_fill(flat, 1)).mean(1)


def _information(x: Tensor, y: Tensor, window: int, noise: float) -> tuple[Tensor, Tensor, Tensor]:
    """What the image keeps, what the reference holds, and what the image holds, `[B, C]` each."""
    moments = exact_moments(x, y, window=window, sigma=window / 5)
    var_x, var_y = moments.var_x, moments.var_y
    flat = var_y <= FLAT  # a NaN is not
    # A negative one counts as noise alone; of a flat window it would be rounding over rounding.
    gain = torch.where(flat, 0, moments.cov.relu() / var_y.masked_fill(flat, 1))
    distortion = (var_x - gain * moments.cov).relu()
    signal = var_y.masked_fill(flat, 0)  # what cannot be kept is not held: identical images score 1
    kept = torch.log1p(gain.square() * signal / (distortion + noise)).sum((2, 3))
    return kept, torch.log1p(signal / noise).sum((2, 3)), torch.log1p(var_x / noise).sum((2, 3))


class VIFP(nn.Module):
    """`vifp` with its options bound.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(self, channels: Channels = "y", noise: float = NOISE) -> None:
        super().__init__()
        check_channels(channels)
        if not noise > 0:
            raise InputError(f"noise must be a positive variance; got {noise!r}")
        self.channels: Channels = channels
        self.noise = noise

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return vifp(image, reference, channels=self.channels, noise=self.noise)
