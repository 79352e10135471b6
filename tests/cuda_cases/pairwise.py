"""csrc/cuda/pairwise.cu on the CPU: what to run, and which changes of it must be noticed."""

import math

import torch
from cuda_shim import Mutant, Op

from iqazoo.ops.pairwise import KINDS, REDUCTIONS, TIES, reference_pairwise_loss

REDUCE = "cuda/reduce.h"  # its mutants are here, where a block sums twice


def inputs(size, *, put=None, **options):
    """Three `[size]`, some scores tied, and the options."""

    def make(dtype):
        generator = torch.Generator().manual_seed(size)
        a, b, h = torch.rand(3, size, generator=generator, dtype=torch.float64)
        a, b = 4 * a, 4 * b
        b[::5] = a[::5]
        if put is not None:
            a[size // 2] = put
        defaults = {"kind": "bce", "lower_is_better": True, "reduction": "mean", "ties": "half", "margin": 0.25}
        return a.to(dtype), b.to(dtype), h.to(dtype), defaults | options

    return make


def run(kernels, a, b, h, options):
    size, reduced = len(a), options["reduction"] != "none"
    shape = () if reduced else (size,)
    loss, agreement = (kernels.empty(*shape, dtype=a.dtype) for _ in range(2))
    gradient = kernels.empty(size, dtype=a.dtype)
    partial = kernels.empty(kernels.module.pairwise_partials(size), dtype=torch.float64)
    numbers = (KINDS[options["kind"]], int(options["lower_is_better"]), options["margin"])
    numbers = (*numbers, REDUCTIONS[options["reduction"]], TIES[options["ties"]])
    kernels("pairwise", a, b, h, loss, agreement, gradient, partial, size, *numbers)
    kernels("pairwise", a, b, h, loss, agreement, 0, partial, size, *numbers)  # nothing is to be learned
    return loss, agreement, gradient


def reference(a, b, h, options):
    a = a.double().requires_grad_()
    found = reference_pairwise_loss(a, b.double(), h.double(), **options)
    (gradient,) = torch.autograd.grad(found.loss.sum(), a)
    return found.loss.detach(), found.agreement, gradient


OP = Op(
    source="pairwise",
    cases={
        "one": inputs(1),
        "odd": inputs(7, kind="mse", ties="first"),
        "a thread over": inputs(257, kind="margin", reduction="sum"),
        "each by itself": inputs(300, reduction="none", lower_is_better=False),
        "a chunk": inputs(1024, kind="mse", lower_is_better=False),
        "a chunk and one": inputs(1025),
        "chunks and a rest": inputs(3 * 1024 + 77, kind="margin", ties="first"),
        "chunks, each by itself": inputs(1024 + 300, kind="mse", reduction="none"),
        "nan": inputs(300, put=math.nan, reduction="none"),
        "infinity": inputs(300, put=math.inf),
        "huge": inputs(300, put=1e4, reduction="sum"),
        "none": inputs(0),
        "no sum": inputs(0, reduction="sum"),
        "none by itself": inputs(0, reduction="none"),
        "more chunks than threads": inputs(257 * 1024 + 5),
    },
    run=run,
    reference=reference,
    tolerance={torch.float32: (3e-6, 1e-7), torch.float64: (1e-12, 1e-15)},
    mutants=(
        Mutant("no barrier in the sum's loop", "half /= 2) {\n    __syncthreads();", "half /= 2) {", REDUCE),
        Mutant("no barrier before a second sum", "threads);\n  __syncthreads();\n", "threads);\n", REDUCE),
        Mutant("half of the sums lost", "half = threads / 2; half > 0", "half = threads / 4; half > 0", REDUCE),
        Mutant("the sum's last step lost", "half > 0; half /= 2", "half > 1; half /= 2", REDUCE),
        Mutant("past the shared array", "sums[threadIdx.x] = value;", "sums[threadIdx.x + 1] = value;", REDUCE),
        Mutant("an array too short", "(Sum, sums, threads)", "(Sum, sums, threads - 1)", REDUCE),
        Mutant(
            "a barrier that not all threads reach",
            "    __syncthreads();\n    if (threadIdx.x < half) sums",
            "    if (threadIdx.x < 2 * half) __syncthreads();\n    if (threadIdx.x < half) sums",
            REDUCE,
        ),
        Mutant("one too many", "i < last; i += kThreads", "i <= last; i += kThreads"),
        Mutant("a wrong stride", "i < last; i += kThreads", "i < last; i += kThreads + 1"),
        Mutant("a wrong chunk", "first = blockIdx.x * kChunk", "first = blockIdx.x * (kChunk - 1)"),
        Mutant("a partial sum dropped", "chunk < chunks; chunk += kThreads", "chunk < chunks - 1; chunk += kThreads"),
        Mutant("a wrong stride over chunks", "chunk += kThreads", "chunk += kThreads + 1"),
        Mutant("sums in the wrong place", "call.partial[2 * blockIdx.x] = loss", "call.partial[blockIdx.x] = loss"),
        Mutant(
            "some threads end early",
            "if (!call.reduced) return;",
            "if (!call.reduced || first + threadIdx.x >= last) return;",
        ),
    ),
)
