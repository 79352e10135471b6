"""Gradient magnitude similarity deviation over scales: Zhang, Sun, Liu, Feng, "Gradient magnitude similarity deviation
on multiple scales for color image quality assessment", IEEE ICASSP 2017."""

import torch
from torch import Tensor, nn

from iqazoo.metrics.color import LUMA, YIQ, mix
from iqazoo.metrics.filtering import deviation, gradient_similarity, shrink
from iqazoo.metrics.gmsd import CONSTANT
from iqazoo.metrics.numerics import full_precision, safe_sqrt

WEIGHTS = (0.096, 0.596, 0.289, 0.019)  # of the scales, from the finest on
MASKING = 0.5
BETA = (0.01, 0.32, 15.0)


@full_precision
def ms_gmsd(image: Tensor, reference: Tensor, *, chromatic: bool = False) -> Tensor:
    """The root of the weighted sum of squared deviations of four scales, each half as large as the one before.

    Args:
        image, reference: `[B, 1 or 3, H, W]` in [0, 1].
        chromatic: bring in the error of the chrominance I and Q (of the coarsest scale, in levels of 8 bits), which
            counts the more, the smaller the deviation; then images must be RGB. Registered as `ms_gmsdc`.

    Returns:
        `[B]`, at least 0; 0 for identical images.
    """
    x, y = mix(image, LUMA), mix(reference, LUMA)
    terms = []
    for scale, weight in enumerate(WEIGHTS):
        if scale > 0:
            x, y = shrink(x, 2), shrink(y, 2)
        similar = gradient_similarity(x, y, "prewitt", CONSTANT, MASKING)
        terms.append(weight * deviation(similar).square())
    score = safe_sqrt(torch.stack(terms).sum(0))
    return _with_chrominance(score, image - reference) if chromatic else score


def _with_chrominance(score: Tensor, difference: Tensor) -> Tensor:
    for _ in WEIGHTS[1:]:
        difference = shrink(difference, 2)
    squares = torch.cat([mix(255 * difference, row) for row in YIQ[1:]], dim=1).square()
    error = safe_sqrt(squares.mean((2, 3)).sum(1))  # [B]
    gamma = 2 / (1 + BETA[1] * torch.exp(-BETA[2] * score)) - 1
    return gamma * score + (1 - gamma) * BETA[0] * error


class MSGMSD(nn.Module):
    """`ms_gmsd` with its options bound."""

    def __init__(self, chromatic: bool = False) -> None:
        super().__init__()
        self.chromatic = chromatic

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return ms_gmsd(image, reference, chromatic=self.chromatic)
