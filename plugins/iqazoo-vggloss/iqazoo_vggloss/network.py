"""The losses of Johnson, Alahi, Fei-Fei, "Perceptual losses for real-time style transfer and super-resolution", ECCV
2016 (arXiv 1603.08155), over VGG-16 as torchvision publishes it."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from iqazoo import InputError
from iqazoo.nets.trunks import Trunk, in_one_pass, vgg16

# Mean and deviation of ImageNet's colours, which torchvision's trunks expect to be taken out.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels and convolutions of VGG-16's blocks


def _places() -> dict[str, tuple[int, int, int]]:
    places, index = {}, 0
    for block, (channels, depth) in enumerate(BLOCKS):
        for number in range(1, depth + 1):
            places[f"conv{block + 1}_{number}"] = (index, channels, 2**block)
            places[f"relu{block + 1}_{number}"] = (index + 1, channels, 2**block)
            index += 2
        index += 1  # the pooling
    return places


PLACES = _places()
"""From a layer's name to its index in the trunk, its channels, and by how much it is smaller than the image."""


class VggLoss(nn.Module):
    """What both losses share: the tapped trunk, and the sum over layers.

    Args:
        layers: names such as "relu2_2", or "conv2_2" for what comes before that ReLU.
        layer_weights: a factor for each layer; 1 each where None.

    Raises:
        InputError: a layer is unknown or named twice, or the weights are not one finite number of 0 or more for each.
    """

    normal_scale: Tensor
    normal_shift: Tensor

    def __init__(self, layers: Sequence[str], layer_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        factors = [1.0] * len(layers) if layer_weights is None else list(layer_weights)
        if not layers or len(set(layers)) < len(layers) or not set(layers) <= set(PLACES):
            raise InputError(f"layers must be different ones of {', '.join(PLACES)}; got {list(layers)!r}")
        if len(factors) != len(layers) or not all(0 <= w < math.inf for w in factors):
            raise InputError(f"layer_weights must be {len(layers)} finite numbers of 0 or more; got {factors!r}")
        chosen = sorted((PLACES[name], factor) for name, factor in zip(layers, factors, strict=True))
        self.layer_weights = tuple(factor for _, factor in chosen)
        stages: list[nn.Module] = list(vgg16().features)
        for (index, _, _), _ in chosen:
            if isinstance(stages[index], nn.Conv2d):
                stages[index + 1] = nn.ReLU()  # in place it would overwrite what is tapped
        self.trunk = Trunk(stages, [place[0] for place, _ in chosen], [place[1] for place, _ in chosen])
        self.min_size = chosen[-1][0][2]
        scale = 1 / torch.tensor(STD).view(1, 3, 1, 1)
        self.register_buffer("normal_scale", scale, persistent=False)
        self.register_buffer("normal_shift", torch.tensor(MEAN).view(1, 3, 1, 1) * scale, persistent=False)

    def features(self, image: Tensor) -> list[Tensor]:
        """`[B, 1 or 3, H, W]` in [0, 1] -> the layers' activations; gray is repeated into 3 channels."""
        return self.trunk(image * self.normal_scale - self.normal_shift)

    def distance(self, f_image: Sequence[Tensor], f_reference: Sequence[Tensor]) -> Tensor:
        """Two results of `features` -> `[B]`."""
        layers = zip(self.layer_weights, f_image, f_reference, strict=True)
        return torch.stack([factor * self.layer_distance(a, b) for factor, a, b in layers]).sum(0)

    def layer_distance(self, f_image: Tensor, f_reference: Tensor) -> Tensor:
        """Equation 2 of the paper: the mean of (f_image - f_reference)^2 over C, H and W; `[B]`."""
        if f_image.dtype in (torch.float16, torch.bfloat16):
            f_image, f_reference = f_image.float(), f_reference.float()
        return (f_image - f_reference).square().mean(tuple(range(1, f_image.ndim)))

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return self.distance(*in_one_pass(self.features, image, reference))


class FeatureLoss(VggLoss):
    """Feature reconstruction loss, equation 2: the weighted sum over layers of mean squared differences.

    Args:
        layers, layer_weights: see `VggLoss`; the paper takes relu2_2 for super-resolution.
    """

    def __init__(self, layers: Sequence[str] = ("relu2_2",), layer_weights: Sequence[float] | None = None) -> None:
        super().__init__(layers, layer_weights)


class StyleLoss(VggLoss):
    """Style reconstruction loss, equations 3 and 4: squared Frobenius distances of Gram matrices, which are divided
    by C H W. Gatys, Ecker, Bethge (CVPR 2016) have the same but for a factor for each layer.

    Args:
        layers, layer_weights: see `VggLoss`; the defaults are the paper's.
    """

    def __init__(
        self,
        layers: Sequence[str] = ("relu1_2", "relu2_2", "relu3_3", "relu4_3"),
        layer_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(layers, layer_weights)

    def features(self, image: Tensor) -> list[Tensor]:
        """`[B, 1 or 3, H, W]` in [0, 1] -> Gram matrices `[B, C_i, C_i]`."""
        return [gram(m) for m in super().features(image)]

    def layer_distance(self, f_image: Tensor, f_reference: Tensor) -> Tensor:
        """Equation 4: the sum of the squared differences; `[B]`."""
        return (f_image - f_reference).square().sum((1, 2))


def gram(features: Tensor) -> Tensor:
    """`[B, C, H, W]` -> `[B, C, C]`: products of channels, summed over positions, divided by C H W (equation 3)."""
    rows = features.flatten(2)  # [B, C, H W]
    size = rows.shape[1] * rows.shape[2]
    if rows.dtype in (torch.float16, torch.bfloat16):
        with torch.autocast(rows.device.type, enabled=False):
            return rows.float() @ rows.float().mT / size
    return rows @ rows.mT / size
