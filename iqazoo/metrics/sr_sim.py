"""Spectral residual based similarity: Zhang, Li, "SR-SIM: a fast and high performance IQA index based on spectral
residual", IEEE ICIP 2012. Saliency: Hou, Zhang, "Saliency detection: a spectral residual approach", IEEE CVPR 2007."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqazoo.metrics.color import LUMA, mix
from iqazoo.metrics.filtering import enlarge, gradient_similarity, shrink, similarity, viewing_factor, weighted_mean
from iqazoo.metrics.numerics import constant, full_precision, safe_sqrt
from iqazoo.metrics.resizing import resize

C1, C2, ALPHA = 0.40, 225.0, 0.50  # for images in [0, 255]
SCALE = 0.25  # of the image in which saliency is found
SIDE, SIGMA = 10, 3.8  # of the window that smooths it
# Added to amplitudes, which of 8-bit levels are thousands of times that: the spectrum of a flat image is rounding, and
# without it one of 1e-10 would be as salient as any. Scores of photographs move by 1e-6 at most.
FAINT = 1e-2


@full_precision
def sr_sim(image: Tensor, reference: Tensor) -> Tensor:
    """The similarity of saliency and gradients, weighed by saliency (equations 5 to 7 of the paper).

    Args:
        image, reference: `[B, 1 or 3, H, W]` in [0, 1]; their luma counts. They are shrunk to about 256 pixels on the
            shorter side.

    Returns:
        `[B]` in [0, 1]; 1 for identical images.
    """
    return weighted_mean(*_similarity(image, reference))


@full_precision
def sr_sim_map(image: Tensor, reference: Tensor) -> Tensor:
    """The similarity at every pixel, 1 where both images are equal: `[B, 1, H, W]`."""
    return enlarge(_similarity(image, reference)[0], image)


def _similarity(image: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    factor = viewing_factor(image)
    x, y = (255 * mix(shrink(t, factor), LUMA) for t in (image, reference))
    salient_x, salient_y = _saliency(x), _saliency(y)
    structure = gradient_similarity(x, y, "scharr", C2) ** ALPHA
    similar = similarity(salient_x, salient_y, C1) * structure
    return similar, torch.maximum(salient_x, salient_y)


def _saliency(luma: Tensor) -> Tensor:
    """What the logarithmic spectrum has beyond its local mean, `[B, 1, H, W]` stretched to [0, 1]."""
    small = resize(luma, [math.ceil(side * SCALE) for side in luma.shape[2:]], [SCALE] * 2)
    spectrum = torch.fft.fft2(small)
    # |z| without a gradient that is infinite at 0.
    size = safe_sqrt(spectrum.real.square() + spectrum.imag.square()) + FAINT
    mean = F.avg_pool2d(F.pad(size.log(), [1] * 4, mode="replicate"), 3, stride=1)
    residual = torch.fft.ifft2(spectrum * torch.exp(-mean))  # |spectrum| = size, so this has its phase
    found = residual.real.square() + residual.imag.square()
    padded = F.pad(found, [(SIDE - 1) // 2, SIDE // 2] * 2)
    smooth = F.conv2d(padded, constant(luma, _gaussian))
    low, high = smooth.amin((2, 3), keepdim=True), smooth.amax((2, 3), keepdim=True)
    stretched = (smooth - low) / (high - low + torch.finfo(luma.dtype).eps)
    return resize(stretched, luma.shape[2:])


def _gaussian() -> np.ndarray:
    steps = np.arange(SIDE) - (SIDE - 1) / 2
    weights = np.exp(-(steps**2) / (2 * SIGMA**2))
    return (np.outer(weights, weights) / weights.sum() ** 2)[None, None]


class SRSIM(nn.Module):
    """`sr_sim` and `sr_sim_map` as a network."""

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return sr_sim(image, reference)

    def map(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B, 1, H, W]`."""
        return sr_sim_map(image, reference)
