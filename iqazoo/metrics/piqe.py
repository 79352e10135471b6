"""PIQE: Venkatanath, Praneeth, Chandrasekhar, Channappayya, Medasani, "Blind image quality evaluation using perception
based features", National Conference on Communications, 2015."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from iqazoo.errors import InputError
from iqazoo.metrics.color import Channels, check_channels, to_channels
from iqazoo.metrics.natural_scenes import contrast_normalized
from iqazoo.metrics.numerics import full_precision

BLOCK = 16  # side of a block in pixels
SEGMENT = 6  # pixels of a block's edge that are looked at together
ACTIVE = 0.1  # variance above which a block is looked at
SMOOTH = 0.1  # standard deviation below which a segment is unnaturally so
STABILIZER = 1.0
MIDDLE = BLOCK // 2 - 1  # the first of the two middle columns

Border = Literal["symmetric", "replicate"]


@full_precision
def piqe(image: Tensor, *, channels: Channels = "y", border: Border = "symmetric") -> Tensor:
    """How much the visible blocks of an image are distorted, on average and in percent.

    Contrast, normalized as for BRISQUE, is cut into blocks of 16 x 16 pixels. One whose variance v is above 0.1 is
    visible: "spatially active". It counts with 1 - v where a segment of its edges is smooth, as blocking and blur make
    it, with v where it has the deviation of noise, and with 1 where both are found. The score is
    100 (sum + 1) / (active blocks + 1).

    Thresholds have no useful gradient.

    Args:
        image: `[B, 1 or 3, H, W]` in [0, 1].
        channels: the luma, see `color.to_channels`.
        border: what fills the last blocks of images whose sides are no multiples of 16: the image mirrored about its
            edge, or its last pixel. The latter makes smooth segments of its own: where 6 or more pixels are missing,
            all active blocks at that edge count as distorted.

    Returns:
        `[B]` in [0, 100], the lower the better. An image without any active block, such as a flat one, has 100.
    """
    luma = _filled(255 * to_channels(image, channels), border)
    blocks = _blocks(contrast_normalized(luma)[0])  # [B, N, 16, 16]
    variance = _variance(blocks.flatten(2))  # [B, N]
    active = variance > ACTIVE
    smooth, noisy = active & _has_smooth_segment(blocks), active & _is_noisy(blocks, variance.sqrt())
    share = variance.clamp(max=1)  # a busy block amid gray can exceed 1, and would leave the range
    distortion = torch.where(smooth, 1 - share, 0) + torch.where(noisy, share, 0)
    score = 100 * (distortion.sum(1) + STABILIZER) / (active.sum(1) + STABILIZER)
    # What is no number is above no threshold: its block would be passed over.
    return score.masked_fill(~variance.isfinite().all(1), torch.nan)


def _filled(plane: Tensor, border: Border) -> Tensor:
    """`[B, 1, H, W]` with more rows below and columns to the right, up to multiples of 16."""
    for dim in (2, 3):
        size = plane.shape[dim]
        beyond = torch.arange(size, size + -size % BLOCK, device=plane.device)
        if border == "replicate":
            beyond = beyond.clamp(max=size - 1)
        else:  # to and fro, where the image is smaller than what is missing
            beyond = beyond % (2 * size)
            beyond = torch.minimum(beyond, 2 * size - 1 - beyond)
        plane = torch.cat([plane, plane.index_select(dim, beyond)], dim)
    return plane


def _blocks(plane: Tensor) -> Tensor:
    """`[B, 1, H, W]`, sides multiples of 16 -> `[B, N, 16, 16]`."""
    return plane[:, 0].unflatten(1, (-1, BLOCK)).unflatten(3, (-1, BLOCK)).transpose(2, 3).flatten(1, 2)


def _has_smooth_segment(blocks: Tensor) -> Tensor:
    """Whether the deviation of any of the 11 segments of any of the four edges is below 0.1, the paper's criterion of
    noticeable distortion: `[B, N, 16, 16]` -> bool `[B, N]`."""
    edges = torch.stack([blocks[..., 0], blocks[..., -1], blocks[..., 0, :], blocks[..., -1, :]])  # [4, B, N, 16]
    # Neighbours in memory are then of different blocks: several times faster.
    segments = edges.movedim(3, 0).contiguous().unfold(0, SEGMENT, 1)  # [11, 4, B, N, 6]
    return (_variance(segments).sqrt() < SMOOTH).flatten(0, 1).any(0)


def _is_noisy(blocks: Tensor, deviation: Tensor) -> Tensor:
    """Whether a block's deviation is above twice its relative difference from the ratio of two others, of the middle
    columns and of those around them: the paper's criterion of Gaussian noise.

    Args:
        blocks: `[B, N, 16, 16]`.
        deviation: of each, `[B, N]`.

    Returns:
        bool `[B, N]`.
    """
    left, centre, right = blocks.split([MIDDLE, 2, BLOCK - MIDDLE - 2], 3)
    inside, around = (_variance(part.flatten(2)) for part in (centre, torch.cat([left, right], 3)))
    ratio = inside.sqrt() / around.sqrt()
    return deviation > 2 * (deviation - ratio).abs() / torch.maximum(deviation, ratio)


def _variance(values: Tensor) -> Tensor:
    """The sample variance of the last dimension, in two plain passes: several times faster than torch.var."""
    deviations = values - values.mean(-1, keepdim=True)
    return deviations.square().sum(-1) / (values.shape[-1] - 1)


class PIQE(nn.Module):
    """`piqe` with its options bound.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(self, channels: Channels = "y", border: Border = "symmetric") -> None:
        super().__init__()
        check_channels(channels, luma=True)
        if border not in get_args(Border):
            raise InputError(f"border must be one of {', '.join(map(repr, get_args(Border)))}; got {border!r}")
        self.channels: Channels = channels
        self.border: Border = border

    def forward(self, image: Tensor) -> Tensor:
        """`[B, C, H, W]` -> `[B]`."""
        return piqe(image, channels=self.channels, border=self.border)
