"""The colour spaces in which metrics compare images."""

from typing import Literal, get_args

from torch import Tensor

from iqazoo.errors import InputError

Channels = Literal["rgb", "y", "y-8bit", "y-studio"]
CHANNELS: tuple[str, ...] = get_args(Channels)


def check_channels(channels: str) -> None:
    """Raise InputError where `channels` is none of the names that `to_channels` knows."""
    if channels not in CHANNELS:
        raise InputError(f"channels must be one of {', '.join(map(repr, CHANNELS))}; got {channels!r}")


def to_channels(image: Tensor, channels: Channels) -> Tensor:
    """The channels that a metric compares. Gray images come back as they are: they are luma already.

    Args:
        image: `[B, 1 or 3, H, W]`, RGB or gray in [0, 1].
        channels: "rgb": as given. "y": luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B. "y-8bit": the same,
            rounded to the levels of 8 bits, as MATLAB's rgb2gray gives it for 8-bit images (the gradient passes
            the rounding unchanged). "y-studio": luma in the studio range [16, 235] / 255, as MATLAB's rgb2ycbcr.

    Returns:
        `[B, C, H, W]`, C being 1 for luma.
    """
    if channels == "rgb" or image.shape[1] == 1:
        return image
    red, green, blue = image.split(1, dim=1)  # [B, 1, H, W] each
    if channels == "y-studio":
        return (65.481 * red + 128.553 * green + 24.966 * blue + 16) / 255
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return luma if channels == "y" else luma + ((luma * 255).round() / 255 - luma).detach()
