"""Gradient magnitude similarity deviation: Xue, Zhang, Mou, Bovik, "Gradient magnitude similarity deviation: a highly
efficient perceptual image quality index", IEEE Transactions on Image Processing 23(2), 2014."""

from torch import Tensor, nn

from iqazoo.metrics.color import Channels, check_channels, to_channels
from iqazoo.metrics.filtering import deviation, enlarge, gradient_similarity, shrink
from iqazoo.metrics.numerics import full_precision

CONSTANT = 170 / 255**2  # of equation 4, for images in [0, 1]


@full_precision
def gmsd(image: Tensor, reference: Tensor, *, channels: Channels = "y", downsample: bool = True) -> Tensor:
    """The standard deviation (equation 6) of the similarity of Prewitt gradients (equation 4).

    Args:
        image, reference: `[B, 1 or 3, H, W]` in [0, 1].
        channels: the luma that is compared, "y" or "y-8bit", see `color.to_channels`. The authors' code rounds it to
            8 bits; piq does not.
        downsample: first average over blocks of 2 x 2 pixels, as the paper does.

    Returns:
        `[B]` in [0, 1]; 0 for identical images.
    """
    return deviation(_similarity(image, reference, channels, downsample))


@full_precision
def gmsd_map(image: Tensor, reference: Tensor, *, channels: Channels = "y", downsample: bool = True) -> Tensor:
    """1 minus the similarity of gradients at every pixel, 0 where they are equal: `[B, 1, H, W]`.

    Arguments as for `gmsd`, which is its standard deviation.
    """
    return 1 - enlarge(_similarity(image, reference, channels, downsample), image)


def _similarity(image: Tensor, reference: Tensor, channels: Channels, downsample: bool) -> Tensor:
    x, y = (_luma(t, channels, downsample) for t in (image, reference))
    return gradient_similarity(x, y, "prewitt", CONSTANT)


def _luma(image: Tensor, channels: Channels, downsample: bool) -> Tensor:
    factor = 2 if downsample else 1
    if channels == "y":  # linear: cheaper in this order
        return to_channels(shrink(image, factor), channels)
    return shrink(to_channels(image, channels), factor)


class GMSD(nn.Module):
    """`gmsd` and `gmsd_map` with their options bound.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(self, channels: Channels = "y", downsample: bool = True) -> None:
        super().__init__()
        check_channels(channels, luma=True)
        self.channels: Channels = channels
        self.downsample = downsample

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return gmsd(image, reference, channels=self.channels, downsample=self.downsample)

    def map(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B, 1, H, W]`."""
        return gmsd_map(image, reference, channels=self.channels, downsample=self.downsample)
