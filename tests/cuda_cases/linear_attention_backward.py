"""csrc/cuda/linear_attention_backward.cu on the CPU: what to run, and which changes of it must be noticed."""

from __future__ import annotations

from typing import Any

import torch
from cuda_cases.linear_attention import CASES, MAPS, NO_VIEW, STRIP, TILE, TOLERANCE, Problem, shrunk
from cuda_shim import Kernels, Mutant, Op
from torch import Tensor

from iqazoo.ops.linear_attention_reference import reference_linear_attention

PRODUCTS = "cuda/linear_attention_products.h"
KEYS = "cuda/linear_attention_keys.h"
QUERIES = "cuda/linear_attention_queries.h"


def run(kernels: Kernels, problem: Problem) -> tuple[Tensor, ...]:
    """Gradients of q, k, v and the memory, summed over the batch."""
    dtype, batch = problem.q.dtype, len(problem.q)
    like = (problem.q, problem.k, problem.v)
    if problem.packed:
        packed = kernels.empty(batch, 3, *problem.q.shape[1:], dtype=dtype)
        gradients = packed.unbind(1)
    else:
        gradients = tuple(kernels.empty(*x.shape, dtype=dtype) for x in like)
    to_memory = tuple(kernels.empty(batch, *m.shape, dtype=torch.float32) for m in problem.memory)
    sums = tuple(x.float() for x in problem.sums())
    size = kernels.module.linear_attention_backward_scratch(*problem.sizes)
    scratch = kernels.empty(size, dtype=torch.float32)
    tensors, memory = problem.arguments()
    moving = tuple(map(problem.view, (problem.grad, *gradients, *to_memory)))
    views = (*tensors, *memory, *moving, *(() if to_memory else (NO_VIEW,) * 2))
    kernels("linear_attention_backward", *sums, *views, *problem.numbers(), scratch, dtype=dtype)
    found = (*(x.cpu() for x in gradients), *(x.cpu().double().sum(0) for x in to_memory))
    return shrunk(found, expected(problem), dtype)


def expected(problem: Problem) -> tuple[Tensor, ...]:
    """The same in float64."""
    learned = [x.double().requires_grad_() for x in (problem.q, problem.k, problem.v, *problem.memory)]
    memory: Any = tuple(learned[3:]) or None
    out = reference_linear_attention(*learned[:3], mask=problem.mask, memory=memory, **problem.options)
    return torch.autograd.grad(out, learned, problem.grad.double())


def reference(problem: Problem) -> tuple[Tensor, ...]:
    wanted = expected(problem)
    return shrunk(wanted, wanted, torch.float64)


OP = Op(
    source="linear_attention_backward",
    cases=CASES,
    run=run,
    reference=reference,
    tolerance=TOLERANCE,
    mutants=(
        Mutant(
            "tiles written while they are read",
            "    if constexpr (kTurns<T, W> == 1) __syncthreads();  // the last tiles are read\n",
            "",
            QUERIES,
        ),
        Mutant("a warp's features left out", "warp < W / 16; ++warp", "warp < W / 16 - 1; ++warp", QUERIES),
        Mutant(
            "sums read before they are written",
            "  __syncthreads();\n  if constexpr (map != Map::scale) join",
            "  if constexpr (map != Map::scale) join",
            QUERIES,
        ),
        Mutant(
            "dots read before they are written",
            "context.inverse, context.dots);\n  __syncthreads();",
            "context.inverse, context.dots);",
            QUERIES,
        ),
        Mutant(
            "gradients over queries that are read",
            "__syncthreads();  // the tile is read; from here on it holds the gradient\n",
            "",
            QUERIES,
        ),
        Mutant(
            "queries used before they are divided",
            "scale_positions<W>(tile, context.inverse);\n    __syncthreads();",
            "scale_positions<W>(tile, context.inverse);",
            QUERIES,
        ),
        Mutant(
            "rows of the divisor's gradient mixed", "to_z[1] += d < row + 8 ? 0.0f : add", "to_z[1] += add", QUERIES
        ),
        Mutant("a part dropped", "s < splits; ++s) sum +=", "s + 1 < splits; ++s) sum +="),
        Mutant("no scale", "    sum *= factor;\n", ""),
        Mutant("NaN where hidden", "if (here.mask) {  // even", "if (false) {  // even", KEYS),
        Mutant(
            "the first tile of the memory's gradient twice",
            "Place(all.to_memory_k, part.b, part.h, t *",
            "Place(all.to_memory_k, part.b, part.h, 0 *",
            KEYS,
        ),
        Mutant(
            "shared memory too small",
            "kTileBytes<W> + 2 * W * sizeof(float);",
            "kTileBytes<W> + W * sizeof(float);",
            KEYS,
        ),
        Mutant(
            "a tile's pieces turned",
            "piece.row + k, piece.position);\n  int4",
            "piece.row, piece.position);\n  int4",
            TILE,
        ),
        Mutant("softmax over padding", "if (row + r >= features) x", "if (false) x", MAPS),
        Mutant(
            "a context too large for a half", "kNarrow<T> ? exponent_of", "false ? exponent_of", KEYS, torch.float16
        ),
        Mutant("weights left unboosted", "kLog2E, kBoostExponent<T>)", "kLog2E, 0.0f)", KEYS, torch.float16),
        Mutant(
            "large logits rounded before they are subtracted",
            "fmaf(x - shift, kLog2E, kBoostExponent<T>)",
            "fmaf(x, kLog2E, kBoostExponent<T> - shift * kLog2E)",
            KEYS,
            torch.bfloat16,
        ),
        Mutant("NaN where hidden, of halves", "if (!here.mask) continue;", "continue;", KEYS, torch.bfloat16),
        Mutant(
            "keys not turned",
            "load_strip<T, W, true>(right, keys",
            "load_strip<T, W, false>(right, keys",
            KEYS,
            torch.bfloat16,
        ),
        Mutant(
            "softmax over padding, of halves",
            "if (features < W && 8 * i + g >= features)",
            "if (false)",
            QUERIES,
            torch.bfloat16,
        ),
        Mutant("a strip's dot left out", "(first - dot.x)", "first", QUERIES, torch.bfloat16),
        Mutant(
            "a strip's divisor of one feature",
            "to_z[i] += x.x * dot.x",
            "to_z[0] += x.x * dot.x",
            QUERIES,
            torch.bfloat16,
        ),
        Mutant(
            "rows of a fragment turned",
            "row + matrix % 2 * 8 + line, n + matrix / 2 * 8",
            "row + matrix / 2 * 8 + line, n + matrix % 2 * 8",
            PRODUCTS,
            torch.bfloat16,
        ),
        Mutant(
            "columns of a fragment turned",
            "below, n + matrix % 2 * 8",
            "below, n + matrix / 2 * 8",
            PRODUCTS,
            torch.bfloat16,
        ),
        Mutant(
            "an upright matrix moved", "(lane.upright, 16 * m, k)", "(lane.upright, 16 * m, 0)", STRIP, torch.float16
        ),
    ),
)
