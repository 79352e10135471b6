"""Phase congruency: Kovesi, "Image features from phase congruency", Videre 1(3), 1999, as FSIM's authors use it."""

import math

import numpy as np
import torch
from torch import Tensor

from iqazoo.metrics.numerics import constant, safe_sqrt

SCALES, ORIENTATIONS = 4, 4
LEAST_WAVELENGTH, MULTIPLE = 6, 2  # pixels; from one scale to the next
BANDWIDTH = 0.55  # standard deviation of a log-Gabor filter / its centre frequency
ANGULAR = math.pi / ORIENTATIONS / 1.2  # standard deviation of a filter's angle in radians
NOISE_DEVIATIONS, NOISE_SHARE = 2.0, 1.7
EPSILON = 1e-4  # for images in [0, 255]


def phase_congruency(luma: Tensor) -> Tensor:
    """How far the phases of an image's frequencies agree at every pixel, whatever the contrast.

    Args:
        luma: `[B, 1, H, W]` in [0, 255].

    Returns:
        `[B, 1, H, W]` in [0, 1], and 0 where the image is flat.
    """
    # The mean, which no filter passes, would leave its rounding in flat images.
    spectrum = torch.fft.fft2(luma - luma.mean((2, 3), keepdim=True))
    filters = constant(luma, _filters, *luma.shape[2:])  # [O, S, H, W]
    noise = constant(luma, _noise_factors, *luma.shape[2:])  # [O]
    energy, amplitude = torch.zeros_like(luma), torch.zeros_like(luma)
    for bank, factor in zip(filters, noise, strict=True):  # one orientation at a time: memory
        found, sizes = _oriented(torch.fft.ifft2(spectrum * bank), factor)
        energy, amplitude = energy + found, amplitude + sizes
    return energy / amplitude


def _oriented(responses: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Local energy above the noise, and the sum of amplitudes, `[B, 1, H, W]` each, of complex `[B, S, H, W]`."""
    even, odd = responses.real.contiguous(), responses.imag.contiguous()
    squares = even * even + odd * odd
    sum_even, sum_odd = even.sum(1, keepdim=True), odd.sum(1, keepdim=True)
    length = (sum_even.square() + sum_odd.square() + EPSILON**2).sqrt()
    # What the scales have along their common phase adds up to the length of their sum; what lies across counts against.
    across = (even * sum_odd - odd * sum_even).abs().sum(1, keepdim=True)
    energy = length - EPSILON - across / length
    # Rayleigh's distribution: the median of the finest scale's energy tells how strong the noise is.
    threshold = factor * safe_sqrt(squares[:, 0].flatten(1).median(1).values)  # [B]
    return torch.relu(energy - threshold[:, None, None, None]), (squares + EPSILON**2).sqrt().sum(1, keepdim=True)


def frequencies(size: int) -> np.ndarray:
    """Cycles per pixel of each column of a spectrum, the zero first, as Kovesi counts them."""
    steps = np.arange(size) - size // 2 if size % 2 == 0 else np.arange(size) - (size - 1) / 2
    return np.fft.ifftshift(steps / (size - size % 2))


def _filters(height: int, width: int) -> np.ndarray:
    """Log-Gabor filters, `[O, S, H, W]`, each for one half of the plane of frequencies."""
    y, x = frequencies(height)[:, None], frequencies(width)[None, :]
    radius = np.hypot(x, y)
    low = 1 / (1 + (radius / 0.45) ** 30)  # Butterworth, so that corners do not count
    radius[0, 0] = 1
    angle = np.arctan2(-y, x)
    radial = []
    for scale in range(SCALES):
        ratio = radius * LEAST_WAVELENGTH * MULTIPLE**scale
        radial.append(np.exp(-(np.log(ratio) ** 2) / (2 * math.log(BANDWIDTH) ** 2)) * low)
        radial[-1][0, 0] = 0
    spread = []
    for orientation in range(ORIENTATIONS):
        turned = angle - orientation * math.pi / ORIENTATIONS
        distance = np.abs(np.arctan2(np.sin(turned), np.cos(turned)))
        spread.append(np.exp(-(distance**2) / (2 * ANGULAR**2)))
    return np.stack(spread)[:, None] * np.stack(radial)[None]


def _noise_factors(height: int, width: int) -> np.ndarray:
    """What the root of the median energy is multiplied by for the threshold of each orientation, `[O]`."""
    filters = _filters(height, width)
    power = (filters[:, 0] ** 2).sum((1, 2))
    kernels = np.fft.ifft2(filters).real * math.sqrt(height * width)  # [O, S, H, W]
    # The energy of a sum of scales is the sum of squares and twice that of the products of pairs.
    summed = (kernels.sum(1) ** 2).sum((1, 2))
    deviations = math.sqrt(math.pi / 2) + NOISE_DEVIATIONS * math.sqrt(2 - math.pi / 2)
    return np.sqrt(summed / power / math.log(2)) * deviations / NOISE_SHARE
