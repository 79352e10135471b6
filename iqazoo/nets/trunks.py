"""The convolutional trunks of perceptual metrics, with torchvision's parameter names so that its files load.

A trunk maps `[B, 3, H, W]` to the activations after chosen layers. Sources of the architectures:
AlexNet (Krizhevsky, arXiv 1404.5997), VGG-16 (Simonyan and Zisserman, arXiv 1409.1556, configuration D),
SqueezeNet 1.1 (Iandola et al., arXiv 1602.07360, and the authors' later release).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from iqazoo.ops.backend import transformed


class Trunk(nn.Module):
    """Layers in a row, of which some are tapped.

    Args:
        layers: the layers; as `features`, so that parameters are named "features.0.weight" and so on.
        taps: the indices of the layers whose output is returned.
        channels: the channel count of each tapped output.
        last_from: how many pixels an image must have to be computed with the channels last in memory, which is faster
            on a CPU, for AlexNet unless images are small (measured: benchmarks/README.md).
        batch_from: how many pixels all images of a batch must have for that; below, convolutions would spend the time
            that they save to copy VGG's 59 MB of weights into the same order.
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        taps: Sequence[int],
        channels: Sequence[int],
        last_from: int = 0,
        batch_from: int = 0,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers[: taps[-1] + 1])
        self.taps = frozenset(taps)
        self.channels = tuple(channels)
        self.last_from = last_from
        self.batch_from = batch_from

    def forward(self, x: Tensor) -> list[Tensor]:
        """`[B, 3, H, W]` -> one `[B, C_i, H_i, W_i]` for each tap."""
        pixels = x.shape[-2] * x.shape[-1]
        large = pixels >= self.last_from and len(x) * pixels >= self.batch_from
        if large and x.is_cpu and x.dtype == torch.float32 and not transformed(x):  # vmap knows no such format
            x = x.contiguous(memory_format=torch.channels_last)
        tapped = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                tapped.append(x)
        return tapped


class Fire(nn.Module):
    """SqueezeNet's block: a 1x1 convolution that narrows, then 1x1 and 3x3 ones side by side that widen."""

    def __init__(self, inputs: int, narrow: int, wide: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, narrow, 1)
        self.expand1x1 = nn.Conv2d(narrow, wide, 1)
        self.expand3x3 = nn.Conv2d(narrow, wide, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, inputs, H, W]` -> `[B, 2 * wide, H, W]`."""
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


def alexnet() -> Trunk:
    """AlexNet's five convolutions, each tapped after its ReLU."""
    layers = [
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True),
    ]  # fmt: skip
    return Trunk(layers, taps=(1, 4, 7, 9, 11), channels=(64, 192, 384, 256, 256), last_from=256 * 256)


def vgg16() -> Trunk:
    """VGG-16's thirteen convolutions, tapped after the last ReLU of each of the five blocks."""
    layers: list[nn.Module] = []
    inputs = 3
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = width
        layers.append(nn.MaxPool2d(2, 2))
    return Trunk(layers, taps=(3, 8, 15, 22, 29), channels=(64, 128, 256, 512, 512), batch_from=256 * 256)


def squeezenet() -> Trunk:
    """SqueezeNet 1.1, tapped after the first ReLU and after the six Fire blocks that LPIPS uses."""
    layers = [
        nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(64, 16, 64), Fire(128, 16, 64), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(128, 32, 128), Fire(256, 32, 128), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
    ]  # fmt: skip
    return Trunk(layers, taps=(1, 4, 7, 9, 10, 11, 12), channels=(64, 128, 256, 384, 384, 512, 512))


def in_one_pass(
    features: Callable[[Tensor], list[Tensor]], image: Tensor, reference: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """The features of an image and of its reference, computed as one batch.

    Args:
        features: such as a trunk: from images to tensors, batch first.
        image, reference: `[B, C, H, W]`.

    Returns:
        Those of the image, and those of the reference.
    """
    if image.requires_grad != reference.requires_grad:
        # Apart, the one without a gradient is spared its backward pass.
        return features(image), features(reference)
    halves = [f.chunk(2) for f in features(torch.cat([image, reference]))]
    return [a for a, _ in halves], [b for _, b in halves]


TRUNKS = {"alex": alexnet, "vgg": vgg16, "squeeze": squeezenet}
