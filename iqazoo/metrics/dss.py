"""DCT subband similarity: Balanov, Schwartz, Moshe, Peleg, "Image quality assessment based on DCT subband similarity",
IEEE International Conference on Image Processing, 2015."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqazoo.errors import InputError
from iqazoo.metrics.color import LUMA
from iqazoo.metrics.numerics import constant, full_precision, safe_sqrt
from iqazoo.ops import windowed_moments

BLOCK = 8
SPREAD = 1.55  # of the Gaussian that weighs subbands by their frequency
LEAST_WEIGHT = 0.01
WINDOW, SIGMA = 3, 1.5  # in blocks
DC_CONSTANT, AC_CONSTANT = 1000.0, 300.0  # for luma in [0, 255]


@full_precision
def dss(image: Tensor, reference: Tensor, *, worst: float = 0.05) -> Tensor:
    """How alike the local variances of both images are in each subband of their block DCT.

    The luma, in [0, 255], is cut into blocks of 8 x 8 pixels; what remains of a side is left out. Coefficient (m, n) of
    all blocks is a subband. In Gaussian windows of 3 x 3 blocks (zeros beyond the border) its variances are compared,
    (2 s_x s_y + c) / (s_x^2 + s_y^2 + c), and the worst values are averaged. For m = n = 0 this is multiplied by the
    average of the worst values of (s_xy + c) / (s_x s_y + c). c is 1000 there, 300 in the other subbands. The score is
    the mean of the subbands with the weights exp(-((m + 0.5)^2 + (n + 0.5)^2) / (2 * 1.55^2)), but for those below
    0.01.

    Args:
        image, reference: `[B, 1 or 3, H, W]` in [0, 1], at least 8 x 8 pixels.
        worst: the fraction of the values of a subband that is averaged, in (0, 1]; at least one value is.

    Returns:
        `[B]`, above -1 and at most 1, which is the score of identical images.
    """
    x, y = _subbands(image), _subbands(reference)  # [B, K, H // 8, W // 8]
    moments = windowed_moments(x, y, window=WINDOW, sigma=SIGMA, padding="same")
    product = safe_sqrt(moments.var_x * moments.var_y)
    constants = constant(x, _constants)  # [K, 1, 1]
    scores = _mean_of_worst((2 * product + constants) / (moments.var_x + moments.var_y + constants), worst)
    structure = _mean_of_worst((moments.cov[:, :1] + DC_CONSTANT) / (product[:, :1] + DC_CONSTANT), worst)
    scores = torch.cat([scores[:, :1] * structure, scores[:, 1:]], dim=1)  # [B, K]
    return (scores * constant(x, _weights)).sum(1)


class DSS(nn.Module):
    """`dss` with its options bound.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(self, worst: float = 0.05) -> None:
        super().__init__()
        if not 0 < worst <= 1:
            raise InputError(f"worst must be a fraction above 0 and at most 1; got {worst!r}")
        self.worst = worst

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return dss(image, reference, worst=self.worst)


def _subbands(image: Tensor) -> Tensor:
    """The subbands that have a weight, `[B, K, H // 8, W // 8]`: luma and DCT are one convolution."""
    return F.conv2d(image, constant(image, _kernels, image.shape[1]), stride=BLOCK)


def _mean_of_worst(values: Tensor, fraction: float) -> Tensor:
    """`[B, K, h, w]` -> `[B, K]`, the mean of the least values."""
    values = values.flatten(2)
    count = max(1, round(fraction * values.shape[2]))
    # topk takes NaN for the greatest: of negative values it is among the worst.
    return -torch.topk(-values, count, dim=2, sorted=False).values.mean(2)


def _frequencies() -> list[tuple[int, int]]:
    """(m, n) of the subbands that have a weight, (0, 0) first."""
    return [(m, n) for m in range(BLOCK) for n in range(BLOCK) if _weight(m, n) >= LEAST_WEIGHT]


def _weight(m: int, n: int) -> float:
    return float(np.exp(-((m + 0.5) ** 2 + (n + 0.5) ** 2) / (2 * SPREAD**2)))


def _weights() -> np.ndarray:
    weights = np.array([_weight(m, n) for m, n in _frequencies()])
    return weights / weights.sum()  # [K]


def _constants() -> np.ndarray:
    return np.array([AC_CONSTANT if m or n else DC_CONSTANT for m, n in _frequencies()])[:, None, None]


def _kernels(channels: int) -> np.ndarray:
    """From RGB or gray in [0, 1] to the orthonormal DCT of luma in [0, 255]: `[K, channels, 8, 8]`."""
    phases = np.pi / BLOCK * np.outer(np.arange(BLOCK), np.arange(BLOCK) + 0.5)
    rows = np.cos(phases) * np.sqrt(2 / BLOCK)
    rows[0] = np.sqrt(1 / BLOCK)
    waves = np.stack([np.outer(rows[m], rows[n]) for m, n in _frequencies()])
    luma = np.array(LUMA if channels == 3 else (1.0,))
    return 255 * luma[:, None, None] * waves[:, None]
