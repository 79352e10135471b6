"""Means and central moments of overlapping blocks, without the cancellation of sums of powers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

CELL = 4  # side of the cells that blocks are made of, in pixels


class Moments(NamedTuple):
    """The mean of each block and the averages of its deviations to the powers of 2, 3 and 4, `[..., h, w]` each."""

    mean: Tensor
    second: Tensor
    third: Tensor
    fourth: Tensor


def cells(planes: Tensor) -> Moments:
    """Of blocks of 4 x 4 pixels, side by side: `[..., H, W]`, both multiples of 4 -> `[..., H / 4, W / 4]`."""
    first, second = _neighbours(planes, -2)
    square = (second - first).square() / 4
    found = Moments(torch.lerp(first, second, 0.5), square, torch.zeros_like(square), square.square())
    for dim in (-2, -1, -1):
        found = joined(*(Moments(*side) for side in zip(*(_neighbours(t, dim) for t in found), strict=True)))
    return found


def doubled(blocks: Moments, step: int) -> Moments:
    """Of blocks twice as high and wide: each with those `step` places below, to the right, and both.

    Args:
        blocks: `[..., h, w]`, where the blocks `step` places on are the ones that begin where a block ends.

    Returns:
        `[..., h - step, w - step]`.
    """
    for dim in (-2, -1):
        count = blocks.mean.shape[dim] - step
        blocks = joined(*(Moments(*(t.narrow(dim, start, count) for t in blocks)) for start in (0, step)))
    return blocks


def joined(first: Moments, second: Moments) -> Moments:
    """Of the unions of two blocks with as many pixels.

    With the means m - d and m + d, the deviations from m are those from either mean, shifted by d: binomials.
    """
    step = second.mean - first.mean  # 2 d
    square = step.square()
    mean, variance, third, fourth = (torch.lerp(a, b, 0.5) for a, b in zip(first, second, strict=True))
    # Fused: half as many passes over the pixels.
    third = torch.addcmul(third, step, second.second - first.second, value=0.75)
    fourth = torch.addcmul(fourth, step, second.third - first.third)
    fourth = torch.addcmul(fourth, square, torch.add(1.5 * variance, square, alpha=1 / 16))
    return Moments(mean, torch.add(variance, square, alpha=0.25), third, fourth)


def _neighbours(planes: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Every other row (-2) or column (-1), from the first and from the second on."""
    first, second = planes.unflatten(dim, (-1, 2)).unbind(dim)
    return first, second
