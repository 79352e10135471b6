"""Linear attention by kernels, with gradients: of three tensors, and of one that holds all three."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from iqazoo.ops.backend import traced, transformed
from iqazoo.ops.linear_attention_launch import (
    Inputs,
    Memory,
    Settings,
    attend,
    differentiate,
    empty_as,
    empty_sums,
    readable,
    writable,
)
from iqazoo.ops.linear_attention_reference import K_MAPS, Q_MAPS, reference_linear_attention
from iqazoo.ops.roads import gradients_by_torch, op


def fused(inputs: Inputs, settings: Settings, out: Tensor | None = None) -> Tensor:
    """For checked inputs; with `out`, into it and without a gradient."""
    q, k, v, mask, memory = inputs
    if out is None or traced(q) or not writable(out, q, k, v, *memory):
        found = _attend(q, k, v, mask, *_or_none(memory), *settings)[0]
        return found if out is None else out.copy_(found)
    attend(out, inputs, settings)
    return out


def fused_packed(
    qkv: Tensor, heads: int, mask: Tensor | None, memory: Memory, settings: Settings, out: Tensor | None = None
) -> Tensor:
    """The same for `[B, 3 H D, N]`."""
    if out is None or traced(qkv) or not writable(out, qkv, *memory):
        found = _attend_packed(qkv, mask, *_or_none(memory), heads, *settings[:3])[0]
        return found if out is None else out.copy_(found)
    attend(_split(out, 1, heads)[0], _unpacked(qkv, heads, mask, memory), settings)
    return out


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    memory_k: Tensor | None,
    memory_v: Tensor | None,
    q_map: int,
    scale: float,
    causal: bool,
    positions_last: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, context, normalizer."""
    out = empty_as(v)
    inputs = Inputs(q, k, v, mask, _pair(memory_k, memory_v))
    return out, *attend(out, inputs, Settings(q_map, scale, causal, positions_last))


def _fake(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    positions_last = rest[-1]
    return empty_as(v), *empty_sums(q, v, positions_last)


def _forward_gradients(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    memory_k: Tensor | None,
    memory_v: Tensor | None,
    context: Tensor,
    normalizer: Tensor,
    q_map: int,
    scale: float,
    causal: bool,
    positions_last: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """In q, k, v and the memory, whose are empty if there is none."""
    inputs = Inputs(q, k, v, mask, _pair(memory_k, memory_v))
    gradients = (empty_as(q), empty_as(k), empty_as(v))
    settings = Settings(q_map, scale, causal, positions_last)
    to_memory = differentiate(grad, inputs, (context, normalizer), gradients, settings)
    to_keys, to_values = to_memory or (q.new_empty(0), q.new_empty(0))
    return *gradients, to_keys, to_values


def _fake_gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *rest: Any
) -> tuple[Tensor, ...]:
    memory = rest[:2]
    return (*map(empty_as, (q, k, v)), *(q.new_empty(0 if m is None else m.shape) for m in memory))


def _forward_packed(
    qkv: Tensor,
    mask: Tensor | None,
    memory_k: Tensor | None,
    memory_v: Tensor | None,
    heads: int,
    q_map: int,
    scale: float,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, context, normalizer."""
    batch, channels, positions = qkv.shape
    out = qkv.new_empty((batch, channels // 3, positions))
    inputs = _unpacked(qkv, heads, mask, _pair(memory_k, memory_v))
    return out, *attend(_split(out, 1, heads)[0], inputs, Settings(q_map, scale, causal, True))


def _fake_packed(
    qkv: Tensor, mask: Tensor | None, memory_k: Tensor | None, memory_v: Tensor | None, heads: int, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    batch, channels, positions = qkv.shape
    q, _, v = _split(qkv, 3, heads)
    return qkv.new_empty((batch, channels // 3, positions)), *empty_sums(q, v, True)


def _forward_packed_gradients(
    grad: Tensor,
    qkv: Tensor,
    mask: Tensor | None,
    memory_k: Tensor | None,
    memory_v: Tensor | None,
    context: Tensor,
    normalizer: Tensor,
    heads: int,
    q_map: int,
    scale: float,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """In qkv and the memory."""
    inputs = _unpacked(qkv, heads, mask, _pair(memory_k, memory_v))
    gradient = empty_as(qkv)
    grad = _split(readable(grad), 1, heads)[0]
    q, k, v = _split(gradient, 3, heads)
    settings = Settings(q_map, scale, causal, True)
    to_memory = differentiate(grad, inputs, (context, normalizer), (q, k, v), settings)
    to_keys, to_values = to_memory or (qkv.new_empty(0), qkv.new_empty(0))
    return gradient, to_keys, to_values


def _fake_packed_gradients(grad: Tensor, qkv: Tensor, mask: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    memory = rest[:2]
    return empty_as(qkv), *(qkv.new_empty(0 if m is None else m.shape) for m in memory)


def _split(packed: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """`[B, parts H D, N]` as views `[B, H, D, N]`."""
    batch, channels, positions = packed.shape
    return packed.view(batch, parts, heads, channels // (parts * heads), positions).unbind(1)


def _unpacked(qkv: Tensor, heads: int, mask: Tensor | None, memory: Memory) -> Inputs:
    q, k, v = _split(readable(qkv), 3, heads)
    return Inputs(q, k, v, mask, memory)


def _pair(keys: Tensor | None, values: Tensor | None) -> Any:
    return () if keys is None or values is None else (keys, values)


def _or_none(memory: Memory) -> tuple[Tensor | None, ...]:
    return memory or (None, None)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """q, k, v, mask, memory and the settings; or qkv, mask, memory, heads and all settings but the last."""
    _, *sums = output
    count = 4 if len(inputs) == 8 else 6
    ctx.save_for_backward(*inputs[:count], *sums)
    ctx.numbers = inputs[count:]
    ctx.mark_non_differentiable(*sums)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, *incoming: Tensor | None) -> tuple[Tensor | None, ...]:
    return _any_backward(ctx, incoming[0], _gradients, 6)


def _backward_packed(ctx: Any, *incoming: Tensor | None) -> tuple[Tensor | None, ...]:
    return _any_backward(ctx, incoming[0], _packed_gradients, 4)


def _any_backward(ctx: Any, grad: Tensor | None, by_kernels: Any, count: int) -> tuple[Tensor | None, ...]:
    """A gradient for each of `count` tensors, of which the third last is the mask, and None for each number."""
    none = (None,) * len(ctx.numbers)
    if grad is None:
        return (None,) * count + none
    tensors = ctx.saved_tensors
    if torch.is_grad_enabled() or transformed(grad):  # with create_graph this is differentiated in turn
        needed = ctx.needs_input_grad[:count]
        return *gradients_by_torch(lambda *given: _attend_again(ctx, *given), tensors[:count], needed, grad), *none
    found = list(by_kernels(grad, *tensors, *ctx.numbers))
    found.insert(-2, None)  # of the mask
    return *(f if needed else None for f, needed in zip(found, ctx.needs_input_grad, strict=False)), *none


def _attend_again(ctx: Any, *tensors: Any) -> Tensor:
    *first, mask, memory_k, memory_v = tensors
    packed = len(first) == 1
    if packed:
        q, k, v = _split(first[0], 3, ctx.numbers[0])
        q_map, scale, causal = ctx.numbers[1:]
        settings = Settings(q_map, scale, causal, True)
    else:
        settings, (q, k, v) = Settings(*ctx.numbers), first
    out = reference_linear_attention(q, k, v, mask=mask, memory=_pair(memory_k, memory_v) or None, **options(settings))
    return out.flatten(1, 2) if packed else out


def options(settings: Settings) -> dict[str, Any]:
    """As keyword arguments of the reference."""
    q_map = Q_MAPS[settings.q_map]
    elu1 = q_map == "elu1"
    layout = "bhdn" if settings.positions_last else "bhnd"
    scale = None if elu1 else settings.scale
    return {"q_map": q_map, "k_map": K_MAPS[elu1], "scale": scale, "causal": settings.causal, "layout": layout}


_attend = op("linear_attention", _forward, fake=_fake, setup_context=_save, backward=_backward, internal=2)
_gradients = op("linear_attention_backward", _forward_gradients, fake=_fake_gradients)
_attend_packed = op(
    "linear_attention_packed",
    _forward_packed,
    fake=_fake_packed,
    setup_context=_save,
    backward=_backward_packed,
    internal=2,
)
_packed_gradients = op("linear_attention_packed_backward", _forward_packed_gradients, fake=_fake_packed_gradients)
