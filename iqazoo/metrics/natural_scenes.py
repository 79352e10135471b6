"""Statistics of natural scenes: what local contrast looks like in photographs, whatever they show.

Contrast, divided by how much of it there is around, is distributed nearly as a Gaussian in undistorted photographs, and
otherwise in distorted ones: Mittal, Moorthy, Bovik, "No-reference image quality assessment in the spatial domain", IEEE
Transactions on Image Processing 21(12), 2012. NIQE and BRISQUE compare such distributions, PIQE looks at their blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from iqazoo.metrics.numerics import constant, safe_sqrt
from iqazoo.ops import windowed_moments

WINDOW, SIGMA = 7, 7 / 6
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # to the right, below, and both diagonals
# Where luma deviates no more than this, contrast up to that is none: the sign of rounding would count. In float32 flat
# places of 8-bit levels deviate by up to 0.1.
FLAT, ROUNDING = 0.25, 1e-4
LEAST, GREATEST, STEP = 0.2, 10.0, 0.001  # shapes in the authors' table
SHAPES = LEAST + STEP * np.arange(round((GREATEST - LEAST) / STEP) + 1)
# G(2/a)^2 / (G(1/a) G(3/a)). Here, and not when first used: torch.compile would unroll the loop.
RATIOS = np.exp([2 * math.lgamma(2 / a) - math.lgamma(1 / a) - math.lgamma(3 / a) for a in SHAPES])

Border = Literal["replicate", "zeros"]
Fit = Literal["interpolated", "nearest"]


def contrast_normalized(luma: Tensor, border: Border = "replicate") -> tuple[Tensor, Tensor, Tensor]:
    """Luma less its local mean, divided by its local deviation (equations 1 to 3 of the paper).

    (I - mu) / (sigma + 1), mu and sigma of Gaussian windows of 7 x 7 pixels with a standard deviation of 7/6. Flat
    places have exactly 0.

    Args:
        luma: `[B, 1, H, W]` in [0, 255].
        border: what lies beyond it: the nearest pixel, or black.

    Returns:
        The normalized contrast, mu and sigma, `[B, 1, H, W]` each.
    """
    wide = F.pad(luma, [WINDOW // 2] * 4, mode="replicate" if border == "replicate" else "constant")
    moments = windowed_moments(wide, wide, window=WINDOW, sigma=SIGMA)
    deviation = safe_sqrt(moments.var_x)
    contrast = (luma - moments.mean_x) / (deviation + 1)
    none = (contrast.abs() <= ROUNDING) & (deviation <= FLAT)
    return contrast.masked_fill(none, 0), moments.mean_x, deviation


class Spread(NamedTuple):
    """How values are distributed about zero, in float64, `[...]` each.

    Args:
        magnitude: the mean of the absolute values.
        square: the mean square.
        left, right: the roots of the mean squares of what is negative, and of what is positive; 0 where nothing is.
    """

    magnitude: Tensor
    square: Tensor
    left: Tensor
    right: Tensor


def spreads(contrast: Tensor) -> Spread:
    """Of the last two dimensions of normalized contrast, and of its products with four neighbours (equations 7 to 10).

    The first row follows the last, and the first column the last, as in the authors' code: `[..., H, W]` -> `[..., 5]`.
    """
    found = [_spread(contrast), *map(_spread, _products(contrast))]
    return Spread(*(torch.stack(several, -1) for several in zip(*found, strict=True)))


def _products(contrast: Tensor) -> Iterator[Tensor]:
    """One at a time: they are large."""
    height, width = contrast.shape[-2:]
    wide = torch.cat([contrast[..., -1:, :], contrast], -2)
    wide = torch.cat([wide[..., -1:], wide, wide[..., :1]], -1)
    for down, right in NEIGHBOURS:
        yield contrast * wide[..., 1 - down : 1 - down + height, 1 - right : 1 - right + width]


def _spread(values: Tensor) -> tuple[Tensor, ...]:
    negative, positive = values.clamp(max=0), values.clamp(min=0)
    below, above = (_squares(side) for side in (negative, positive))
    signs = values.detach().sign()
    # Whole numbers, in spite of the root: many times faster than comparisons.
    either, more = _squares(signs).round(), signs.sum(-1).double()
    counts = ((either + sign * more).sum(-1) / 2 for sign in (-1, 1))
    sums = [squares.sum(-1) for squares in (below, above)]
    left, right = (safe_sqrt(s / count.where(count != 0, 1)) for s, count in zip(sums, counts, strict=True))
    magnitude = positive.mean((-2, -1)).double() - negative.mean((-2, -1)).double()
    return magnitude, (sums[0] + sums[1]) / (values.shape[-2] * values.shape[-1]), left, right


def _squares(values: Tensor) -> Tensor:
    """The sum of squares of each row in float64, by the norm, which takes one pass."""
    return torch.linalg.vector_norm(values, dim=-1).double().square()


def symmetric_shape(of: Spread, fit: Fit = "interpolated") -> Tensor:
    """The shape of the generalized Gaussian with these moments (equation 4): 2 of a Gaussian, 1 of a Laplacian."""
    # The authors compare the inverses of ratios, halfway between which is their harmonic mean.
    return _shape(_peakedness(of), fit, lambda low, high: 2 * low * high / (low + high))


def asymmetric_shape(of: Spread, fit: Fit = "interpolated") -> Tensor:
    """The shape of the asymmetric generalized Gaussian with these moments (equation 12), which has one deviation to the
    left of zero and another to the right."""
    left, right = of.left, of.right
    total = left.square() + right.square()
    # Of (g^3 + 1) (g + 1) / (g^2 + 1)^2, g = left / right, without the division by what may be 0.
    lopsided = (left**3 + right**3) * (left + right) / total.where(total != 0, 1).square()
    return _shape(_peakedness(of) * lopsided, fit, lambda low, high: (low + high) / 2)


def to_scale(shape: Tensor) -> Tensor:
    """sqrt(G(1/a) / G(3/a)), G being the gamma function: what makes the scale of a deviation."""
    return ((torch.lgamma(1 / shape) - torch.lgamma(3 / shape)) / 2).exp()


def mean_of_scales(shape: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """The mean (r - l) G(2/a) / G(1/a) of an asymmetric generalized Gaussian with the scales l and r (equation 15)."""
    return (right - left) * (torch.lgamma(2 / shape) - torch.lgamma(1 / shape)).exp()


def _peakedness(of: Spread) -> Tensor:
    """The squared mean magnitude over the mean square; 0, which has the least shape, of nothing but zeros."""
    return of.magnitude.square() / of.square.where(of.square != 0, 1)


def _shape(ratio: Tensor, fit: Fit, halfway: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The a in [0.2, 10] with G(2/a)^2 / (G(1/a) G(3/a)) = `ratio`; beyond, the nearest of them.

    The authors take the nearest of a table with steps of 0.001. Between its entries is interpolated here, so that
    there is a gradient, which is also that of the nearest.
    """
    table = constant(ratio, _ratios)
    above = torch.searchsorted(table, ratio.detach().contiguous()).clamp(1, len(table) - 1)
    low, high = table[above - 1], table[above]
    part = ((ratio - low) / (high - low)).clamp(0, 1)
    if fit == "nearest":
        part = part + ((ratio > halfway(low, high)).to(part) - part).detach()
    return LEAST + STEP * (above - 1 + part)


def _ratios() -> np.ndarray:
    return RATIOS
