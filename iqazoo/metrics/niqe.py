"""Natural image quality evaluator: Mittal, Soundararajan, Bovik, "Making a 'completely blind' image quality analyzer",
IEEE Signal Processing Letters 20(3), 2013.

niqe.safetensors holds the model that `create("niqe")` uses. It was fitted here, not by the authors: docs/niqe.md says
to which photographs, by which command, and what it is good for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from iqazoo.errors import WeightsError
from iqazoo.metrics.color import Channels, check_channels, to_channels
from iqazoo.metrics.natural_scenes import (
    asymmetric_shape,
    contrast_normalized,
    mean_of_scales,
    spreads,
    to_scale,
)
from iqazoo.metrics.numerics import FullPrecision, full_precision, safe_sqrt
from iqazoo.metrics.resizing import resize
from iqazoo.metrics.scale_mixture import finite_covariance

BLOCK = 96
SCALES = 2
FEATURES = 36
VARIABLES = {"mu_prisparam": "mean", "cov_prisparam": "covariance"}  # of the authors' file
SHIPPED = Path(__file__).with_name("niqe.safetensors")


@full_precision
def niqe(image: Tensor, mean: Tensor, covariance: Tensor, *, channels: Channels = "y") -> Tensor:
    """How far the statistics of an image's blocks are from those of undistorted photographs (equation 10 of the paper).

    sqrt((m - n)' ((C + D) / 2)^-1 (m - n)), with mean and covariance m, C of the photographs' features and n, D of the
    features of the image's blocks of 96 x 96 pixels; what remains of a side is left out. Blocks without any contrast
    have no statistics and do not count, unless there are no others. One block alone has the covariance 0.

    Args:
        image: `[B, 1 or 3, H, W]` in [0, 1], at least 96 x 96 pixels.
        mean, covariance: m and C, `[36]` and `[36, 36]`.
        channels: the luma, see `color.to_channels`; the authors' code takes "y-8bit".

    Returns:
        `[B]`, at least 0; the lower, the more natural.
    """
    of = block_features(255 * to_channels(image, channels))
    flat = of.flat & ~of.flat.all(1, keepdim=True)
    counts = (~flat).double()[..., None]  # [B, K, 1]
    number = counts.sum(1)  # [B, 1]
    average = (of.features * counts).sum(1) / number  # [B, 36]
    centred = (of.features - average[:, None]) * counts
    spreading = centred.mT @ centred / (number - 1).clamp(min=1)[..., None]
    both = (spreading + covariance.double()) / 2
    difference = (average - mean.double())[:, None]  # [B, 1, 36]
    inverse = torch.linalg.pinv(finite_covariance(both), hermitian=True)
    return safe_sqrt(difference @ inverse @ difference.mT).flatten().to(image.dtype)


class Blocks(NamedTuple):
    """What there is to know of the K blocks of each image."""

    features: Tensor  # [B, K, 36] float64, 18 of each scale in the authors' order
    sharpness: Tensor  # [B, K], the mean local deviation, whose sum is equation 4
    flat: Tensor  # [B, K], whether a block has no contrast


def block_features(luma: Tensor, step: int = BLOCK) -> Blocks:
    """Features of the blocks of 96 x 96 pixels, at full size and at half of it.

    Args:
        luma: `[B, 1, H, W]` in [0, 255], at least 96 x 96 pixels.
        step: from one block to the next in pixels, even.
    """
    height, width = ((side - BLOCK) // step * step + BLOCK for side in luma.shape[2:])
    plane = luma[..., :height, :width]
    features, flat, sharpness = [], [], []
    for scale in range(SCALES):
        block, stride = BLOCK >> scale, step >> scale
        contrast, _, deviation = contrast_normalized(plane)
        blocks = _blocks(contrast, block, stride)
        features.append(_features(blocks))
        flat.append((blocks == 0).all(-1).all(-1))
        sharpness.append(_blocks(deviation, block, stride).mean((-2, -1)))
        if scale + 1 < SCALES:
            plane = resize(plane, [side // 2 for side in plane.shape[2:]])
    return Blocks(torch.cat(features, -1), sharpness[0], torch.stack(flat).any(0))


def _blocks(plane: Tensor, side: int, step: int) -> Tensor:
    """`[B, 1, H, W]` -> `[B, K, side, side]`."""
    return plane[:, 0].unfold(1, side, step).unfold(2, side, step).flatten(1, 2)


def _features(contrast: Tensor) -> Tensor:
    """`[B, K, h, w]` -> `[B, K, 18]`: shape and mean scale, and of the products shape, mean and both scales."""
    of = spreads(contrast)
    shape = asymmetric_shape(of)  # [B, K, 5]
    left, right = of.left * to_scale(shape), of.right * to_scale(shape)
    own = torch.stack([shape, (left + right) / 2], -1)[..., 0, :]
    products = torch.stack([shape, mean_of_scales(shape, left, right), left, right], -1)[..., 1:, :]
    return torch.cat([own, products.flatten(-2)], -1)


class NIQE(FullPrecision):
    """`niqe` with a model of undistorted photographs: the one fitted here, until another is loaded.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    mean: Tensor
    covariance: Tensor
    published = "the authors' model modelparameters.mat, from their niqe_release"

    def __init__(self, channels: Channels = "y") -> None:
        super().__init__()
        check_channels(channels, luma=True)
        self.channels: Channels = channels
        for name, value in safetensors.torch.load_file(SHIPPED).items():
            self.register_buffer(name, value)

    def forward(self, image: Tensor) -> Tensor:
        """`[B, C, H, W]` -> `[B]`."""
        return niqe(image, self.mean, self.covariance, channels=self.channels)

    @staticmethod
    def read_published(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Options and state dict out of the authors' MATLAB file, which holds `mu_prisparam` and `cov_prisparam`.

        Raises:
            WeightsError: SciPy, which reads such files, is not installed.
            ValueError: the file holds something else.
        """
        try:
            from scipy.io import loadmat
        except ImportError as error:
            raise WeightsError(f"to read {path} takes SciPy; install it with pip install 'iqazoo[mat]'") from error
        found = loadmat(path, variable_names=list(VARIABLES))
        if missing := sorted(set(VARIABLES) - set(found)):
            raise ValueError(f"it has no variable {' and no '.join(missing)}")
        values = {VARIABLES[name]: torch.from_numpy(found[name].astype(float)) for name in VARIABLES}
        return {}, {"mean": values["mean"].flatten(), "covariance": values["covariance"]}
