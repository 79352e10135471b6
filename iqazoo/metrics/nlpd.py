"""Normalized Laplacian pyramid distance: Laparra, Ballé, Berardino, Simoncelli, "Perceptual image quality assessment
using a normalized Laplacian pyramid", Human Vision and Electronic Imaging, 2016."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqazoo.metrics.color import Channels, check_channels, to_channels
from iqazoo.metrics.laplacian_pyramid import BURT, laplacian_pyramid
from iqazoo.metrics.numerics import full_precision, safe_sqrt

SIGMAS = (0.0248, 0.0185, 0.0179, 0.0191, 0.0220, 0.2782)
# What the neighbour above, to the left, to the right and below counts; measured on photographs, as the sigmas.
NEIGHBOURS = (
    (0.1011, 0.1493, 0.1460, 0.1015),
    (0.0757, 0.1986, 0.1846, 0.0837),
    (0.0477, 0.2138, 0.2243, 0.0467),
    (0.0, 0.2503, 0.2616, 0.0),
    (0.0, 0.2598, 0.2552, 0.0),
    (0.0, 0.2215, 0.0717, 0.0),
)


@full_precision
def nlpd(image: Tensor, reference: Tensor, *, channels: Channels = "y") -> Tensor:
    """The root mean squared difference of both pyramids, averaged over six scales (equation 4 of the paper).

    Each coefficient is divided by what its neighbours' absolute values predict (equation 3), as the eye adapts to
    luminance and contrast.

    Args:
        image, reference: `[B, 1 or 3, H, W]` in [0, 1].
        channels: see `color.to_channels`; of several channels, the distances are averaged.

    Returns:
        `[B]`, at least 0; 0 for identical images.
    """
    both = torch.cat([to_channels(image, channels), to_channels(reference, channels)])
    distances = []
    bands = laplacian_pyramid(both.flatten(0, 1)[:, None], len(SIGMAS), BURT, border="symmetric")
    for band, sigma, neighbours in zip(bands, SIGMAS, NEIGHBOURS, strict=True):
        x, y = _normalized(band, sigma, neighbours).chunk(2)
        distances.append(safe_sqrt((x - y).square().mean((1, 2, 3))))
    return torch.stack(distances).mean(0).view(len(image), -1).mean(1)


def _normalized(band: Tensor, sigma: float, neighbours: tuple[float, ...]) -> Tensor:
    """`[N, 1, H, W]` divided by sigma and the weighted absolute values of four neighbours; beyond the border is 0."""
    wide = F.pad(band.abs(), [1] * 4)
    height, width = band.shape[2:]
    predicted = torch.full_like(band, sigma)
    for (top, left), weight in zip(((0, 1), (1, 0), (1, 2), (2, 1)), neighbours, strict=True):
        if weight > 0:
            predicted = predicted + weight * wide[..., top : top + height, left : left + width]
    return band / predicted


class NLPD(nn.Module):
    """`nlpd` with its options bound.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(self, channels: Channels = "y") -> None:
        super().__init__()
        check_channels(channels)
        self.channels: Channels = channels

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return nlpd(image, reference, channels=self.channels)
