"""Images as a diffusion model sees them at a step: with noise, and always the same noise."""

import math

import torch
from torch import Tensor, nn

from iqazoo import InputError

STEPS = 1000
OFFSET = 0.008
TILE = 128  # pixels; beyond them the field repeats


def signal(t: int) -> float:
    """The share of the variance that is still the image's at step t, from 0: the cosine schedule.

    Nichol and Dhariwal, Improved denoising diffusion probabilistic models, ICML 2021, equation 17, of 1000 steps.
    """

    def left(step: int) -> float:
        return math.cos((step / STEPS + OFFSET) / (1 + OFFSET) * math.pi / 2) ** 2

    return left(t + 1) / left(0)


def check_step(t: int) -> int:
    """`t` if it is a step; raises InputError otherwise."""
    if isinstance(t, bool) or not isinstance(t, int) or not 0 <= t < STEPS:
        raise InputError(f"t must be a whole number from 0 (hardly any noise) to {STEPS - 1}; got {t!r}")
    return t


class Noise(nn.Module):
    """Adds the noise of a step: sqrt(a) x + sqrt(1 - a) e, with a = signal(t) and e from a generator of its own.

    The field e depends on seed and position alone, so that image and reference get the same, equal images stay equal,
    and neither size nor batch nor any other random number has a say.

    Args:
        seed: of the generator.
        channels: of the images.
    """

    field: Tensor

    def __init__(self, seed: int, channels: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        field = torch.randn(1, channels, TILE, TILE, generator=generator, device="cpu")
        self.register_buffer("field", field.to(torch.get_default_device()), persistent=False)

    def forward(self, x: Tensor, t: int) -> Tensor:
        """`[B, C, H, W]` -> the same."""
        height, width = x.shape[2:]
        tiled = self.field.to(x.dtype).repeat(1, 1, -(-height // TILE), -(-width // TILE))[..., :height, :width]
        share = signal(t)
        return math.sqrt(share) * x + math.sqrt(1 - share) * tiled
