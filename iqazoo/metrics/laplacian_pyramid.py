"""The Laplacian pyramid: Burt, Adelson, "The Laplacian pyramid as a compact image code", IEEE Transactions on
Communications 31(4), 1983."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
BURT = (0.05, 0.25, 0.4, 0.25, 0.05)


Border = Literal["reflect", "symmetric"]


def laplacian_pyramid(
    plane: Tensor, scales: int, taps: Sequence[float], gain: float = 1.0, border: Border = "reflect"
) -> list[Tensor]:
    """Bands from the finest on, and what remains: `scales` tensors, each side half of the one before, rounded up.

    Args:
        plane: `[B, 1, H, W]`.
        scales: how many.
        taps: the five taps of the low-pass filter along one side, symmetric, with the sum 1.
        gain: by how much values grow from scale to scale along each side: 1 as Burt and Adelson do, sqrt(2) as
            matlabPyrTools.
        border: what lies beyond: "reflect", the image mirrored about the last pixel, whose enlarged zeros are mirrored
            with it; "symmetric", mirrored about its edge, and enlarged with the last pixel repeated.
    """
    bands = []
    for _ in range(scales - 1):
        low = _reduced(plane, taps, gain, border)
        bands.append(plane - _expanded(low, taps, 2 / gain, border)[..., : plane.shape[2], : plane.shape[3]])
        plane = low
    return [*bands, plane]


def _reduced(plane: Tensor, taps: Sequence[float], gain: float, border: Border) -> Tensor:
    """The filter at every second pixel, by slices: several times faster than a convolution of one channel."""
    for dim in (2, 3):
        wide = _padded(plane, dim, border)
        size = plane.shape[dim]
        a, b, c, d, e = (wide.narrow(dim, i, size)[(slice(None),) * dim + (slice(None, None, 2),)] for i in range(5))
        plane = gain * taps[0] * (a + e) + gain * taps[1] * (b + d) + gain * taps[2] * c
    return plane


def _padded(plane: Tensor, dim: int, border: Border) -> Tensor:
    """Two more pixels at both ends of one side."""
    if border == "reflect":
        return F.pad(plane, [2, 2, 0, 0] if dim == 3 else [0, 0, 2, 2], mode="reflect")
    size = plane.shape[dim]
    near = [min(1, size - 1), 0], [size - 1, max(0, size - 2)]
    begin, end = (torch.cat([plane.narrow(dim, i, 1) for i in pixels], dim) for pixels in near)
    return torch.cat([begin, plane, end], dim)


def _expanded(plane: Tensor, taps: Sequence[float], gain: float, border: Border) -> Tensor:
    """Twice the sides: zeros between the pixels, and the filter."""
    for dim in (3, 2):
        second = min(1, plane.shape[dim] - 1) if border == "reflect" else 0
        first, last = plane.narrow(dim, second, 1), plane.narrow(dim, plane.shape[dim] - 1, 1)
        wide = torch.cat([first, plane, last], dim)
        before, here, after = (wide.narrow(dim, i, plane.shape[dim]) for i in range(3))
        even = gain * taps[0] * (before + after) + gain * taps[2] * here
        odd = gain * taps[1] * (here + after)
        plane = torch.stack([even, odd], dim + 1).flatten(dim, dim + 1)
    return plane
