"""Visual saliency-induced index: Zhang, Shen, Li, "VSI: a visual saliency-induced index for perceptual image quality
assessment", IEEE Transactions on Image Processing 23(10), 2014. Saliency: Zhang, Gu, Li, "SDSP: a novel saliency
detection method by combining simple priors", IEEE ICIP 2013."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqazoo.metrics.color import D50, LMN, planes, to_lab
from iqazoo.metrics.filtering import enlarge, gradient_similarity, shrink, similarity, viewing_factor, weighted_mean
from iqazoo.metrics.numerics import constant, full_precision, safe_power, safe_sqrt
from iqazoo.metrics.phase_congruency import frequencies

C1, C2, C3, ALPHA, BETA = 1.27, 386.0, 130.0, 0.40, 0.02  # for images in [0, 255]
SIDE = 256  # of the image in which saliency is found
OMEGA, SIGMA_F, SIGMA_D, SIGMA_C = 0.021, 1.34, 145.0, 0.001


@full_precision
def vsi(image: Tensor, reference: Tensor) -> Tensor:
    """The similarity of saliency, gradients and chrominance, weighed by saliency (equations 4 to 8 of the paper).

    Args:
        image, reference: `[B, 1 or 3, H, W]` in [0, 1]. They are shrunk to about 256 pixels on the shorter side.

    Returns:
        `[B]` in [0, 1]; 1 for identical images.
    """
    return weighted_mean(*_similarity(image, reference))


@full_precision
def vsi_map(image: Tensor, reference: Tensor) -> Tensor:
    """The similarity at every pixel, 1 where both images are equal: `[B, 1, H, W]`."""
    return enlarge(_similarity(image, reference)[0], image)


def _similarity(image: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    factor = viewing_factor(image)
    salient_x, salient_y = (shrink(saliency(t), factor) for t in (image, reference))
    lx, mx, nx = planes(255 * shrink(image, factor), LMN)
    ly, my, ny = planes(255 * shrink(reference, factor), LMN)
    chroma = similarity(mx, my, C3) * similarity(nx, ny, C3)
    # The real part of the power, where the product is negative.
    colour = safe_power(chroma.abs(), BETA) * torch.where(chroma < 0, math.cos(math.pi * BETA), 1.0)
    structure = gradient_similarity(lx, ly, "scharr", C2) ** ALPHA
    return similarity(salient_x, salient_y, C1) * structure * colour, torch.maximum(salient_x, salient_y)


def saliency(image: Tensor) -> Tensor:
    """SDSP: what passes a log-Gabor filter, lies near the centre and has a warm colour.

    Args:
        image: `[B, 1 or 3, H, W]` in [0, 1].

    Returns:
        `[B, 1, H, W]`, stretched to [0, 1]; 0 where the whole image is flat.
    """
    small = F.interpolate(image, (SIDE, SIDE), mode="bilinear", align_corners=False)
    lab = to_lab(small.expand(-1, 3, -1, -1), D50)
    half = constant(lab, _log_gabor)  # [256, 129]
    passed = torch.fft.irfft2(torch.fft.rfft2(lab) * half, s=(SIDE, SIDE))
    frequency = safe_sqrt(passed.square().sum(1, keepdim=True))
    warmth = _stretched(lab[:, 1:]).square().sum(1, keepdim=True)
    found = frequency * constant(lab, _near_the_centre) * -torch.expm1(-warmth / SIGMA_C**2)
    return _stretched(F.interpolate(found, image.shape[2:], mode="bilinear", align_corners=True))


def _stretched(planes_: Tensor) -> Tensor:
    """Each plane of `[B, C, H, W]` from its least to its greatest value; a flat one becomes 0."""
    low, high = planes_.amin((2, 3), keepdim=True), planes_.amax((2, 3), keepdim=True)
    return (planes_ - low) / (high - low + torch.finfo(planes_.dtype).eps)


def _log_gabor() -> np.ndarray:
    steps = frequencies(SIDE)
    radius = np.hypot(steps[:, None], steps[None, : SIDE // 2 + 1])
    radius[0, 0] = 1
    passed = np.exp(-(np.log(np.where(radius <= 0.5, radius, np.nan) / OMEGA) ** 2) / (2 * SIGMA_F**2))
    return np.nan_to_num(passed) * (np.arange(radius.size).reshape(radius.shape) > 0)


def _near_the_centre() -> np.ndarray:
    steps = np.arange(SIDE) - SIDE / 2 + 1
    return np.exp(-(steps[:, None] ** 2 + steps[None] ** 2) / SIGMA_D**2)


class VSI(nn.Module):
    """`vsi` and `vsi_map` as a network."""

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return vsi(image, reference)

    def map(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B, 1, H, W]`."""
        return vsi_map(image, reference)
