"""Block averages, gradients and similarities: what most metrics of structure are made of."""

from __future__ import annotations

import functools
import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from iqazoo.metrics.numerics import safe_sqrt

# One row of weights across the difference, for kernels of 3 x 3 pixels.
ACROSS = {"prewitt": (1 / 3, 1 / 3, 1 / 3), "scharr": (3 / 16, 10 / 16, 3 / 16)}


def viewing_factor(image: Tensor) -> int:
    """By how much authors shrink an image for a usual viewing distance: its shorter side / 256, rounded, at least 1."""
    return max(1, math.floor(min(image.shape[-2:]) / 256 + 0.5))


def shrink(image: Tensor, factor: int) -> Tensor:
    """Average over blocks of `factor` x `factor` pixels: a side becomes ceil(side / factor).

    As MATLAB's conv2(image, average, "same") sampled at 1, 1 + factor, ...: the first block begins (factor - 1) // 2
    pixels before the image, and beyond the border is black.
    """
    if factor == 1:
        return image
    before = (factor - 1) // 2
    height, width = image.shape[-2:]
    below, right = (max(0, -side % factor - before) for side in (height, width))
    if before or below or right:
        image = F.pad(image, [before, right, before, below])
    rows, columns = (side // factor * factor for side in image.shape[-2:])
    # Rows, then columns: several times faster than avg_pool2d.
    sums = image[..., :rows, :].unflatten(2, (-1, factor)).sum(3)[..., :columns]
    return functools.reduce(torch.add, (sums[..., i::factor] for i in range(factor))) / factor**2


def enlarge(values: Tensor, image: Tensor) -> Tensor:
    """`[B, C, h, w]` repeated to the height and width of `image`."""
    return values if values.shape[-2:] == image.shape[-2:] else F.interpolate(values, size=image.shape[-2:])


def gradients(plane: Tensor, operator: Literal["prewitt", "scharr"]) -> tuple[Tensor, Tensor]:
    """Both differences at every pixel, by kernels of 3 x 3 pixels; beyond the border is black.

    Args:
        plane: `[B, 1, H, W]`.
        operator: the kernels.

    Returns:
        The one from left to right and the one from top to bottom, `[B, 1, H, W]` each.
    """
    edge, centre, _ = ACROSS[operator]
    wide = F.pad(plane, [1] * 4)
    # Sums along, then differences across, by slices: three times faster than a convolution of one channel.
    down = edge * (wide[..., :-2, :] + wide[..., 2:, :]) + centre * wide[..., 1:-1, :]
    along = edge * (wide[..., :-2] + wide[..., 2:]) + centre * wide[..., 1:-1]
    return down[..., 2:] - down[..., :-2], along[..., 2:, :] - along[..., :-2, :]


def energy(differences: tuple[Tensor, Tensor]) -> Tensor:
    """The squared length of gradients, `[B, 1, H, W]`."""
    return differences[0].square() + differences[1].square()


def similarity(x: Tensor, y: Tensor, constant: float) -> Tensor:
    """(2 x y + c) / (x^2 + y^2 + c), elementwise: 1 where both are equal."""
    return (2 * x * y + constant) / (x * x + y * y + constant)


def energy_similarity(x: Tensor, y: Tensor, constant: float, masking: float = 0.0) -> Tensor:
    """`similarity` of the roots of x and y: ((2 - m) sqrt(x y) + c) / (x + y - m sqrt(x y) + c).

    Args:
        x, y: squares, at least 0.
        constant: c.
        masking: m, in [0, 2).
    """
    # In flat places the direction of a gradient is rounding alone, and so would be that of the root of its square.
    x, y = x + 1e-9 * constant, y + 1e-9 * constant
    product = (x * y).sqrt()
    total = x + y if masking == 0 else x + y - masking * product
    return ((2 - masking) * product + constant) / (total + constant)


def gradient_similarity(
    x: Tensor, y: Tensor, operator: Literal["prewitt", "scharr"], constant: float, masking: float = 0.0
) -> Tensor:
    """`energy_similarity` of the gradients of two planes, `[B, 1, H, W]`."""
    return energy_similarity(energy(gradients(x, operator)), energy(gradients(y, operator)), constant, masking)


def deviation(values: Tensor) -> Tensor:
    """The standard deviation over all but the first dimension: `[B, ...]` -> `[B]`."""
    values = values.flatten(1)
    return safe_sqrt((values - values.mean(1, keepdim=True)).square().mean(1))


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """The mean over all but the first dimension: `[B, ...]` twice -> `[B]`. Where all weights are 0, the plain mean."""
    weights = weights + 1e-8
    return (values * weights).flatten(1).sum(1) / weights.flatten(1).sum(1)
