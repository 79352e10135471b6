"""The colour spaces in which metrics compare images."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from iqazoo.errors import InputError

Channels = Literal["rgb", "y", "y-8bit", "y-studio"]
CHANNELS: tuple[str, ...] = get_args(Channels)

Row = tuple[float, float, float]
LUMA: Row = (0.299, 0.587, 0.114)  # ITU-R BT.601
YIQ = (LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))  # NTSC
# IEC 61966-2-1, D65.
SRGB_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
D65 = (0.95047, 1.0, 1.08883)
D50 = (0.9642119944, 1.0, 0.8251882845)
LMN = ((0.06, 0.63, 0.27), (0.30, 0.04, -0.35), (0.34, -0.60, 0.17))  # Geusebroek et al., IEEE TPAMI 2001


def check_channels(channels: str, data_range: float = 1.0, *, luma: bool = False) -> None:
    """Raise InputError where `to_channels` does not know `channels`, or not for images of that range.

    `luma`: "rgb" is not taken either.
    """
    known = CHANNELS[1:] if luma else CHANNELS
    if channels not in known:
        raise InputError(f"channels must be one of {', '.join(map(repr, known))}; got {channels!r}")
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
    luma = mix(image, LUMA)
    if channels == "y-studio":
        return (219 * luma + 16) / 255
    return luma if channels == "y" else luma + (_levels(luma) / 255 - luma).detach()


def _levels(luma: Tensor) -> Tensor:
    """Rounded to whole ones. Luma of 8-bit images is in thousandths: errors must not decide about halves."""
    return ((luma * 255_000).round() / 1000).round()


def mix(image: Tensor, row: Row) -> Tensor:
    """A weighted sum of the three channels, `[B, 1, H, W]`. A gray image is returned as it is: for luma alone."""
    if image.shape[1] == 1:
        return image
    red, green, blue = image.split(1, dim=1)
    return row[0] * red + row[1] * green + row[2] * blue


def planes(image: Tensor, rows: Sequence[Row]) -> list[Tensor]:
    """`mix` for each row. A gray image stands for an RGB one with three equal channels."""
    return [mix(image.expand(-1, 3, -1, -1), row) for row in rows]


def to_lab(image: Tensor, white: Row) -> Tensor:
    """CIE L*a*b* of sRGB images.

    Args:
        image: `[B, 3, H, W]` in [0, 1].
        white: X, Y, Z of the reference white.

    Returns:
        `[B, 3, H, W]`, L in [0, 100].
    """
    above = image > 0.04045
    # The unused side of a choice must have a finite gradient, too.
    linear = torch.where(above, ((image.where(above, 1) + 0.055) / 1.055) ** 2.4, image / 12.92)
    x, y, z = (_compress(mix(linear, row) / w) for row, w in zip(SRGB_TO_XYZ, white, strict=True))
    return torch.cat([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def _compress(t: Tensor) -> Tensor:
    """f of CIE 15, with the rounded constants in common use."""
    above = t > 0.008856
    return torch.where(above, t.where(above, 1) ** (1 / 3), 7.787 * t + 16 / 116)
