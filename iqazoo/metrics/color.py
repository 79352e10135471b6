"""The colour spaces in which metrics compare images."""

from typing import Literal, get_args

from torch import Tensor

from iqazoo.errors import InputError

Channels = Literal["rgb", "y", "y-8bit", "y-studio"]
CHANNELS: tuple[str, ...] = get_args(Channels)


def check_channels(channels: str, data_range: float) -> None:
    """Raise InputError where `to_channels` does not know `channels`, or not for images of that range."""
    if channels not in CHANNELS:
        raise InputError(f"channels must be one of {', '.join(map(repr, CHANNELS))}; got {channels!r}")
    if channels in ("y-8bit", "y-studio") and data_range != 1:
        raise InputError(f"channels={channels!r} is for images in [0, 1]; got data_range={data_range!r}")


def to_channels(image: Tensor, channels: Channels) -> Tensor:
    """The channels that a metric compares. A gray image is its own luma.

    Args:
        image: `[B, 1 or 3, H, W]`, RGB or gray in [0, 1].
        channels: "rgb": as given. "y": luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B. "y-8bit": the same,
            rounded to the levels of 8 bits, as MATLAB's rgb2gray gives it for 8-bit images (the gradient passes
            the rounding unchanged). "y-studio": luma in the studio range [16, 235] / 255, as MATLAB's rgb2ycbcr.

    Returns:
        `[B, C, H, W]`, C being 1 for luma.
    """
    if channels == "rgb":
        return image
    luma = image if image.shape[1] == 1 else _luma(*image.split(1, dim=1))  # [B, 1, H, W]
    if channels == "y-studio":
        return (219 * luma + 16) / 255
    return luma if channels == "y" else luma + ((luma * 255).round() / 255 - luma).detach()


def _luma(red: Tensor, green: Tensor, blue: Tensor) -> Tensor:
    return 0.299 * red + 0.587 * green + 0.114 * blue
