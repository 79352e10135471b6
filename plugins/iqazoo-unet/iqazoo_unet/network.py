"""The network of unet and unet-time."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from iqazoo import InputError
from iqazoo.ops import feature_distance
from iqazoo_unet.blocks import BlockNorm
from iqazoo_unet.encoder import Encoder
from iqazoo_unet.noise import Noise, check_step

DEFAULT_STEP = 50


class UNet(nn.Module):
    """Weighted distances between what a U-Net's encoder makes of two images: `[B, 3, H, W]` in [0, 1] twice -> `[B]`.

    0 for equal images, and more the further they are apart. With a time embedding the features are those of the images
    at noise level t, as diffusion models see them; image and reference get the same noise.

    Args:
        dim: channels of the first level.
        dim_mults: after each level there are so many times `dim` channels; each but the last halves the size.
        heads: of each attention.
        dim_head: channels of each head; iqazoo's kernels take 16 to 128.
        with_time_emb: whether there is a time embedding, and with it noise.
        t: the step of a diffusion of 1000 (cosine schedule) whose noise the images get, 50 if not given; only with a
            time embedding.
        seed: of the noise.
        groups: of the GroupNorms.
        block_norm: "group", or "rms" for checkpoints whose blocks have that.
        stride: of the first convolution. 2 costs a quarter; 1 is as in diffusion models.

    Raises:
        InputError: a number is out of range, channels cannot be divided by groups, or there is a t without embedding.
    """

    def __init__(
        self,
        dim: int = 16,
        dim_mults: tuple[int, ...] = (1, 2, 4),
        heads: int = 2,
        dim_head: int = 16,
        with_time_emb: bool = False,
        t: int | None = None,
        seed: int = 0,
        groups: int = 8,
        block_norm: BlockNorm = "group",
        stride: int = 2,
    ) -> None:
        super().__init__()
        _check(dim, dim_mults, heads, dim_head, groups, block_norm, stride)
        self.trunk = Encoder(
            dim,
            dim_mults,
            heads,
            dim_head,
            with_time_emb=with_time_emb,
            groups=groups,
            block_norm=block_norm,
            stride=stride,
        )
        self.t = self._step(t, DEFAULT_STEP)
        self.noise = Noise(seed) if with_time_emb else None
        share = 1 / len(self.trunk.channels)
        self.heads = nn.ParameterList(torch.full((c,), share) for c in self.trunk.channels)

    def features(self, image: Tensor, t: int | None = None) -> list[Tensor]:
        """`[B, 3, H, W]` in [0, 1] -> the encoder's maps, `[B, C_i, H_i, W_i]`, at step `t` or the network's own.

        Raises:
            InputError: t is no step, or the network has no time embedding.
        """
        step = self._step(t, self.t)
        x = 2 * image - 1
        if self.noise is None or step is None:
            return self.trunk(x)
        return self.trunk(self.noise(x, step), torch.full((1,), step, dtype=x.dtype, device=x.device))

    def distance(self, f_image: Sequence[Tensor], f_reference: Sequence[Tensor]) -> Tensor:
        """Two results of `features` -> `[B]`, the sum of the levels' distances."""
        levels = zip(f_image, f_reference, self.heads, strict=True)
        return torch.stack([feature_distance(a, b, weight) for a, b, weight in levels]).sum(0)

    def forward(self, image: Tensor, reference: Tensor, t: int | None = None) -> Tensor:
        """`[B, 3, H, W]` in [0, 1] twice -> `[B]`, at step `t` or the network's own.

        Raises:
            InputError: as `features`.
        """
        return self.distance(self.features(image, t), self.features(reference, t))

    def channel_means(self, f_image: Sequence[Tensor], f_reference: Sequence[Tensor]) -> Tensor:
        """Two results of `features` -> `[B, C]`, over the channels of all levels: what the heads weigh."""
        pairs = zip(f_image, f_reference, strict=True)
        return torch.cat([feature_distance(a, b, reduction="channel") for a, b in pairs], 1)

    def combine(self, means: Tensor) -> Tensor:
        """`[..., C]` of `channel_means` -> `[...]`: with these two, `--cache-features` trains the heads in seconds."""
        return means @ torch.cat(list(self.heads))

    @torch.no_grad()
    def constrain_(self) -> None:
        """Called after each step of training: a larger difference must never be a smaller distance."""
        for weight in self.heads:
            weight.clamp_(min=0)

    def _step(self, t: int | None, otherwise: int | None) -> int | None:
        if self.trunk.time_mlp is not None:
            return otherwise if t is None else check_step(t)
        if t is not None:
            raise InputError(f"without a time embedding there is no step; got t={t!r}: take with_time_emb=True")
        return None


def _check(
    dim: int,
    dim_mults: Sequence[int],
    heads: int,
    dim_head: int,
    groups: int,
    block_norm: str,
    stride: int,
) -> None:
    numbers = {"dim": dim, "heads": heads, "dim_head": dim_head, "groups": groups, "stride": stride}
    for name, value in numbers.items():
        if value < 1:
            raise InputError(f"{name} must be 1 or more; got {value!r}")
    if not dim_mults or min(dim_mults) < 1:
        raise InputError(f"dim_mults must be one or more whole numbers from 1; got {dim_mults!r}")
    if block_norm not in ("group", "rms"):
        raise InputError(f"block_norm must be 'group' or 'rms'; got {block_norm!r}")
    if block_norm == "group" and dim % groups:
        raise InputError(f"dim must be a multiple of groups; got dim={dim}, groups={groups}: change one of them")
    if dim % 2 or dim < 4:
        raise InputError(f"dim must be even and 4 or more; got {dim}")
