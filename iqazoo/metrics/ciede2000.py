"""Colour difference: CIE 142-2001; Sharma, Wu, Dalal, "The CIEDE2000 color-difference formula: implementation notes,
supplementary test data, and mathematical observations", Color Research and Application 30(1), 2005."""

import math

import torch
from torch import Tensor, nn

from iqazoo.metrics.color import D65, to_lab
from iqazoo.metrics.numerics import full_precision, safe_sqrt


@full_precision
def ciede2000(image: Tensor, reference: Tensor) -> Tensor:
    """The mean colour difference over all pixels, of sRGB images under D65.

    Args:
        image, reference: `[B, 3, H, W]` in [0, 1].

    Returns:
        `[B]`, at least 0; a difference of 1 is about the least that is seen.
    """
    return ciede2000_map(image, reference).mean((1, 2, 3))


@full_precision
def ciede2000_map(image: Tensor, reference: Tensor) -> Tensor:
    """The colour difference at every pixel, `[B, 1, H, W]`."""
    return difference(to_lab(reference, D65), to_lab(image, D65))


def difference(first: Tensor, second: Tensor) -> Tensor:
    """Equations 2 to 22 of Sharma et al., with weights of 1: L*a*b* `[B, 3, H, W]` twice -> `[B, 1, H, W]`."""
    (l1, a1, b1), (l2, a2, b2) = _without_noise(first), _without_noise(second)
    chroma = (safe_sqrt(a1 * a1 + b1 * b1) + safe_sqrt(a2 * a2 + b2 * b2)) / 2
    stretch = 1.5 - 0.5 * _saturation(chroma)
    a1, a2 = a1 * stretch, a2 * stretch
    c1, c2 = safe_sqrt(a1 * a1 + b1 * b1), safe_sqrt(a2 * a2 + b2 * b2)
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    hue = _mean_hue(a1, b1, c1, a2, b2, c2)
    offset = (lightness - 50).square()
    by_lightness = (l2 - l1) / (1 + 0.015 * offset / (20 + offset).sqrt())
    by_chroma = (c2 - c1) / (1 + 0.045 * chroma)
    by_hue = _hue_change(a1, b1, a2, b2, c1 * c2) / (1 + 0.015 * chroma * _hue_weight(hue))
    turned = torch.rad2deg(hue) % 360
    rotation = -2 * _saturation(chroma) * torch.sin(math.pi / 3 * torch.exp(-(((turned - 275) / 25) ** 2)))
    return safe_sqrt(by_lightness.square() + by_chroma.square() + by_hue.square() + rotation * by_chroma * by_hue)


def _without_noise(lab: Tensor) -> tuple[Tensor, ...]:
    """L, a and b, `[B, 1, H, W]` each. The hue of a gray is rounding, and the gradient in it has no bound."""
    lightness, a, b = lab.split(1, 1)
    gray = a * a + b * b < 1e-8
    return lightness, a.masked_fill(gray, 0), b.masked_fill(gray, 0)


def _saturation(chroma: Tensor) -> Tensor:
    """sqrt(C^7 / (C^7 + 25^7))."""
    power = (chroma / 25) ** 7
    return safe_sqrt(power / (power + 1))


def _mean_hue(a1: Tensor, b1: Tensor, c1: Tensor, a2: Tensor, b2: Tensor, c2: Tensor) -> Tensor:
    """The angle in radians half way between both hues; a colour without chroma has the other's."""
    a = a1 / c1.where(c1 != 0, 1) + a2 / c2.where(c2 != 0, 1)
    b = b1 / c1.where(c1 != 0, 1) + b2 / c2.where(c2 != 0, 1)
    none = (a == 0) & (b == 0)
    # Of opposite hues, a quarter of a turn beyond the one that is below 180 degrees.
    first = (b1 > 0) | ((b1 == 0) & (a1 > 0))
    a, b = torch.where(none, -torch.where(first, b1, b2), a), torch.where(none, torch.where(first, a1, a2), b)
    none = (a == 0) & (b == 0)  # two grays
    return torch.atan2(b.masked_fill(none, 0), a.masked_fill(none, 1))


def _hue_change(a1: Tensor, b1: Tensor, a2: Tensor, b2: Tensor, product: Tensor) -> Tensor:
    """2 sqrt(C1 C2) sin(dh / 2) without the angles, in the one of two forms in which nothing cancels."""
    dot, crossed = a1 * a2 + b1 * b2, a1 * b2 - a2 * b1
    near = dot > 0
    small = crossed * (2 / (product + dot).where(near, 1)).sqrt()
    large = torch.where(crossed < 0, -1.0, 1.0) * safe_sqrt(2 * (product - dot))
    return torch.where(near, small, large)


def _hue_weight(hue: Tensor) -> Tensor:
    terms = ((-0.17, 1, 30.0), (0.24, 2, 0.0), (0.32, 3, -6.0), (-0.20, 4, 63.0))
    return 1 + torch.stack([w * torch.cos(times * hue - math.radians(shift)) for w, times, shift in terms]).sum(0)


class CIEDE2000(nn.Module):
    """`ciede2000` and `ciede2000_map` as a network."""

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, 3, H, W]` twice -> `[B]`."""
        return ciede2000(image, reference)

    def map(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, 3, H, W]` twice -> `[B, 1, H, W]`."""
        return ciede2000_map(image, reference)
