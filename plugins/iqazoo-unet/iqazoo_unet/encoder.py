"""The contracting half of a diffusion U-Net, with the parameter names of denoising-diffusion-pytorch."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from iqazoo.nets import LinearAttention
from iqazoo_unet.blocks import BlockNorm, FullAttention, ResnetBlock, time_mlp

MEMORY = 4  # learned columns of each attention


class Encoder(nn.Module):
    """Level by level two blocks, attention, and half the size; the coarsest level has full attention, others linear.

    Args:
        dim: channels of the first level.
        dim_mults: after each level there are so many times `dim` channels; as many levels as there are numbers.
        heads: of each attention.
        dim_head: channels of each head.
        with_time_emb: whether blocks are told a time.
        groups: of the GroupNorms.
        block_norm: "group" or "rms".
        stride: of the first convolution.
    """

    def __init__(
        self,
        dim: int,
        dim_mults: Sequence[int],
        heads: int,
        dim_head: int,
        *,
        with_time_emb: bool,
        groups: int,
        block_norm: BlockNorm,
        stride: int,
    ) -> None:
        super().__init__()
        widths = [dim, *(dim * m for m in dim_mults)]
        time_channels = 4 * dim if with_time_emb else None
        self.channels = (dim, *widths)  # of what `forward` gives
        self.multiple = stride * 2 ** (len(dim_mults) - 1)  # height and width are padded to multiples of it
        self.init_conv = nn.Conv2d(3, dim, 7, stride=stride, padding=3)
        self.time_mlp = time_mlp(dim, time_channels) if time_channels else None
        last = len(dim_mults) - 1

        def block(channels: int) -> ResnetBlock:
            return ResnetBlock(channels, groups, block_norm, time_channels)

        def attention(channels: int, level: int) -> nn.Module:
            kind = FullAttention if level >= last else LinearAttention
            return kind(channels, heads, dim_head, MEMORY)

        self.downs = nn.ModuleList()
        for level, (channels, wider) in enumerate(pairwise(widths)):
            # In a Sequential behind nothing learned, as published: "downs.0.3.1.weight".
            halved = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * channels, wider, 1))
            out = halved if level < last else nn.Conv2d(channels, wider, 3, padding=1)
            self.downs.append(
                nn.ModuleList([block(channels), block(channels), attention(channels, level), out]),
            )
        self.mid_block1 = block(widths[-1])
        self.mid_attn = attention(widths[-1], last)
        self.mid_block2 = block(widths[-1])

    def forward(self, x: Tensor, t: Tensor | None = None) -> list[Tensor]:
        """`[B, 3, H, W]` and times `[1 or B]` -> the maps after the first convolution, each level and the middle."""
        x = padded(padded(x, 2, self.multiple), 3, self.multiple)
        time = None if self.time_mlp is None or t is None else self.time_mlp(t)  # [1 or B, 4 dim]
        x = self.init_conv(x)
        found = [x]
        for level in self.downs:
            block1, block2, attention, out = cast(Any, level)
            x = block2(block1(x, time), time)
            x = x + attention(x)
            found.append(x)
            x = out(x)
        x = self.mid_block1(x, time)
        x = x + self.mid_attn(x)
        found.append(self.mid_block2(x, time))
        return found


def padded(x: Tensor, axis: int, multiple: int) -> Tensor:
    """`x` with its last row or column repeated until there is a multiple of so many along the axis."""
    missing = -x.shape[axis] % multiple
    if not missing:
        return x
    # Not F.pad, whose gradient torch.compile takes for contiguous where it is channels_last.
    last = x.narrow(axis, x.shape[axis] - 1, 1)
    return torch.cat([x, *[last] * missing], axis)
