"""Blind/referenceless image spatial quality evaluator: Mittal, Moorthy, Bovik, "No-reference image quality assessment
in the spatial domain", IEEE Transactions on Image Processing 21(12), 2012."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from iqazoo.errors import InputError
from iqazoo.metrics import support_vectors
from iqazoo.metrics.color import Channels, check_channels, to_channels
from iqazoo.metrics.natural_scenes import (
    Fit,
    asymmetric_shape,
    contrast_normalized,
    mean_of_scales,
    spreads,
    symmetric_shape,
    to_scale,
)
from iqazoo.metrics.numerics import FullPrecision, full_precision
from iqazoo.metrics.resizing import resize

SCALES = 2
FEATURES = 36


@full_precision
def brisque_features(image: Tensor, *, channels: Channels = "y", fit: Fit = "interpolated") -> Tensor:
    """What BRISQUE knows of an image: how normalized contrast is distributed, at full size and at half of it.

    Of each scale, 18 features in the authors' order: shape and variance of the contrast (equation 4 of the paper), and
    of its products with four neighbours the shape, the mean and the variances on both sides (equations 7 to 15).
    Beyond the border is black, as in the authors' code. An image without any contrast has the least shape, 0.2, and
    zeros.

    Args:
        image: `[B, 1 or 3, H, W]` in [0, 1].
        channels: the luma, see `color.to_channels`; the authors' code takes "y-8bit".
        fit: of shapes, which the authors' code takes from a table with steps of 0.001: the "nearest" of it, or
            "interpolated" between two.

    Returns:
        `[B, 36]` float64.
    """
    plane = 255 * to_channels(image, channels)
    features = []
    for scale in range(SCALES):
        if scale:
            size = [(side + 1) // 2 for side in plane.shape[2:]]
            plane = resize(plane, size, scales=(0.5, 0.5))
        features.append(_features(contrast_normalized(plane, border="zeros")[0], fit))
    return torch.cat(features, -1)


def _features(contrast: Tensor, fit: Fit) -> Tensor:
    """`[B, 1, H, W]` -> `[B, 18]`."""
    of = spreads(contrast[:, 0])
    own = torch.stack([symmetric_shape(of, fit), of.square], -1)[:, 0]
    shape = asymmetric_shape(of, fit)  # [B, 5]
    mean = mean_of_scales(shape, of.left * to_scale(shape), of.right * to_scale(shape))
    products = torch.stack([shape, mean, of.left.square(), of.right.square()], -1)[:, 1:]
    return torch.cat([own, products.flatten(1)], -1)


class BRISQUE(FullPrecision):
    """Regression of opinion scores on `brisque_features` by support vectors: sum_i c_i exp(-g |v_i - x|^2) - r.

    x are the features, each times a factor plus an offset. Nobody but the authors has fitted this for their scale; so
    it takes their files.

    Args:
        channels: the luma, see `brisque_features`; the authors' code takes "y-8bit".
        fit: of shapes, see there; the authors' code takes the "nearest".
        vectors: how many support vectors there are.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    rho: Tensor
    gamma: Tensor
    factor: Tensor
    offset: Tensor
    published = "the authors' model allmodel, with allrange beside it: libsvm's text files in their BRISQUE_release"

    def __init__(self, channels: Channels = "y", fit: Fit = "interpolated", vectors: int = 64) -> None:
        super().__init__()
        check_channels(channels, luma=True)
        if fit not in get_args(Fit):
            raise InputError(f"fit must be one of {', '.join(map(repr, get_args(Fit)))}; got {fit!r}")
        if not isinstance(vectors, int) or vectors < 1:
            raise InputError(f"vectors must be a whole number from 1; got {vectors!r}")
        self.channels: Channels = channels
        self.fit: Fit = fit
        self.support_vectors = nn.Parameter(2 * torch.rand(vectors, FEATURES) - 1)
        self.coefficients = nn.Parameter(torch.randn(vectors))
        self.register_buffer("rho", torch.zeros(()))
        self.register_buffer("gamma", torch.tensor(0.05))
        self.register_buffer("factor", torch.ones(FEATURES))
        self.register_buffer("offset", torch.zeros(FEATURES))

    def forward(self, image: Tensor) -> Tensor:
        """`[B, C, H, W]` -> `[B]`."""
        features = brisque_features(image, channels=self.channels, fit=self.fit)
        scaled = features * self.factor.double() + self.offset.double()
        distances = (scaled[:, None] - self.support_vectors.double()).square().sum(2)  # [B, N]
        similarities = (-self.gamma.double() * distances).exp()
        score = similarities @ self.coefficients.double() - self.rho.double()
        return score.to(torch.promote_types(image.dtype, torch.float32))

    @staticmethod
    def read_published(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Options and state dict out of a model of libsvm, and the file of ranges by which it scales features.

        The latter is beside the model, named as that with "range" in place of "model".

        Raises:
            ValueError, OSError: one of them is not there, or holds something else.
        """
        model = support_vectors.read_model(path, FEATURES)
        factor, offset = support_vectors.read_ranges(path.with_name(path.name.replace("model", "range")), FEATURES)
        state = {**model, "factor": factor, "offset": offset}
        return {"vectors": len(model["coefficients"])}, state
