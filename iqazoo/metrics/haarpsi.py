"""Haar wavelet-based perceptual similarity index: Reisenhofer, Bosse, Kutyniok, Wiegand, "A Haar wavelet-based
perceptual similarity index for image quality assessment", Signal Processing: Image Communication 61, 2018."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqazoo.metrics.color import LUMA, YIQ, mix
from iqazoo.metrics.filtering import energy_similarity, enlarge, shrink
from iqazoo.metrics.numerics import full_precision

C, ALPHA = 30.0, 4.2  # for images in [0, 255]


@full_precision
def haarpsi(image: Tensor, reference: Tensor, *, downsample: bool = True) -> Tensor:
    """The similarity of Haar coefficients, weighed by those of the coarsest scale (equations 12 to 15).

    Args:
        image, reference: `[B, 1 or 3, H, W]` in [0, 1]; for RGB the chrominance I and Q is compared, too.
        downsample: first average over blocks of 2 x 2 pixels, as the paper does.

    Returns:
        `[B]` in [0, 1]; 1 for identical images.
    """
    similar, weights = _similarity(image, reference, downsample)
    mean = (torch.sigmoid(ALPHA * similar) * weights).sum((1, 2, 3)) / weights.sum((1, 2, 3))
    return (torch.logit(mean) / ALPHA).square()


@full_precision
def haarpsi_map(image: Tensor, reference: Tensor, *, downsample: bool = True) -> Tensor:
    """The weighted mean of a pixel's similarities, 1 where both images are equal: `[B, 1, H, W]`."""
    similar, weights = _similarity(image, reference, downsample)
    return enlarge((similar * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True), image)


def _similarity(image: Tensor, reference: Tensor, downsample: bool) -> tuple[Tensor, Tensor]:
    """Similarities and weights, `[B, 2 or 3, H', W']` each: horizontal, vertical, chrominance."""
    x, y = (255 * shrink(t, 2 if downsample else 1) for t in (image, reference))
    haar_x, haar_y = _coefficients(mix(x, LUMA)), _coefficients(mix(y, LUMA))  # three scales, [B, 2, H', W'] each
    fine = [energy_similarity(a, b, C) for a, b in zip(haar_x[:2], haar_y[:2], strict=True)]
    similar = (fine[0] + fine[1]) / 2
    # Nothing but flat areas in both images: all pixels weigh the same.
    weights = (torch.maximum(haar_x[2], haar_y[2]) + 1e-8).sqrt()
    if x.shape[1] == 1:
        return similar, weights
    chroma = [energy_similarity(_smooth(mix(x, row)), _smooth(mix(y, row)), C) for row in YIQ[1:]]
    return (
        torch.cat([similar, (chroma[0] + chroma[1]) / 2], dim=1),
        torch.cat([weights, weights.mean(1, keepdim=True)], dim=1),
    )


def _coefficients(luma: Tensor) -> list[Tensor]:
    """The squared Haar coefficients of three scales: `[B, 1, H, W]` -> `[B, 2, H, W]` each."""
    found = []
    for side in (2, 4, 8):
        wide = F.pad(luma, [side // 2 - 1, side // 2] * 2)
        down = _difference(_windows(wide, side, dim=3), side, dim=2)
        along = _difference(_windows(wide, side, dim=2), side, dim=3)
        found.append((torch.cat([down, along], dim=1) / side).square())
    return found


def _windows(planes: Tensor, side: int, dim: int) -> Tensor:
    """The sums of `side` neighbours, a power of two, by doubling: far cheaper than a convolution."""
    step = 1
    while step < side:
        count = planes.shape[dim] - step
        planes = planes.narrow(dim, 0, count) + planes.narrow(dim, step, count)
        step *= 2
    return planes


def _difference(planes: Tensor, side: int, dim: int) -> Tensor:
    """The sum of the first half of `side` neighbours minus that of the second."""
    half = _windows(planes, side // 2, dim)
    count = half.shape[dim] - side // 2
    return half.narrow(dim, 0, count) - half.narrow(dim, side // 2, count)


def _smooth(plane: Tensor) -> Tensor:
    """The squared mean of 2 x 2 pixels from each pixel on; beyond the border is 0."""
    return (_windows(_windows(F.pad(plane, [0, 1, 0, 1]), 2, dim=2), 2, dim=3) / 4).square()


class HaarPSI(nn.Module):
    """`haarpsi` and `haarpsi_map` with their options bound."""

    def __init__(self, downsample: bool = True) -> None:
        super().__init__()
        self.downsample = downsample

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return haarpsi(image, reference, downsample=self.downsample)

    def map(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B, 1, H, W]`."""
        return haarpsi_map(image, reference, downsample=self.downsample)
