"""Augmentation without a state: what happens to an image depends on (seed, epoch, index) and on nothing else."""

from __future__ import annotations

import numpy as np

AXES: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
"""As they are, left to right, upside down, and both."""


def flipped_axes(seed: int, epoch: int, index: int) -> tuple[int, ...]:
    """The axes of `[..., H, W]` along which the images of one judgment are mirrored, each of four ways equally often.

    The same for every image of the row, so that the judgment stays true; the same in every worker, process and run.

    Args:
        seed, epoch, index: 0 or more.
    """
    return AXES[np.random.default_rng((seed, epoch, index)).integers(len(AXES))]
