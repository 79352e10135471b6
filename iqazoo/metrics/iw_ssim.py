"""Information-weighted structural similarity: Wang, Li, "Information content weighting for perceptual image quality
assessment", IEEE Transactions on Image Processing 20(5), 2011."""

import functools
import itertools
import math

import numpy as np
import torch
from torch import Tensor, nn

from iqazoo import ops
from iqazoo.metrics.color import LUMA, mix
from iqazoo.metrics.filtering import weighted_mean
from iqazoo.metrics.laplacian_pyramid import BINOMIAL, laplacian_pyramid
from iqazoo.metrics.ms_ssim import EXPONENTS
from iqazoo.metrics.numerics import constant, full_precision, safe_power
from iqazoo.metrics.scale_mixture import eigenvalues, finite_covariance, multiplier

WINDOW, SIGMA = 11, 1.5
BLOCK = 3  # side of the neighbourhood whose information is measured
NOISE = 0.4  # variance of the noise of vision, for images in [0, 255]
FLAT = 1e-7  # the variance below which a neighbourhood holds nothing
STRIPS = 4  # in which the neighbourhoods of all pixels are looked at: memory


@full_precision
def iw_ssim(image: Tensor, reference: Tensor) -> Tensor:
    """The multi-scale index whose terms are weighed by the information of each place (equations 25 to 28 of the paper).

    Args:
        image, reference: `[B, 1 or 3, H, W]` in [0, 1], at least 161 x 161 pixels; their luma counts.

    Returns:
        `[B]` in [0, 1]; 1 for identical images.
    """
    luma = 255 * torch.cat([mix(image, LUMA), mix(reference, LUMA)])
    bands = [band.chunk(2) for band in laplacian_pyramid(luma, len(EXPONENTS), BINOMIAL, math.sqrt(2))]
    terms = []
    for scale, (x, y) in enumerate(bands):
        parts = ops.ssim(x, y, window=WINDOW, sigma=SIGMA, data_range=255.0, reduction="map", parts=True)
        if scale == len(EXPONENTS) - 1:
            terms.append(parts.ssim.mean((1, 2, 3)))
            continue
        parent = bands[scale + 1][1] if scale < len(EXPONENTS) - 2 else None
        edge = (WINDOW - BLOCK) // 2
        weights = _information(x, y, parent)[..., edge:-edge, edge:-edge]
        terms.append(weighted_mean(parts.contrast_structure, weights))
    total = sum(EXPONENTS)
    powers = [safe_power(term.abs(), power / total) for term, power in zip(terms, EXPONENTS, strict=True)]
    return torch.stack(powers).prod(0)


def _information(x: Tensor, y: Tensor, parent: Tensor | None) -> Tensor:
    """What both images together tell of each neighbourhood in bits (equation 20), `[B, 1, H - 2, W - 2]`.

    The reference's coefficients are a Gaussian scale mixture; the image is theirs times a gain, with noise.
    """
    moments = ops.windowed_moments(x, y, window=BLOCK, sigma=None)
    seen = (moments.var_x >= FLAT) & (moments.var_y >= FLAT)
    gain = torch.where(seen, moments.cov / (moments.var_y + FLAT), 0)
    distortion = torch.where(moments.var_x >= FLAT, moments.var_x - gain * moments.cov, 0)
    parts = _neighbourhoods(y, parent)
    covariance = torch.stack([part @ part.mT for part in parts]).sum(0) / moments.cov[0].numel()
    covariance = finite_covariance(covariance)
    squares = torch.cat([multiplier(part, covariance) for part in parts], dim=1).view_as(gain)
    spread = (distortion + (1 + gain.square()) * NOISE) * squares / NOISE**2
    base = 1 + distortion / NOISE
    bits = torch.zeros_like(base)
    for pair in eigenvalues(covariance).split(2):  # of two, the product cannot overflow, and one logarithm serves
        factors = (torch.addcmul(base, spread, value[:, None, None, None]) for value in pair)
        bits = bits + functools.reduce(torch.mul, factors).log2()
    return bits


def _neighbourhoods(y: Tensor, parent: Tensor | None) -> list[Tensor]:
    """The pixels of each block of 3 x 3, and the parent of its centre: strips of `[B, N, rows * (W - 2)]`."""
    height, width = (side - BLOCK + 1 for side in y.shape[2:])
    planes = [y[:, 0, i : i + height, j : j + width] for i in range(BLOCK) for j in range(BLOCK)]
    if parent is not None:
        planes.append(_enlarged(parent)[:, 0, 1 : 1 + height, 1 : 1 + width])
    edges = np.linspace(0, height, STRIPS + 1).astype(int).tolist()
    return [torch.stack([p[:, a:b] for p in planes], 1).flatten(2) for a, b in itertools.pairwise(edges)]


def _enlarged(band: Tensor) -> Tensor:
    """Twice the sides, by the bilinear interpolation of the authors' code: `[B, 1, h, w]` -> `[B, 1, 2 h, 2 w]`."""
    for dim in (2, 3):
        size = band.shape[dim]
        share = constant(band, _shares, size).view([-1 if d == dim else 1 for d in range(4)])
        low = torch.from_numpy(_sources(size)).to(band.device)
        below, above = band.index_select(dim, low), band.index_select(dim, (low + 1).clamp(max=size - 1))
        band = below + share * (above - below)
    return band


def _positions(size: int) -> np.ndarray:
    """Where each new pixel lies: every second one of an image enlarged to 4 size - 3, with a border drawn out."""
    return np.clip((2 * np.arange(2 * size) - 0.5) * size / (4 * size - 3) - 0.5, 0, size - 1)


def _sources(size: int) -> np.ndarray:
    return np.floor(_positions(size)).astype(np.int64)


def _shares(size: int) -> np.ndarray:
    return _positions(size) - _sources(size)


class IWSSIM(nn.Module):
    """`iw_ssim` as a network."""

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return iw_ssim(image, reference)
