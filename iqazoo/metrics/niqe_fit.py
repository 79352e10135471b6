"""The model behind `niqe`: mean and covariance of what blocks of undistorted photographs look like."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from iqazoo.errors import InputError
from iqazoo.metrics.color import Channels, to_channels
from iqazoo.metrics.niqe import BLOCK, FEATURES, block_features

SHARPNESS = 0.75  # of the sharpest block, as the paper has it


class Fit(NamedTuple):
    """A fitted model.

    Args:
        state: `mean` `[36]` and `covariance` `[36, 36]`, float64: the state dict of `niqe.NIQE`.
        blocks, images: how many there were.
    """

    state: dict[str, Tensor]
    blocks: int
    images: int


def fit(
    images: Iterable[tuple[str, Tensor]],
    *,
    step: int = BLOCK,
    sharpness: float = SHARPNESS,
    channels: Channels = "y",
) -> Fit:
    """Fit a Gaussian (equation 9 of the paper) to the features of the sharp blocks of photographs.

    The others are out of focus, or show little.

    Args:
        images: names, for errors, and photographs `[1 or 3, H, W]` in [0, 1], at least 96 x 96 pixels.
        step: from one block to the next in pixels, even: 96 in the paper; with less, blocks overlap, and few
            photographs have more of them.
        sharpness: the share of the sharpness of a photograph's sharpest block that a block must exceed, in [0, 1).
        channels: the luma, see `color.to_channels`.

    Raises:
        InputError: a photograph is too small, there are too few blocks, or an option is not as above.
    """
    if step < 2 or step % 2:
        raise InputError(f"step must be an even number of pixels from 2, which the half size halves; got {step}")
    if not 0 <= sharpness < 1:
        raise InputError(f"sharpness must be a share from 0 and below 1; got {sharpness}")
    chosen = [_sharp_blocks(name, image, step, sharpness, channels) for name, image in images]
    features = torch.cat([torch.empty(0, FEATURES, dtype=torch.float64), *chosen])  # [N, 36]
    if len(features) <= FEATURES:
        raise InputError(
            f"a covariance of {FEATURES} features takes more than {FEATURES} sharp blocks, better ten times as many; "
            f"got {len(features)} of {len(chosen)} photographs; add some, or let blocks overlap by a smaller step"
        )
    return Fit({"mean": features.mean(0), "covariance": torch.cov(features.T)}, len(features), len(chosen))


def _sharp_blocks(name: str, image: Tensor, step: int, sharpness: float, channels: Channels) -> Tensor:
    """`[N, 36]`."""
    if min(image.shape[1:]) < BLOCK:
        height, width = image.shape[1:]
        raise InputError(f"{name} has {height} x {width} pixels, and a block {BLOCK} x {BLOCK}; leave it out")
    with torch.no_grad():
        of = block_features(255 * to_channels(image[None], channels), step)
    keep = (of.sharpness > sharpness * of.sharpness.amax(1)) & ~of.flat
    return of.features[keep]
