"""The photographs that checks look at, and what is done to them."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from iqazoo import images
from iqazoo.data.distortions import FAMILIES, LUMA

PHOTOGRAPHS = sorted((Path(__file__).parent / "photographs").glob("*.jpg"))


@functools.cache
def photographs(channels: int, height: int, width: int) -> Tensor:
    """The photographs in any size, `[3, channels, height, width]` in [0, 1]: RGB, or their luma for one channel."""
    rgb = torch.stack([images.decode(path) for path in PHOTOGRAPHS])
    sized = F.interpolate(rgb, (height, width), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    return sized if channels == 3 else _gray(sized)


@functools.cache
def distorted(family: str, severity: float, channels: int, height: int, width: int) -> Tensor:
    """`photographs` with one of `iqazoo.data`'s distortions, the same noise at every severity.

    Args:
        family: one of `iqazoo.data.distortions.FAMILIES`.
        severity: above 0, to 1.
        channels, height, width: as for `photographs`.
    """
    distort = FAMILIES[family].distort
    pixels = photographs(3, height, width).permute(0, 2, 3, 1).numpy()
    rgb = [distort(photograph, severity, np.random.default_rng(0)) for photograph in pixels]
    made = torch.from_numpy(np.stack(rgb)).float().permute(0, 3, 1, 2).clamp(0, 1).contiguous()
    return made if channels == 3 else _gray(made)


def _gray(rgb: Tensor) -> Tensor:
    return torch.einsum("bchw,c->bhw", rgb, torch.from_numpy(LUMA))[:, None].clamp(0, 1)
