"""Cubic resizing as MATLAB's imresize does it: antialiased, the image mirrored beyond its border."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from iqazoo.metrics.numerics import constant


def resize(image: Tensor, size: Sequence[int], scales: Sequence[float] | None = None) -> Tensor:
    """`[B, C, H, W]` -> `[B, C, *size]`. `scales`: new pixels per old one, where rounding made `size` inexact."""
    rows, columns = (
        constant(image, _weights, old, new, scales[i] if scales else new / old)
        for i, (old, new) in enumerate(zip(image.shape[2:], size, strict=True))
    )
    return rows @ image @ columns.T


def _weights(old: int, new: int, scale: float) -> np.ndarray:
    """What each old pixel counts in each new one, `[new, old]`: Keys' cubic kernel with a = -1/2."""
    stretch = min(scale, 1.0)
    reach = math.ceil(2 / stretch) + 1
    centres = (np.arange(new) + 0.5) / scale - 0.5
    pixels = np.floor(centres)[:, None] + np.arange(-reach, reach + 1)  # [new, taps]
    distance = np.abs(centres[:, None] - pixels) * stretch
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    taps = np.where(distance <= 1, near, np.where(distance <= 2, far, 0))
    taps /= taps.sum(1, keepdims=True)
    mirrored = np.mod(pixels, 2 * old).astype(int)
    mirrored = np.where(mirrored < old, mirrored, 2 * old - 1 - mirrored)
    weights = np.zeros((new, old))
    for pixel, tap in zip(mirrored.T, taps.T, strict=True):  # np.add.at would do, but torch.compile does not know it
        weights[np.arange(new), pixel] += tap
    return weights
