"""LPIPS: Zhang, Isola, Efros, Shechtman, Wang, "The unreasonable effectiveness of deep features as a perceptual
metric", CVPR 2018. Version 0.1 of the published heads."""

from collections.abc import Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqazoo.errors import InputError
from iqazoo.nets.dropout import Dropout
from iqazoo.nets.trunks import TRUNKS, in_one_pass
from iqazoo.ops.feature_distance import FeatureReduction, feature_distance

# Mean and deviation of ImageNet, carried over to images in [-1, 1], as the published trunk inputs expect.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
EPS = 1e-10
TINY = 1e-37  # the root of 0 has no derivative


def channel_distance(f_image: Tensor, f_reference: Tensor) -> Tensor:
    """Squared difference of two feature maps whose channel vectors are scaled to length 1.

    Args:
        f_image, f_reference: `[B, C, H, W]`.

    Returns:
        `[B, C, H, W]` in [0, 4]. A zero vector stays zero, and has gradient zero.
    """
    return _unit(f_image).sub_(_unit(f_reference)).square()  # in place: memory that is new takes its time


def _unit(features: Tensor) -> Tensor:
    squares = features.square().sum(1, keepdim=True)  # [B, 1, H, W]; torch's vector_norm takes ten times as long
    norm = squares.clamp_min(TINY).sqrt()
    return features * (norm + EPS).reciprocal().masked_fill(squares == 0, 0.0)


class Head(nn.Module):
    """A non-negative weighted sum over channels, with dropout while it is trained: one "lin" layer of the paper."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # The places in this Sequential are those of the published parameter name "lin0.model.1.weight".
        self.model = nn.Sequential(Dropout(), nn.Conv2d(channels, 1, 1, bias=False))

    @property
    def weight(self) -> Tensor:
        """`[C]`."""
        return self.kernel.flatten()

    @property
    def kernel(self) -> nn.Parameter:
        """`[1, C, 1, 1]`, the published parameter."""
        return getattr(self.model, "1").weight  # a Sequential takes ten times as long to find it by number

    @property
    def dropout(self) -> float:
        """The share of differences that is left out while it is trained."""
        return cast(Dropout, self.model[0]).p

    def forward(self, difference: Tensor) -> Tensor:
        """`[B, C, H, W]` -> `[B, 1, H, W]`."""
        return self.model(difference)

    def distance(self, f_image: Tensor, f_reference: Tensor, reduction: FeatureReduction) -> Tensor:
        """The head's distance between two `[B, C, H, W]`: `[B]` for "image", `[B, 1, H, W]` for "map"."""
        if self.training and self.dropout > 0:  # it needs every difference by itself
            differences = channel_distance(f_image, f_reference)
            if reduction == "map":
                return self(differences)
            return self.model[0](differences).mean((2, 3)) @ self.weight  # means first: less to weigh, and to undo
        return feature_distance(f_image, f_reference, self.weight, eps=EPS, reduction=reduction)


class LPIPS(nn.Module):
    """Weighted distances between the activations of a trunk.

    Args:
        trunk: "alex", "vgg" or "squeeze".

    Raises:
        InputError: there is no such trunk.
    """

    eps = EPS
    shift: Tensor
    scale: Tensor

    def __init__(self, trunk: Literal["alex", "vgg", "squeeze"] = "alex") -> None:
        super().__init__()
        if trunk not in TRUNKS:
            raise InputError(f"trunk must be one of {', '.join(map(repr, TRUNKS))}; got {trunk!r}")
        self.trunk = TRUNKS[trunk]()
        self.heads = nn.ModuleDict({f"lin{i}": Head(c) for i, c in enumerate(self.trunk.channels)})
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)

    def features(self, image: Tensor) -> list[Tensor]:
        """`[B, 1 or 3, H, W]` in [0, 1] -> the tapped activations; gray is repeated into three channels."""
        return self.trunk(image * (2 / self.scale) - (1 + self.shift) / self.scale)

    def distance(self, f_image: Sequence[Tensor], f_reference: Sequence[Tensor]) -> Tensor:
        """Two results of `features` -> `[B]`, the sum over layers of the spatial means."""
        return torch.stack(self._layers(f_image, f_reference, "image")).sum(dim=0)

    def channel_means(self, f_image: Sequence[Tensor], f_reference: Sequence[Tensor]) -> Tensor:
        """Two results of `features` -> `[B, C]`, over the channels of all layers, what `combine` weighs.

        Outside of training `combine(channel_means(...))` is `distance(...)`, and only it depends on the heads.
        """
        pairs = zip(f_image, f_reference, strict=True)
        return torch.cat([feature_distance(a, b, eps=self.eps, reduction="channel") for a, b in pairs], 1)

    def combine(self, means: Tensor) -> Tensor:
        """`[..., C]` -> `[...]`, by the heads' weights, without dropout."""
        return means @ torch.cat([cast(Head, head).kernel for head in self.heads.values()], 1).flatten()

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return self.distance(*in_one_pass(self.features, image, reference))

    def map(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B, 1, H, W]`: the layers' maps, brought to the image's size, added up."""
        size = image.shape[2:]
        maps = self._layers(*in_one_pass(self.features, image, reference), "map")
        return torch.stack([F.interpolate(m, size, mode="bilinear") for m in maps]).sum(dim=0)

    @torch.no_grad()
    def constrain_(self) -> None:
        """Keep the heads' weights non-negative, so that a larger difference is never a smaller distance."""
        for head in self.heads.values():
            cast(Head, head).kernel.clamp_(min=0)

    def _layers(
        self, f_image: Sequence[Tensor], f_reference: Sequence[Tensor], reduction: Literal["image", "map"]
    ) -> list[Tensor]:
        """One distance for each tap: `[B]`, or `[B, 1, H_i, W_i]` for "map"."""
        taps = zip(self.heads.values(), f_image, f_reference, strict=True)
        return [cast(Head, head).distance(a, b, reduction) for head, a, b in taps]
