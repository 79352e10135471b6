"""Root mean squared error."""

from torch import Tensor, nn

from iqazoo import ops
from iqazoo.metrics.numerics import safe_sqrt


def rmse(image: Tensor, reference: Tensor) -> Tensor:
    """The root of the mean squared difference over all channels and pixels of an image.

    Args:
        image, reference: `[B, C, H, W]`.

    Returns:
        `[B]`, at least 0, in the images' units. Where both are identical the gradient is 0.
    """
    return safe_sqrt(ops.mse(image, reference))


class RMSE(nn.Module):
    """`rmse` as a network."""

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return rmse(image, reference)
