"""Mean absolute error."""

from torch import Tensor, nn

from iqazoo.metrics.numerics import full_precision


@full_precision
def mae(image: Tensor, reference: Tensor) -> Tensor:
    """The mean absolute difference over all channels and pixels of an image.

    Args:
        image, reference: `[B, C, H, W]`.

    Returns:
        `[B]`, at least 0, in the images' units. Where pixels are equal the gradient is 0.
    """
    return (image - reference).abs().mean((1, 2, 3))


@full_precision
def mae_map(image: Tensor, reference: Tensor) -> Tensor:
    """The absolute difference averaged over channels: `[B, 1, H, W]`."""
    return (image - reference).abs().mean(1, keepdim=True)


class MAE(nn.Module):
    """`mae` and `mae_map` as a network."""

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return mae(image, reference)

    def map(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B, 1, H, W]`."""
        return mae_map(image, reference)
