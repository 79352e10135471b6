"""Linear attention on a GPU, beside the usual einsums, and beside what torch.compile makes of them.

`bytes` are those of the inputs read once and the outputs written once: four tensors forward, seven more backward.
"""

import math
from functools import cache, partial

import torch
from gpu_case import Case

from iqazoo.ops import linear_attention, linear_attention_packed

# B, H, N, D: a U-Net's 128 x 128 maps, wide heads, one long head, and one for machines without a GPU.
SHAPES = [(16, 4, 16384, 32), (2, 16, 32768, 64), (8, 8, 16384, 128), (1, 1, 65536, 32), (2, 2, 256, 32)]
HALF = torch.bfloat16


def inputs(shape, dtype, grad, device):
    batch, heads, positions, features = shape
    qkv = torch.randn(batch, 3 * heads * features, positions, device=device).to(dtype)
    return (qkv.requires_grad_(grad),)


def unfused(qkv, heads):
    """As U-Nets of diffusion models write it, in the dtype of qkv."""
    q, k, v = qkv.unflatten(1, (3, heads, -1)).unbind(1)  # [B, H, D, N] each
    q = q.softmax(-2) * q.shape[-2] ** -0.5
    context = torch.einsum("bhdn,bhen->bhde", k.softmax(-1), v)
    return torch.einsum("bhde,bhdn->bhen", context, q).flatten(1, 2)


@cache
def compiled():
    return torch.compile(unfused, dynamic=False)


def unfused_or_compiled(qkv, heads, compile):
    return (compiled() if compile else unfused)(qkv, heads)


def fused(qkv, heads):
    return linear_attention_packed(qkv, heads=heads, backend="cuda")


def fused_tokens(qkv, heads):
    """The same numbers as `[B, H, N, D]`."""
    q, k, v = qkv.view(qkv.shape[0], 3, heads, qkv.shape[2], -1).unbind(1)
    return linear_attention(q, k, v, backend="cuda")


def value_and_gradient(qkv, function):
    out = function(qkv)
    return torch.autograd.grad(out.sum(), qkv)


def case(shape, dtype, what, *, compile=False, tokens=False):
    heads, gradient = shape[1], what.startswith("value and")
    functions = [partial(fused_tokens if tokens else fused, heads=heads)]
    functions.append(partial(unfused_or_compiled, heads=heads, compile=compile))
    if gradient:
        functions = [partial(value_and_gradient, function=function) for function in functions]
    return Case(
        op="linear_attention",
        what=what + (", tokens" if tokens else "") + (", against torch.compile" if compile else ""),
        shape=f"{list(shape)} {str(dtype).removeprefix('torch.')}",
        inputs=partial(inputs, shape, dtype, gradient),
        fused=functions[0],
        plain=functions[1],
        bytes=dtype.itemsize * (11 if gradient else 4) * math.prod(shape),
        # Two products forward, four backward. On the matrix units of half types they are never the limit.
        operations=(12 if gradient else 4) * math.prod(shape) * shape[3] if dtype is torch.float32 else 0,
    )


WHATS = ("value", "value and gradient")
CASES = [case(shape, HALF, what) for what in WHATS for shape in SHAPES]
CASES += [case(shape, torch.float32, what) for what in WHATS for shape in SHAPES[:3]]
CASES += [case(SHAPES[0], torch.float16, what) for what in WHATS]
CASES += [case(shape, HALF, what, tokens=True) for what in WHATS for shape in SHAPES[:2]]
CASES += [case(shape, HALF, what, compile=True) for what in WHATS for shape in SHAPES[:2]]
