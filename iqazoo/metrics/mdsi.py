"""Mean deviation similarity index: Nafchi, Shahkolaei, Hedjam, Cheriet, "Mean deviation similarity index: efficient and
reliable full-reference image quality evaluator", IEEE Access 4, 2016."""

import math

import torch
from torch import Tensor, nn

from iqazoo.metrics.color import LMN, planes
from iqazoo.metrics.filtering import energy, energy_similarity, enlarge, gradients, shrink, viewing_factor
from iqazoo.metrics.numerics import full_precision, safe_power, safe_sqrt

LHM = ((0.2989, 0.5870, 0.1140), *LMN[1:])  # section II-B, with the digits of the authors' code
C1, C2, C3 = 140.0, 55.0, 550.0  # for images in [0, 255]
ALPHA, ROOT = 0.6, 0.25


@full_precision
def mdsi(image: Tensor, reference: Tensor) -> Tensor:
    """The mean absolute deviation of the fourth root of the similarity map, to the power 1/4 (equation 10).

    The similarity at a pixel is that of gradients, which includes the gradient of both images' mean (equation 4), and
    of chrominance (equation 6), added with the weights 0.6 and 0.4. Where it is negative, the root is complex.

    Args:
        image, reference: `[B, 1 or 3, H, W]` in [0, 1]. They are shrunk to about 256 pixels on the shorter side.

    Returns:
        `[B]`, at least 0; 0 for identical images.
    """
    combined = _similarity(image, reference)
    # The fourth root of a negative number lies on the diagonal of the complex plane.
    root, diagonal = safe_power(combined.abs(), ROOT), math.sqrt(0.5)
    real = torch.where(combined < 0, diagonal * root, root)
    imaginary = torch.where(combined < 0, diagonal * root, 0)
    real, imaginary = ((part - part.mean((1, 2, 3), keepdim=True)).square() for part in (real, imaginary))
    return safe_power(safe_sqrt(real + imaginary).mean((1, 2, 3)), ROOT)


@full_precision
def mdsi_map(image: Tensor, reference: Tensor) -> Tensor:
    """1 minus the similarity at every pixel, 0 where both images are equal: `[B, 1, H, W]`."""
    return 1 - enlarge(_similarity(image, reference), image)


def _similarity(image: Tensor, reference: Tensor) -> Tensor:
    factor = viewing_factor(image)
    lx, hx, mx = planes(255 * shrink(image, factor), LHM)
    ly, hy, my = planes(255 * shrink(reference, factor), LHM)
    dx, dy = gradients(lx, "prewitt"), gradients(ly, "prewitt")
    ex, ey, mean = energy(dx), energy(dy), energy((dx[0] + dy[0], dx[1] + dy[1])) / 4
    structure = (
        energy_similarity(ex, ey, C1) + energy_similarity(ex, mean, C2) - energy_similarity(ey, mean, C2)
    )  # fmt: skip
    chrominance = (2 * (hx * hy + mx * my) + C3) / (hx * hx + hy * hy + mx * mx + my * my + C3)
    return ALPHA * structure + (1 - ALPHA) * chrominance


class MDSI(nn.Module):
    """`mdsi` and `mdsi_map` as a network."""

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return mdsi(image, reference)

    def map(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B, 1, H, W]`."""
        return mdsi_map(image, reference)
