"""Peak signal-to-noise ratio."""

import torch
from torch import Tensor, nn

from iqazoo import ops
from iqazoo.errors import InputError
from iqazoo.metrics.color import Channels, check_channels, to_channels
from iqazoo.metrics.numerics import full_precision


@full_precision
def psnr(
    image: Tensor,
    reference: Tensor,
    *,
    data_range: float = 1.0,
    channels: Channels = "rgb",
    cap: float | None = None,
) -> Tensor:
    """10 log10(data_range^2 / MSE), the mean being over all channels and pixels of an image.

    Args:
        image, reference: `[B, C, H, W]` in [0, data_range].
        data_range: the greatest minus the least possible value.
        channels: see `color.to_channels`; "y-8bit" and "y-studio" only for images in [0, 1].
        cap: the score of identical images and the upper bound of all others; None leaves them at +inf.

    Returns:
        `[B]` in decibel. Where the images are identical or the cap is reached, the gradient is 0.
    """
    error = ops.mse(to_channels(image, channels), to_channels(reference, channels))  # [B]
    identical = error == 0
    # log10 sees 1 in place of 0: its gradient there, though masked afterwards, would be 0 * inf.
    score = 10 * torch.log10(data_range**2 / error.masked_fill(identical, 1.0))
    score = score.masked_fill(identical, torch.inf)
    return score if cap is None else score.clamp(max=cap)


class PSNR(nn.Module):
    """`psnr` with its options bound.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(self, data_range: float = 1.0, channels: Channels = "rgb", cap: float | None = None) -> None:
        super().__init__()
        if not data_range > 0:
            raise InputError(f"data_range must be a positive number; got {data_range!r}")
        check_channels(channels, data_range)
        self.data_range = data_range
        self.channels: Channels = channels
        self.cap = cap

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return psnr(image, reference, data_range=self.data_range, channels=self.channels, cap=self.cap)
