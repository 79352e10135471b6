"""The linear attention of diffusion U-Nets as a module for feature maps, with their parameter names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from iqazoo.errors import InputError
from iqazoo.ops.backend import Backend
from iqazoo.ops.linear_attention import linear_attention_packed

TINY = 1e-24  # the root of 0 has no derivative


class RMSNorm(nn.Module):
    """Divides the channels of each position by their root mean square, and multiplies each by its own factor g.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` -> the same."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        squares = wide.square().sum(1, keepdim=True)  # [B, 1, H, W]; torch's vector_norm takes ten times as long
        factor = squares.clamp_min(TINY).rsqrt() * x.shape[1] ** 0.5
        return (wide * factor * self.g).to(x.dtype)


class LinearAttention(nn.Module):
    """Normalizes, projects to queries, keys and values, attends over all pixels and learned columns, projects back.

    Parameters are named as in denoising-diffusion-pytorch's LinearAttention, whose checkpoints load: `norm.g`,
    `to_qkv.weight`, `to_out.0.weight`, `to_out.0.bias`, `to_out.1.g`, `mem_kv`. Older ones lack some of these; switch
    them off by `memory=0` and `normalize=False`. The residual connection is the caller's.

    Args:
        channels: C of the feature map.
        heads: of the attention.
        head_channels: D of each head; kernels take 16 to 128.
        memory: learned columns before the pixels; 0 for none.
        normalize: whether there is a norm before the projection.
        normalize_output: whether there is one behind.
        backend: of `iqazoo.ops.linear_attention_packed`.

    Raises:
        InputError: a size is below 1, or `memory` below 0.
    """

    def __init__(
        self,
        channels: int,
        heads: int = 4,
        head_channels: int = 32,
        memory: int = 4,
        *,
        normalize: bool = True,
        normalize_output: bool = True,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if min(channels, heads, head_channels) < 1 or memory < 0:
            raise InputError(
                f"LinearAttention takes channels, heads and head_channels of at least 1 and memory of at least 0; "
                f"got {channels}, {heads}, {head_channels} and {memory}"
            )
        hidden = heads * head_channels
        self.channels, self.heads = channels, heads
        self.backend: Backend = backend
        self.norm = RMSNorm(channels) if normalize else nn.Identity()
        self.to_qkv = nn.Conv2d(channels, 3 * hidden, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(hidden, channels, 1))
        if normalize_output:
            self.to_out.append(RMSNorm(channels))
        columns = torch.randn(2, heads, head_channels, memory) if memory else None
        self.mem_kv = nn.Parameter(columns) if columns is not None else None  # keys and values, [2, heads, D, M]

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` -> the same.

        Raises:
            InputError: the shape is another.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise InputError(f"LinearAttention takes [B, {self.channels}, H, W]; got {list(x.shape)}")
        batch, _, height, width = x.shape
        qkv = self.to_qkv(self.norm(x)).flatten(2)  # [B, 3 heads D, H W]
        memory = None if self.mem_kv is None else (self.mem_kv[0], self.mem_kv[1])
        out = linear_attention_packed(qkv, heads=self.heads, memory=memory, backend=self.backend)
        return self.to_out(out.view(batch, -1, height, width))
