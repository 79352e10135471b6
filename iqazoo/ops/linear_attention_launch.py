"""How the kernels of linear attention are called, and what they leave for the backward pass.

Every tensor with positions goes to a kernel as a `View`, as in csrc/common/linear_attention.h: its address and the
strides, in elements, of batch, head, position and feature. So slices of one packed tensor and both layouts are read
and written where they are. A view has stride 1 in its positions or in its features; a missing tensor is all zeros.

Kept for the backward pass, beside the inputs, in the accumulation type (float64 for float64, else float32), dense:

- softmax: the context C `[B, H, D, E]`, divided by the keys' sum, and log sum_n exp(k) `[B, H, D]`, infinite or NaN
  as torch.logsumexp has it;
- elu1: C = sum phi(k)^T v `[B, H, D, E]`, not divided, and z = sum phi(k) `[B, H, D]`, both over the memory and all
  positions even where `causal`, whose backward pass needs neither.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from iqazoo.ops.backend import FLOATS, dense, launch, module

View = tuple[int, int, int, int, int]
Memory = tuple[Tensor, ...]  # keys and values, or none
NO_VIEW: View = (0, 0, 0, 0, 0)


class Settings(NamedTuple):
    """What a kernel is told besides tensors and sizes."""

    q_map: int  # index in Q_MAPS
    scale: float  # of the mapped queries; 1 for elu1
    causal: bool
    positions_last: bool  # layout "bhdn"


class Inputs(NamedTuple):
    """Queries, keys and values `[B, H, N, .]` or `[B, H, . , N]`, mask `[B, N]`, learned columns `[H, M, .]`."""

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None
    memory: Memory


def view_of(x: Tensor, positions_last: bool) -> View:
    """Of `[B, H, N, D]`, or `[B, H, D, N]`; without B it is the same for the whole batch."""
    *batch, head, rows, columns = x.stride()
    if positions_last:
        rows, columns = columns, rows
    return x.data_ptr(), batch[0] if batch else 0, head, rows, columns


def readable(x: Tensor) -> Tensor:
    """The tensor with stride 1 in one of its last two dimensions, copied only if need be."""
    if x.is_neg():  # asking costs less than making sure
        x = x.resolve_neg()
    return x if 1 in x.stride()[-2:] else x.contiguous()


def empty_as(x: Tensor) -> Tensor:
    """Dense, and otherwise like `x`."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)  # half the time of x.new_empty(x.shape)


def writable(out: Tensor, *inputs: Tensor) -> bool:
    """Whether kernels can write there: in memory of its own, each element in one place."""
    apart = all(out.untyped_storage().data_ptr() != x.untyped_storage().data_ptr() for x in inputs)
    return apart and 1 in out.stride()[-2:] and 0 not in out.stride() and not out.is_neg()


def empty_sums(q: Tensor, v: Tensor, positions_last: bool) -> tuple[Tensor, Tensor]:
    """Context and normalizer: what is kept."""
    axis = 2 if positions_last else 3
    dtype = q.dtype if q.dtype in FLOATS else torch.float32
    shape = (*q.shape[:2], q.shape[axis], v.shape[axis])
    return q.new_empty(shape, dtype=dtype), q.new_empty(shape[:3], dtype=dtype)


def attend(out: Tensor, inputs: Inputs, settings: Settings) -> tuple[Tensor, Tensor]:
    """Writes `out`, like v in shape, and gives back context and normalizer."""
    inputs = _prepared(inputs)
    sums = empty_sums(inputs.q, inputs.v, settings.positions_last)
    _launch("linear_attention_forward", sums, inputs, (out,), settings)
    return sums


def differentiate(
    grad: Tensor,
    inputs: Inputs,
    sums: tuple[Tensor, Tensor],
    gradients: tuple[Tensor, Tensor, Tensor],
    settings: Settings,
) -> Memory:
    """Writes the gradients of q, k and v, given that of the output, and gives back those of the memory."""
    inputs = _prepared(inputs)
    dtype, batch = sums[0].dtype, len(inputs.q)
    to_memory = tuple(m.new_empty((batch, *m.shape), dtype=dtype) for m in inputs.memory)
    sums = dense(sums[0]), dense(sums[1])
    moving = (readable(grad), *gradients, *(to_memory or (None, None)))
    _launch("linear_attention_backward", sums, inputs, moving, settings)
    return tuple(m.sum(0).to(grad.dtype) for m in to_memory)


def _prepared(inputs: Inputs) -> Inputs:
    q, k, v, mask, memory = inputs
    if memory:
        memory = readable(memory[0]), readable(memory[1])
    return Inputs(readable(q), readable(k), readable(v), None if mask is None else dense(mask), memory)


def _launch(
    name: str,
    sums: tuple[Tensor, Tensor],
    inputs: Inputs,
    moving: tuple[Tensor | None, ...],
    settings: Settings,
) -> None:
    """Context, normalizer, views of q, k, v, memory's keys and values and of `moving`, mask, numbers: B, H, N, M, D, E,
    map, scale, causal. A GPU gets scratch in the accumulation type besides."""
    q, k, v, mask, memory = inputs
    last = settings.positions_last
    read = (q, k, v, *(memory or (None, None)))
    views = [NO_VIEW if x is None else view_of(x, last) for x in (*read, *moving)]
    columns = memory[0].shape[2 if last else 1] if memory else 0
    batch, heads, features, width = sums[0].shape
    sizes = (batch, heads, q.shape[3 if last else 2], columns, features, width)
    numbers = (*sizes, settings.q_map, settings.scale, settings.causal)
    backend = q.device.type
    scratch: tuple[Tensor, ...] = ()
    if backend == "cuda":
        scratch = (sums[0].new_empty(getattr(module(backend), f"{name}_scratch")(*sizes)),)
    launch(backend, name, *sums, *views, 0 if mask is None else mask, *numbers, *scratch, dtype=q.dtype)
