"""DISTS: Ding, Ma, Wang, Simoncelli, "Image quality assessment: unifying structure and texture similarity", IEEE TPAMI
2020 (arXiv 2004.07728). Constants and weights are those of the authors' published code."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqazoo.nets.trunks import in_one_pass, vgg16

# Mean and deviation of ImageNet's colours, which torchvision's trunks expect to be taken out.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
C1 = C2 = 1e-6  # keep the quotients of flat channels finite
TINY = 1e-12  # the root of 0 has no derivative
SHORT_SIDE = 256  # pixels, what `resize` brings larger images to
HALVES = (torch.float16, torch.bfloat16)


class Stage(NamedTuple):
    """What DISTS compares at one stage: a map's `[B, C, H, W]` deviations from its channels' means, these means and
    the variances, `[B, C]` each."""

    deviation: Tensor
    mean: Tensor
    variance: Tensor


class L2Pool(nn.Module):
    """The paper's pooling: the root of the mean square under a Hann window, at every second pixel.

    Unlike the maximum it does not alias, so that small shifts change little.
    """

    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        hann = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("window", torch.outer(hann, hann).view(1, 1, 3, 3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` -> `[B, C, ceil(H / 2), ceil(W / 2)]`; beyond the border there are zeros."""
        if x.dtype in HALVES:  # squares leave the range of float16
            with torch.autocast(x.device.type, enabled=False):
                return self._pooled(x.float()).to(x.dtype)
        return self._pooled(x)

    def _pooled(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        window = self.window.to(x.dtype).expand(channels, -1, -1, -1)
        return (F.conv2d(x.square(), window, stride=2, padding=1, groups=channels) + TINY).sqrt()


class DISTS(nn.Module):
    """Weighed differences in texture and structure between the image, VGG-16's activations, and the reference's.

    Args:
        resize: bring images whose shorter side is above 256 pixels to 256, as the authors' script does with files and
            piq does with all; False scores images as they are, as the authors' module does.
    """

    normal_scale: Tensor
    normal_shift: Tensor

    def __init__(self, resize: bool = False) -> None:
        super().__init__()
        self.resize = resize
        self.trunk = vgg16()
        for index, layer in enumerate(self.trunk.features):
            if isinstance(layer, nn.MaxPool2d):
                self.trunk.features[index] = L2Pool()
        channels = 3 + sum(self.trunk.channels)
        # Names and shapes are those of the published file.
        self.alpha = nn.Parameter(torch.full((1, channels, 1, 1), 0.5 / channels))
        self.beta = nn.Parameter(torch.full((1, channels, 1, 1), 0.5 / channels))
        scale = 1 / torch.tensor(STD).view(1, 3, 1, 1)
        self.register_buffer("normal_scale", scale, persistent=False)
        self.register_buffer("normal_shift", torch.tensor(MEAN).view(1, 3, 1, 1) * scale, persistent=False)

    def features(self, image: Tensor) -> list[Stage]:
        """`[B, 1 or 3, H, W]` in [0, 1] -> six stages, the image itself first; gray is repeated into 3 channels."""
        return [_stage(m) for m in self._maps(image)]

    def distance(self, f_image: Sequence[Stage], f_reference: Sequence[Stage]) -> Tensor:
        """Two results of `features` -> `[B]` in [0, 2]."""
        return self.combine(self.channel_means(f_image, f_reference))

    def channel_means(self, f_image: Sequence[Stage], f_reference: Sequence[Stage]) -> Tensor:
        """Two results of `features` -> `[B, 2 C]`: what `combine` weighs, for C channels of all stages.

        First the differences in texture, 1 - l in [0, 1], then those in structure, 1 - s in [0, 2]. They are written
        so that nothing cancels, and equal images give 0:

            1 - l = 1 - (2 m_x m_y + C1) / (m_x^2 + m_y^2 + C1)    = (m_x - m_y)^2 / (m_x^2 + m_y^2 + C1)
            1 - s = 1 - (2 cov(x, y) + C2) / (var x + var y + C2)  = var(x - y) / (var x + var y + C2)
        """
        texture, structure = [], []
        for x, y in zip(f_image, f_reference, strict=True):
            texture.append((x.mean - y.mean).square() / (x.mean.square() + y.mean.square() + C1))
            of_difference = F.mse_loss(x.deviation, y.deviation, reduction="none").mean((2, 3))  # [B, C]
            structure.append(of_difference / (x.variance + y.variance + C2))
        return torch.cat(texture + structure, 1)

    def combine(self, means: Tensor) -> Tensor:
        """`[..., 2 C]` -> `[...]`, by alpha and beta, which are scaled to add up to 1."""
        weights = torch.cat([self.alpha, self.beta], 1).flatten()
        return (means * (weights / weights.sum())).sum(-1)

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]` in [0, 2]."""
        maps, of_reference = in_one_pass(self._maps, image, reference)
        return self.distance([_stage(m) for m in maps], [_stage(m) for m in of_reference])

    @torch.no_grad()
    def constrain_(self) -> None:
        """Keep the weights non-negative, so that a larger difference is never a smaller distance."""
        self.alpha.clamp_(min=0)
        self.beta.clamp_(min=0)

    def _maps(self, image: Tensor) -> list[Tensor]:
        """The image and the trunk's taps, `[B, C_i, H_i, W_i]` each."""
        if self.resize:
            image = _resized(image)
        return [image.expand(-1, 3, -1, -1), *self.trunk(image * self.normal_scale - self.normal_shift)]


def _stage(x: Tensor) -> Stage:
    if x.dtype in HALVES:
        x = x.float()
    mean = x.mean((2, 3), keepdim=True)
    deviation = x - mean
    return Stage(deviation, mean.flatten(1), deviation.square().mean((2, 3)))


def _resized(image: Tensor) -> Tensor:
    height, width = image.shape[2:]
    short = min(height, width)
    if short <= SHORT_SIDE:
        return image
    size = [SHORT_SIDE * side // short for side in (height, width)]
    return F.interpolate(image, size, mode="bilinear", antialias=True)
