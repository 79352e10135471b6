"""A small metric to train: three convolutions, whose outputs are compared where they are pooled."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqazoo import MetricSpec


class Tiny(nn.Module):
    """Weighted squared differences of pooled activations: `[B, 3, H, W]` in [0, 1] twice -> `[B]`, 0 or more.

    Pooling makes it indifferent to small shifts, and training finds filters that see what bothers people.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 2 * width)
        self.layers = nn.ModuleList(nn.Conv2d(i, o, 5 if i == 3 else 3, padding=1) for i, o in pairwise(widths))
        self.heads = nn.ParameterList(torch.full((w,), 1 / w) for w in widths[1:])

    def features(self, image: Tensor) -> list[Tensor]:
        """`[B, 3, H, W]` -> the pooled activations of each layer, `[B, C_i, H_i, W_i]`."""
        x, pooled = 2 * image - 1, []
        for layer in self.layers:
            x = F.relu(layer(x))
            pooled.append(F.avg_pool2d(x, 8, stride=4, ceil_mode=True) if x.shape[-1] >= 8 else x)
            x = F.max_pool2d(x, 2)
        return pooled

    def distance(self, f_image: list[Tensor], f_reference: list[Tensor]) -> Tensor:
        """Two results of `features` -> `[B]`."""
        layers = zip(self.heads, f_image, f_reference, strict=True)
        return torch.stack([((a - b).square().mean((2, 3)) @ weight) for weight, a, b in layers]).sum(0)

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, 3, H, W]` twice -> `[B]`."""
        return self.distance(self.features(image), self.features(reference))

    @torch.no_grad()
    def constrain_(self) -> None:
        """A larger difference is never a smaller distance."""
        for weight in self.heads:
            weight.clamp_(min=0)


SPEC = MetricSpec(
    name="tiny",
    network=Tiny,
    kind="FR",
    lower_is_better=True,
    score_range=(0.0, math.inf),
    summary="Three small convolutions, to be trained on judgments",
    license="Apache-2.0",
    min_size=16,
    trainable=True,
)
