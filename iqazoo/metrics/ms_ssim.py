"""Multi-scale structural similarity: Wang, Simoncelli, Bovik, "Multi-scale structural similarity for image quality
assessment", Asilomar Conference on Signals, Systems and Computers, 2003."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from iqazoo.errors import InputError
from iqazoo.metrics.color import Channels, check_channels, to_channels
from iqazoo.ops import ssim_pyramid
from iqazoo.ops.pyramid import Border, check_options, least_side
from iqazoo.ops.windows import Padding

EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the paper's section 3.2, from the finest scale on


def ms_ssim(
    image: Tensor,
    reference: Tensor,
    *,
    exponents: Sequence[float] = EXPONENTS,
    window: int = 11,
    sigma: float | None = 1.5,
    padding: Padding = "valid",
    border: Border = "zeros",
    channels: Channels = "rgb",
    data_range: float = 1.0,
    k1: float = 0.01,
    k2: float = 0.03,
) -> Tensor:
    """The multi-scale index (equation 7 of the paper) of each channel, averaged over channels.

    The product, over scales, of the mean contrast-structure terms and, at the last scale, the mean SSIM index, each
    to the power of its exponent. A negative mean counts as 0, so it has no gradient.

    Args:
        image, reference: `[B, C, H, W]` in [0, data_range].
        exponents: one for each scale, from the finest on.
        window, sigma, padding, channels, data_range, k1, k2: as for `ssim`.
        border: see `ops.ssim_pyramid`; where a side is odd at some scale the libraries differ in it. "zeros" as
            pytorch-msssim, and as pyiqa with channels="y-8bit"; "replicate" as piq. torchmetrics averages over
            channels before it multiplies, and so differs on colour images.

    Returns:
        `[B]` in [0, 1], and 1 for identical images.

    Raises:
        InputError: the image is too small for so many scales.
    """
    x, y = (to_channels(t if t.dtype == torch.float64 else t.float(), channels) for t in (image, reference))
    terms = ssim_pyramid(
        x, y, scales=len(exponents), window=window, sigma=sigma, data_range=data_range, k1=k1, k2=k2,
        padding=padding, border=border,
    )  # fmt: skip  # [scales, B, C]
    powers = terms.new_tensor(exponents)[:, None, None]
    # The slope of a power is infinite at 0, which would turn the gradient into NaN. A NaN stays one.
    kept = ~(terms <= 0)
    return torch.where(kept, terms.where(kept, 1) ** powers, 0).prod(0).mean(1)


class MSSSIM(nn.Module):
    """`ms_ssim` with its options bound.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(
        self,
        exponents: Sequence[float] = EXPONENTS,
        window: int = 11,
        sigma: float | None = 1.5,
        padding: Padding = "valid",
        border: Border = "zeros",
        channels: Channels = "rgb",
        data_range: float = 1.0,
        k1: float = 0.01,
        k2: float = 0.03,
    ) -> None:
        super().__init__()
        check_channels(channels, data_range)
        if not exponents or not all(power > 0 for power in exponents):
            raise InputError(f"exponents must be positive numbers, one for each scale; got {exponents!r}")
        check_options(len(exponents), window, sigma, data_range, k1, k2, padding, border)
        self.min_size = least_side(len(exponents), window, padding, border)
        self.data_range = data_range
        self._options = {
            "exponents": tuple(exponents), "window": window, "sigma": sigma, "padding": padding, "border": border,
            "channels": channels, "data_range": data_range, "k1": k1, "k2": k2,
        }  # fmt: skip

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return ms_ssim(image, reference, **self._options)
