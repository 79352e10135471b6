"""Linear attention in pure torch: the specification that every backend is held to."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

QMap = Literal["softmax", "scale", "elu1"]
KMap = Literal["softmax", "elu1"]
Layout = Literal["bhnd", "bhdn"]
Memory = tuple[Tensor, Tensor]
Q_MAPS: tuple[str, ...] = get_args(QMap)  # their order is that of the kernels' enum
K_MAPS: tuple[str, ...] = get_args(KMap)
LAYOUTS: tuple[str, ...] = get_args(Layout)

EPS = 1e-6  # under the division of elu1
CAUSAL_CHUNK = 64  # positions whose products with each other are made at a time, as the kernel does


def reference_linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    q_map: QMap = "softmax",
    k_map: KMap = "softmax",
    scale: float | None = None,
    causal: bool = False,
    mask: Tensor | None = None,
    memory: Memory | None = None,
    layout: Layout = "bhnd",
) -> Tensor:
    """What `iqazoo.ops.linear_attention` computes, for any dtype and any D and E. Half types are computed in float32.

    Masked keys become -inf, which both maps send to 0, and masked values 0, so that what they held has no effect.
    """
    dtype = torch.promote_types(q.dtype, torch.float32)
    rows = (lambda t: t.mT) if layout == "bhdn" else (lambda t: t)
    wide_q, keys, values = (rows(t).to(dtype) for t in (q, k, v))  # [B, H, N, D], [B, H, N, D], [B, H, N, E]
    if mask is not None:
        hidden = ~mask[:, None, :, None]  # [B, 1, N, 1]
        keys, values = keys.masked_fill(hidden, -torch.inf), values.masked_fill(hidden, 0)
    learned = (keys[..., :0, :], values[..., :0, :])
    if memory is not None:
        learned = tuple(rows(m).to(dtype).expand(keys.shape[0], -1, -1, -1) for m in memory)  # [B, H, M, .]
    if k_map == "elu1":
        attend = _causal if causal else _normalized
        out = attend(elu1(wide_q), elu1(keys), values, elu1(learned[0]), learned[1])
    else:
        factor = scale_of(scale, q_map, wide_q.shape[-1])
        mapped = factor * (wide_q.softmax(-1) if q_map == "softmax" else wide_q)  # [B, H, N, D]
        weights = torch.cat((learned[0], keys), -2).softmax(-2)  # [B, H, M + N, D]
        context = weights.mT @ torch.cat((learned[1], values), -2)  # [B, H, D, E]
        out = mapped @ context
    return rows(out).to(q.dtype)


def elu1(x: Tensor) -> Tensor:
    """elu(x) + 1: x + 1 above 0, else exp(x), which keeps the digits that expm1(x) + 1 would lose."""
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


def scale_of(scale: float | None, q_map: str, features: int) -> float:
    """The factor of the mapped queries."""
    if q_map == "elu1":
        return 1.0
    return features**-0.5 if scale is None else scale


def _normalized(q: Tensor, k: Tensor, v: Tensor, first_k: Tensor, first_v: Tensor) -> Tensor:
    """phi(q) C / (phi(q) . z + eps), C = sum phi(k)^T v, z = sum phi(k), over all positions."""
    k, v = torch.cat((first_k, k), -2), torch.cat((first_v, v), -2)  # [B, H, M + N, .]
    total = k.sum(-2)  # [B, H, D]
    return q @ (k.mT @ v) / (q @ total[..., None] + EPS)


def _causal(q: Tensor, k: Tensor, v: Tensor, first_k: Tensor, first_v: Tensor) -> Tensor:
    """The same with the sums over the memory and the positions up to one's own."""
    context, total = first_k.mT @ first_v, first_k.sum(-2)  # [B, H, D, E], [B, H, D]
    parts = [v[..., :0, :]]
    for some_q, some_k, some_v in zip(*(t.split(CAUSAL_CHUNK, -2) for t in (q, k, v)), strict=True):
        scores = (some_q @ some_k.mT).tril()  # [B, H, n, n]
        divisor = some_q @ total[..., None] + scores.sum(-1, keepdim=True) + EPS  # [B, H, n, 1]
        parts.append((some_q @ context + scores @ some_v) / divisor)
        context, total = context + some_k.mT @ some_v, total + some_k.sum(-2)
    return torch.cat(parts, -2)
