"""Feature similarity: Zhang, Zhang, Mou, Zhang, "FSIM: a feature similarity index for image quality assessment", IEEE
Transactions on Image Processing 20(8), 2011."""

import torch
from torch import Tensor, nn

from iqazoo.metrics.color import LUMA, YIQ, mix
from iqazoo.metrics.filtering import enlarge, gradient_similarity, shrink, similarity, viewing_factor, weighted_mean
from iqazoo.metrics.numerics import full_precision, safe_power
from iqazoo.metrics.phase_congruency import phase_congruency

T1, T2, T3, T4 = 0.85, 160.0, 200.0, 200.0  # for images in [0, 255]
CHROMATIC = 0.03  # the exponent of chrominance


@full_precision
def fsim(image: Tensor, reference: Tensor, *, chromatic: bool = False) -> Tensor:
    """The similarity of phase congruency and gradients, weighed by phase congruency (equations 4 to 9 of the paper).

    Args:
        image, reference: `[B, 1 or 3, H, W]` in [0, 1]. They are shrunk to about 256 pixels on the shorter side.
        chromatic: multiply by the similarity of the chrominance I and Q (equation 13); then images must be RGB.
            Registered as `fsimc`.

    Returns:
        `[B]` in [0, 1]; 1 for identical images.
    """
    similar, weights = _similarity(image, reference, chromatic)
    return weighted_mean(similar, weights)


@full_precision
def fsim_map(image: Tensor, reference: Tensor, *, chromatic: bool = False) -> Tensor:
    """The similarity at every pixel, 1 where both images are equal: `[B, 1, H, W]`. Arguments as for `fsim`."""
    return enlarge(_similarity(image, reference, chromatic)[0], image)


def _similarity(image: Tensor, reference: Tensor, chromatic: bool) -> tuple[Tensor, Tensor]:
    factor = viewing_factor(image)
    x, y = 255 * shrink(image, factor), 255 * shrink(reference, factor)
    luma_x, luma_y = mix(x, LUMA), mix(y, LUMA)
    phase_x, phase_y = phase_congruency(torch.cat([luma_x, luma_y])).chunk(2)
    similar = similarity(phase_x, phase_y, T1) * gradient_similarity(luma_x, luma_y, "scharr", T2)
    if chromatic:
        i, q = (similarity(mix(x, row), mix(y, row), t) for row, t in zip(YIQ[1:], (T3, T4), strict=True))
        similar = similar * safe_power((i * q).abs(), CHROMATIC)
    return similar, torch.maximum(phase_x, phase_y)


class FSIM(nn.Module):
    """`fsim` and `fsim_map` with their options bound."""

    def __init__(self, chromatic: bool = False) -> None:
        super().__init__()
        self.chromatic = chromatic

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return fsim(image, reference, chromatic=self.chromatic)

    def map(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B, 1, H, W]`."""
        return fsim_map(image, reference, chromatic=self.chromatic)
