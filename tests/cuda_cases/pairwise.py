"""csrc/cuda/pairwise.cu on the CPU: what to run, and which changes of it must be noticed."""

import math

import torch
from cuda_shim import Mutant, Op

from iqazoo.ops.pairwise import KINDS, REDUCTIONS, TIES, reference_pairwise_loss

LARGE = 257 * 1024 + 5  # more chunks than a block has threads


def inputs(n, kind="bce", reduction="mean", ties="half", lower_is_better=True, put=None):
    """(score_a, score_b, preference, options); `put` goes into one of the scores."""

    def make(dtype):
        generator = torch.Generator().manual_seed(n)
        score_a, score_b = 2 * torch.randn((2, n), generator=generator, dtype=torch.float64)
        preference = torch.rand(n, generator=generator, dtype=torch.float64)
        score_b[::7] = score_a[::7]
        if put is not None:
            score_a[-1] = put
        options = {"kind": kind, "reduction": reduction, "ties": ties, "lower_is_better": lower_is_better}
        return score_a.to(dtype), score_b.to(dtype), preference.to(dtype), options

    return make


def run(kernels, score_a, score_b, preference, options):
    n, dtype = len(score_a), score_a.dtype
    shape = (n,) if options["reduction"] == "none" else (1,)
    loss, agreement = (kernels.empty(*shape, dtype=dtype) for _ in range(2))
    gradient = kernels.empty(n, dtype=dtype)
    partial = kernels.empty(kernels.module.pairwise_partials(n), dtype=torch.float64)
    numbers = (n, KINDS[options["kind"]], options["lower_is_better"], 0.1)
    numbers += (REDUCTIONS[options["reduction"]], TIES[options["ties"]])
    triple = (score_a, score_b, preference)
    alone, agreement_alone = (kernels.empty(*shape, dtype=dtype) for _ in range(2))
    kernels("pairwise", *triple, alone, agreement_alone, 0, partial, *numbers)  # without a gradient
    kernels("pairwise", *triple, loss, agreement, gradient, partial, *numbers)
    # A mean's gradient would vanish beside the absolute tolerance.
    return alone, agreement_alone, loss, agreement, gradient * (n if options["reduction"] == "mean" else 1)


def reference(score_a, score_b, preference, options):
    # The difference is rounded as the kernel rounds it: at a hinge or a tie that decides.
    difference = (score_a - score_b).double().requires_grad_()
    margin = torch.tensor(0.1, dtype=score_a.dtype).item()
    zero = torch.zeros_like(difference)
    loss, agreement = reference_pairwise_loss(difference, zero, preference.double(), margin=margin, **options)
    (gradient,) = torch.autograd.grad(loss.sum(), difference)
    gradient = gradient * (len(score_a) if options["reduction"] == "mean" else 1)
    value, agreement = loss.detach().reshape(-1), agreement.reshape(-1)
    return value, agreement, value, agreement, gradient


OP = Op(
    source="pairwise",
    cases={
        "one": inputs(1),
        "odd": inputs(7, "mse"),
        "a thread over": inputs(257, "margin"),
        "a chunk": inputs(1024),
        "a chunk and one": inputs(1025, "mse", lower_is_better=False),
        "chunks and a rest": inputs(3 * 1024 + 301, "margin", ties="first"),
        "sum": inputs(1500, "mse", "sum", "first", lower_is_better=False),
        "none": inputs(1500, "bce", "none"),
        "nan": inputs(300, put=math.nan),
        "infinity": inputs(300, "mse", "none", put=math.inf),
        "far": inputs(300, put=-1e4),
        "nothing": inputs(0),
        "nothing, none": inputs(0, reduction="none"),
        "large": inputs(LARGE, "margin"),
    },
    run=run,
    reference=reference,
    rtol={torch.float32: 1e-6, torch.float64: 1e-13},
    atol=5e-7,
    mutants=(
        Mutant("no barrier before the sums", "  __syncthreads();\n  sums[", "  sums["),
        Mutant(
            "no barrier between the steps",
            "    __syncthreads();\n    if (threadIdx.x < half)",
            "    if (threadIdx.x < half)",
        ),
        Mutant("half of the sums lost", "half = kThreads / 2", "half = kThreads / 4"),
        Mutant("the last step lost", "half > 0; half /= 2", "half > 1; half /= 2"),
        Mutant("an array too short", "sums, kThreads)", "sums, kThreads - 1)"),
        Mutant("one judgment too many", "i < last; i += kThreads", "i <= last; i += kThreads"),
        Mutant("the last judgment lost", "i < last; i += kThreads", "i < last - 1; i += kThreads"),
        Mutant("a wrong stride", "i < last; i += kThreads", "i < last; i += kThreads + 1"),
        Mutant("another chunk's place", "call.partial[2 * blockIdx.x] = loss", "call.partial[blockIdx.x] = loss"),
        Mutant("every block writes the result", "if (gridDim.x == 1)", "if (gridDim.x >= 1)"),
        Mutant("a chunk dropped", "chunk < chunks; chunk", "chunk < chunks - 1; chunk"),
        Mutant("as many chunks as threads", "chunk < chunks; chunk", "chunk < chunks && chunk < kThreads; chunk"),
        Mutant("a chunk fewer", "(size + kChunk - 1) / kChunk", "size / kChunk"),
        Mutant("no sum of one chunk", "chunks > 0 ? chunks : 1", "chunks"),
    ),
)
