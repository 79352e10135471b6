"""Attention whose cost is linear in the number of positions: keys and values meet before the queries."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from iqazoo.errors import InputError
from iqazoo.ops.backend import DTYPES, Backend, choose
from iqazoo.ops.linear_attention_launch import Inputs, Settings
from iqazoo.ops.linear_attention_ops import fused, fused_packed
from iqazoo.ops.linear_attention_reference import (
    K_MAPS,
    LAYOUTS,
    Q_MAPS,
    KMap,
    Layout,
    Memory,
    QMap,
    reference_linear_attention,
    scale_of,
)

__all__ = ["KMap", "Layout", "QMap", "linear_attention", "linear_attention_packed", "reference_linear_attention"]

WIDTHS = range(16, 129)  # the D and E that kernels take
KERNEL = "linear_attention_forward"
CAUSAL_KERNELS = ("cpu",)  # the backends that have a causal one


def linear_attention(
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
    out: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Linear attention of each head, in O(N D E) time and, beyond inputs and outputs, memory that N hardly moves.

    With k_map "softmax", over positions, and q_map "softmax", over features, or "scale" (Shen et al., Efficient
    Attention, WACV 2021; as in the U-Nets of diffusion models):

        C[d, e] = sum_n softmax(k)[n, d] v[n, e],    out[n, e] = sum_d scale * q_map(q)[n, d] C[d, e]

    With "elu1" for both, phi(x) = elu(x) + 1 (Katharopoulos et al., Transformers are RNNs, ICML 2020):

        out[n, e] = sum_d phi(q)[n, d] C[d, e] / (sum_d phi(q)[n, d] z[d] + 1e-6),
        C[d, e] = sum_m phi(k)[m, d] v[m, e],    z[d] = sum_m phi(k)[m, d]

    Differentiable in q, k, v and memory; a second derivative is taken through `reference_linear_attention`.

    Args:
        q: `[B, H, N, D]`, floating point; `[B, H, D, N]` for layout "bhdn". Any strides.
        k: the same shape and dtype.
        v: `[B, H, N, E]` or `[B, H, E, N]`, the same dtype.
        q_map: "softmax", "scale" (queries as they are) or "elu1".
        k_map: "softmax" or "elu1"; "elu1" pairs only with "elu1".
        scale: the factor of the mapped queries, by default D ** -0.5; not for elu1, which divides.
        causal: position n sees the memory and positions up to n; only for elu1.
        mask: `[B, N]`, bool; only keys and values that are True take part. What the others hold has no effect, and
            every query still has a result.
        memory: keys `[H, M, D]` and values `[H, M, E]` (`[H, D, M]` and `[H, E, M]` for "bhdn") that stand before the
            positions of each batch element; another dtype is converted.
        layout: the order of dimensions of q, k, v and the result.
        out: where to write the result; only where no gradient is asked for.
        backend: "torch", "cpu", "cuda", or "auto" for the fastest that fits. Kernels take D and E from 16 to 128.

    Returns:
        `[B, H, N, E]` or `[B, H, E, N]` in q's dtype. Half types are computed in float32, but that a GPU multiplies
        mapped queries and keys and the context as that type. A head whose keys are all masked or -inf is NaN under
        softmax, 0 under elu1.

    Raises:
        InputError: shapes, dtypes, devices or options are not as above, or the backend cannot take them.
    """
    _check_maps(q_map, k_map, scale, causal)
    _check_inputs(q, k, v, layout)
    batch, heads, positions, features, width = sizes(q, v, layout)
    _check_mask(mask, q, batch, positions)
    learned = _checked_memory(memory, q, heads, features, width, layout)
    if out is not None:
        _check_out(out, v.shape, q, (q, k, v, *learned))
    tensors = (q, k, v, *learned)
    if _chosen(backend, tensors, features, width, causal) == "torch":
        options = {"q_map": q_map, "k_map": k_map, "scale": scale, "causal": causal, "layout": layout}
        found = reference_linear_attention(q, k, v, mask=mask, memory=learned or None, **options)
        return found if out is None else out.copy_(found)
    factor = scale_of(scale, q_map, features)
    settings = Settings(Q_MAPS.index(q_map), factor, causal, layout == "bhdn")
    return fused(Inputs(q, k, v, mask, learned), settings, out)


def linear_attention_packed(
    qkv: Tensor,
    *,
    heads: int,
    q_map: QMap = "softmax",
    k_map: KMap = "softmax",
    scale: float | None = None,
    causal: bool = False,
    mask: Tensor | None = None,
    memory: Memory | None = None,
    out: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """`linear_attention` of what one projection made, without copies: its gradient is one tensor too.

    Args:
        qkv: `[B, 3 H D, N]`, floating point: H queries of D channels, then the keys, then the values.
        heads: H.
        q_map: as in `linear_attention`, like all that follows; D = E, and `memory` is laid out as for "bhdn".
        k_map: as there.
        scale: as there.
        causal: as there.
        mask: as there.
        memory: keys and values, each `[H, D, M]`.
        out: `[B, H D, N]`.
        backend: as there.

    Returns:
        `[B, H D, N]` in the dtype of qkv.

    Raises:
        InputError: as there.
    """
    _check_maps(q_map, k_map, scale, causal)
    features = _checked_packing(qkv, heads)
    batch, _, positions = qkv.shape
    _check_mask(mask, qkv, batch, positions)
    learned = _checked_memory(memory, qkv, heads, features, features, "bhdn")
    if out is not None:
        _check_out(out, torch.Size((batch, heads * features, positions)), qkv, (qkv, *learned))
    if _chosen(backend, (qkv, *learned), features, features, causal) == "torch":
        options = {"q_map": q_map, "k_map": k_map, "scale": scale, "causal": causal, "layout": "bhdn"}
        q, k, v = qkv.unflatten(1, (3, heads, features)).unbind(1)  # [B, H, D, N] each
        found = reference_linear_attention(q, k, v, mask=mask, memory=learned or None, **options).flatten(1, 2)
        return found if out is None else out.copy_(found)
    settings = Settings(Q_MAPS.index(q_map), scale_of(scale, q_map, features), causal, True)
    return fused_packed(qkv, heads, mask, learned, settings, out)


def sizes(q: Tensor, v: Tensor, layout: str) -> tuple[int, int, int, int, int]:
    """B, H, N, D, E."""
    batch, heads, rows, columns = q.shape
    if layout == "bhdn":
        return batch, heads, columns, rows, v.shape[2]
    return batch, heads, rows, columns, v.shape[3]


def _chosen(
    backend: Backend, tensors: tuple[Tensor, ...], features: int, width: int, causal: bool
) -> Literal["torch", "cpu", "cuda"]:
    chosen = choose(backend, *tensors, kernel=KERNEL)
    if chosen == "torch":
        return chosen
    if features not in WIDTHS or width not in WIDTHS:
        reason = f"its kernels take D and E from {WIDTHS[0]} to {WIDTHS[-1]}, got {features} and {width}"
    elif causal and chosen not in CAUSAL_KERNELS:
        reason = "it has no causal kernel"
    else:
        return chosen
    if backend == "auto":
        return "torch"
    raise InputError(f'backend="{backend}" cannot take this call: {reason}. backend="auto" always works')


def _check_maps(q_map: str, k_map: str, scale: float | None, causal: bool) -> None:
    if q_map not in Q_MAPS or k_map not in K_MAPS:
        raise InputError(f"q_map is one of {', '.join(Q_MAPS)}, k_map of {', '.join(K_MAPS)}; got {q_map!r}, {k_map!r}")
    if (q_map == "elu1") != (k_map == "elu1"):
        raise InputError(f'"elu1" pairs only with "elu1"; got q_map={q_map!r}, k_map={k_map!r}: set both or none')
    if q_map == "elu1" and scale is not None:
        raise InputError(f"elu1 divides by a sum in which a scale would cancel; leave scale=None, got {scale!r}")
    if causal and k_map == "softmax":
        raise InputError(
            "a softmax over positions cannot be causal: its divisor is a sum over all of them, also those to come; "
            'take q_map="elu1", k_map="elu1", or causal=False'
        )


def _check_inputs(q: Tensor, k: Tensor, v: Tensor, layout: str) -> None:
    if layout not in LAYOUTS:
        raise InputError(f"layout must be one of {', '.join(map(repr, LAYOUTS))}; got {layout!r}")
    axis = 2 if layout == "bhnd" else 3  # of the positions
    fits = q.ndim == v.ndim == 4 and q.shape == k.shape and q.shape[:2] == v.shape[:2]
    if not fits or q.shape[axis] != v.shape[axis] or 0 in (q.shape[5 - axis], v.shape[5 - axis]):
        expected = "[B, H, N, D] for q and k, [B, H, N, E] for v"
        if layout == "bhdn":
            expected = "[B, H, D, N] for q and k, [B, H, E, N] for v"
        shapes = " and ".join(str(list(t.shape)) for t in (q, k, v))
        raise InputError(f'linear_attention with layout="{layout}" takes {expected}, D and E not 0; got {shapes}')
    _check_alike("q, k and v", q, k, v)


def _check_alike(names: str, *tensors: Tensor) -> None:
    dtype, device = tensors[0].dtype, tensors[0].device
    one_dtype, one_device = dtype in DTYPES, True
    for tensor in tensors:  # a loop, not generators, which would cost as much as a small call's kernel
        one_dtype &= tensor.dtype == dtype
        one_device &= tensor.device == device
    if not one_dtype:
        found = ", ".join(str(t.dtype) for t in tensors)
        raise InputError(f"{names} must be of one dtype, {', '.join(DTYPES.values())}; got {found}: convert with .to()")
    if not one_device:
        raise InputError(f"{names} must be on one device, got {', '.join(str(t.device) for t in tensors)}; move some")


def _checked_packing(qkv: Tensor, heads: int) -> int:
    """D."""
    if qkv.ndim != 3 or heads < 1 or qkv.shape[1] == 0 or qkv.shape[1] % (3 * heads):
        raise InputError(
            f"linear_attention_packed takes [B, 3 * heads * D, N], heads and D at least 1; got {list(qkv.shape)} and "
            f"heads={heads}; flatten the pixels of a feature map by x.flatten(2)"
        )
    _check_alike("qkv", qkv)
    return qkv.shape[1] // (3 * heads)


def _check_mask(mask: Tensor | None, q: Tensor, batch: int, positions: int) -> None:
    if mask is None:
        return
    if mask.dtype != torch.bool or mask.shape != (batch, positions):
        raise InputError(
            f"mask must be bool [B, N] = {[batch, positions]}, True for positions that take part; "
            f"got {mask.dtype} {list(mask.shape)}"
        )
    if mask.device != q.device:
        raise InputError(f"mask is on {mask.device}, the queries on {q.device}; move one with .to(device)")


def _checked_memory(
    memory: Any, like: Tensor, heads: int, features: int, width: int, layout: str
) -> tuple[()] | tuple[Tensor, Tensor]:
    """Keys and values in the dtype of `like`, or nothing."""
    if memory is None:
        return ()
    if not isinstance(memory, (tuple, list)) or len(memory) != 2:
        raise InputError(f"memory must be two tensors, keys and values; got {type(memory).__name__}")
    keys, values = memory
    columns = keys.shape[-2 if layout == "bhnd" else -1] if keys.ndim == 3 else 0
    expected = [(heads, columns, size) if layout == "bhnd" else (heads, size, columns) for size in (features, width)]
    if [tuple(keys.shape), tuple(values.shape)] != expected:
        form = "[H, M, D] and [H, M, E]" if layout == "bhnd" else "[H, D, M] and [H, E, M]"
        raise InputError(
            f'memory must be {form} for layout="{layout}", with H = {heads}, D = {features}, E = {width}; '
            f"got {list(keys.shape)} and {list(values.shape)}"
        )
    if not (keys.is_floating_point() and values.is_floating_point()):
        raise InputError(f"memory must be floating point, got {keys.dtype} and {values.dtype}")
    if keys.device != like.device or values.device != like.device:
        raise InputError(f"memory is on {keys.device} and {values.device}, the queries on {like.device}; move one")
    return keys.to(like.dtype), values.to(like.dtype)


def _check_out(out: Tensor, shape: torch.Size, like: Tensor, inputs: tuple[Tensor, ...]) -> None:
    if out.shape != shape or out.dtype != like.dtype or out.device != like.device:
        expected, got = f"{like.dtype} {list(shape)}", f"{out.dtype} {list(out.shape)}"
        raise InputError(f"out must be {expected} on {like.device}; got {got} on {out.device}")
    if torch.is_grad_enabled() and any(t.requires_grad for t in (out, *inputs)):
        raise InputError("out= takes no part in gradients; call under torch.no_grad(), or without out=")
