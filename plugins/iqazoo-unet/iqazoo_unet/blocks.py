"""What a diffusion U-Net is built of, with the parameter names of denoising-diffusion-pytorch."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqazoo.nets.linear_attention import RMSNorm

BlockNorm = Literal["group", "rms"]


class Block(nn.Module):
    """Convolution, normalisation, a factor and a shift from the time if there is one, SiLU.

    Args:
        channels: of the input and the output, C.
        groups: of the GroupNorm.
        norm: "group" or "rms", which later checkpoints have.
    """

    def __init__(self, channels: int, groups: int, norm: BlockNorm) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.GroupNorm(groups, channels) if norm == "group" else RMSNorm(channels)

    def forward(self, x: Tensor, modulation: Tensor | None = None) -> Tensor:
        """`[B, C, H, W]` and `[1 or B, 2 C, 1, 1]`, by how much to scale and to shift -> `[B, C, H, W]`."""
        x = self.norm(self.proj(x))
        if modulation is not None:
            scale, shift = modulation.chunk(2, dim=1)
            x = x * (1 + scale) + shift
        return F.silu(x)


class ResnetBlock(nn.Module):
    """Two `Block`s and a way around them; the time, where there is one, speaks to the first.

    Args:
        channels: of the input and the output, C.
        groups: of the GroupNorms.
        norm: "group" or "rms".
        time_channels: of the time embedding, T; None for none.
    """

    def __init__(self, channels: int, groups: int, norm: BlockNorm, time_channels: int | None) -> None:
        super().__init__()
        # The place of the Linear in its Sequential is that of the published parameter name "mlp.1.weight".
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(time_channels, 2 * channels)) if time_channels else None
        self.block1 = Block(channels, groups, norm)
        self.block2 = Block(channels, groups, norm)

    def forward(self, x: Tensor, time: Tensor | None) -> Tensor:
        """`[B, C, H, W]` and `[1 or B, T]` -> `[B, C, H, W]`."""
        modulation = None
        if self.mlp is not None and time is not None:
            modulation = self.mlp(time)[..., None, None]  # [1 or B, 2 C, 1, 1]
        return x + self.block2(self.block1(x, modulation))


class FullAttention(nn.Module):
    """Softmax attention of every pixel to every pixel and to learned columns: O(N^2) in time. No residual here.

    Args:
        channels: of the feature map, C.
        heads: of the attention.
        head_channels: D of each head.
        memory: learned columns before the pixels; 0 for none.
    """

    def __init__(self, channels: int, heads: int, head_channels: int, memory: int) -> None:
        super().__init__()
        hidden = heads * head_channels
        self.heads = heads
        self.norm = RMSNorm(channels)
        columns = torch.randn(2, heads, memory, head_channels) if memory else None
        self.mem_kv = nn.Parameter(columns) if columns is not None else None  # keys and values, [2, heads, M, D]
        self.to_qkv = nn.Conv2d(channels, 3 * hidden, 1, bias=False)
        self.to_out = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` -> the same."""
        batch, _, height, width = x.shape
        qkv = self.to_qkv(self.norm(x)).flatten(2)  # [B, 3 heads D, N]
        # Contiguous rows, or torch would take its plain road, which holds the N x N matrix.
        q, k, v = qkv.unflatten(1, (3, self.heads, -1)).mT.contiguous().unbind(1)  # [B, heads, N, D] each
        if self.mem_kv is not None:
            first = self.mem_kv.to(k.dtype).unsqueeze(1).expand(-1, batch, -1, -1, -1)  # [2, B, heads, M, D]
            k, v = torch.cat((first[0], k), 2), torch.cat((first[1], v), 2)
        out = F.scaled_dot_product_attention(q, k, v)  # [B, heads, N, D]
        return self.to_out(out.mT.reshape(batch, -1, height, width))


class SinusoidalTime(nn.Module):
    """The sinusoidal embedding of a time: sin(t w_i), then cos(t w_i), with w_i falling from 1 to 1e-4.

    Vaswani et al., Attention is all you need, NeurIPS 2017, section 3.5; of steps of a diffusion: Ho et al., Denoising
    diffusion probabilistic models, NeurIPS 2020.

    Args:
        channels: how many numbers, an even count from 4.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, t: Tensor) -> Tensor:
        """`[B]` -> `[B, channels]` in the type of t."""
        half = self.channels // 2
        steps = torch.arange(half, device=t.device, dtype=t.dtype)
        angles = t[:, None] * torch.exp(steps * (-math.log(10000) / (half - 1)))  # [B, half]
        return torch.cat((angles.sin(), angles.cos()), dim=1)


def time_mlp(channels: int, time_channels: int) -> nn.Sequential:
    """From times `[B]` to their embedding `[B, time_channels]`, through `channels` sines and cosines."""
    return nn.Sequential(
        SinusoidalTime(channels),
        nn.Linear(channels, time_channels),
        nn.GELU(),
        nn.Linear(time_channels, time_channels),
    )
