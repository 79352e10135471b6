"""Total variation: Rudin, Osher, Fatemi, "Nonlinear total variation based noise removal algorithms", Physica D 60,
1992; squared as in Mahendran, Vedaldi, "Understanding deep image representations by inverting them", IEEE CVPR 2015."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from iqazoo.errors import InputError
from iqazoo.metrics.numerics import full_precision, safe_sqrt

Norm = Literal["isotropic", "l1", "l2", "l2-squared"]


@full_precision
def tv(image: Tensor, *, norm: Norm = "isotropic") -> Tensor:
    """How much neighbouring pixels differ, summed over all pixels and channels: it grows with the image.

    Args:
        image: `[B, C, H, W]`.
        norm: "isotropic": the sum of sqrt(dx^2 + dy^2), dx and dy being the differences to the next pixel to the
            right and below (Rudin et al.; where there is none, 0). "l1": the sum of |dx| + |dy|. "l2-squared": of
            dx^2 + dy^2. "l2": the root of that sum, as piq does.

    Returns:
        `[B]`, at least 0; 0 for flat images, where the gradient is 0, too.
    """
    dx, dy = image[..., 1:] - image[..., :-1], image[..., 1:, :] - image[..., :-1, :]
    if norm == "isotropic":
        down = dy[..., :-1]
        both = torch.addcmul(dx[..., :-1, :].square(), down, down)  # [B, C, H - 1, W - 1]
        return safe_sqrt(both).sum((1, 2, 3)) + _total(dx[..., -1:, :]) + _total(dy[..., -1:])
    if norm == "l1":
        return _total(dx) + _total(dy)
    squares = dx.square().sum((1, 2, 3)) + dy.square().sum((1, 2, 3))
    return squares if norm == "l2-squared" else safe_sqrt(squares)


def _total(differences: Tensor) -> Tensor:
    """The sum of the absolute values, `[B]`."""
    return differences.abs().sum((1, 2, 3))


class TV(nn.Module):
    """`tv` with its options bound.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(self, norm: Norm = "isotropic") -> None:
        super().__init__()
        if norm not in get_args(Norm):
            raise InputError(f"norm must be one of {', '.join(map(repr, get_args(Norm)))}; got {norm!r}")
        self.norm: Norm = norm

    def forward(self, image: Tensor) -> Tensor:
        """`[B, C, H, W]` -> `[B]`."""
        return tv(image, norm=self.norm)
