"""csrc/cuda/ranking.cu on the CPU: what to run, and which changes of it must be noticed."""

import math

import torch
from cuda_shim import Mutant, Op

from iqazoo.ops.ranking import KINDS, reference_ranking_loss


def inputs(size, *, groups=1, put=None, **options):
    """Scores, targets, groups or None, and the options; some scores and targets are tied."""

    def make(dtype):
        generator = torch.Generator().manual_seed(size)
        scores = torch.randn(size, generator=generator, dtype=torch.float64)
        targets = torch.randint(0, 9, (size,), generator=generator).double()
        scores[::3] = scores[::3].round()
        if put is not None:
            scores[size // 2] = put
        keys = torch.randint(0, groups, (size,), generator=generator) if groups > 1 else None
        defaults = {"kind": "ranknet", "margin": 0.25, "lower_is_better": False, "reduction": "mean"}
        return scores.to(dtype), targets.to(dtype), keys, defaults | options

    return make


def run(kernels, scores, targets, groups, options):
    size, blocks = len(scores), kernels.module.ranking_blocks(len(scores))
    keys = 0 if groups is None else groups
    loss, gradient = (kernels.empty(*shape, dtype=scores.dtype) for shape in ((), (size,)))
    counts, only_counts = (kernels.empty(5, dtype=torch.int64) for _ in range(2))

    def scratch():
        return kernels.empty(blocks, dtype=torch.float64), kernels.empty(blocks, 6, dtype=torch.int64)

    flipped = options["lower_is_better"]
    numbers = (KINDS.index(options["kind"]), options["margin"], flipped, options["reduction"] == "mean")
    kernels("ranking", scores, targets, keys, loss, gradient, counts, *scratch(), size, *numbers)
    kernels("ranking_counts", scores, targets, keys, only_counts, *scratch(), size, flipped)
    return loss, gradient, counts, only_counts


def reference(scores, targets, groups, options):
    scores = scores.double().requires_grad_()
    loss, *counts = reference_ranking_loss(scores, targets.double(), groups=groups, **options)
    (gradient,) = torch.autograd.grad(loss, scores)
    return loss.detach(), gradient, torch.stack(counts), torch.stack(counts)


OP = Op(
    source="ranking",
    cases={
        "one": inputs(1),
        "two": inputs(2, kind="margin"),
        "odd": inputs(37, kind="fidelity", lower_is_better=True),
        "groups": inputs(100, groups=3, reduction="sum"),
        "a block": inputs(256, kind="margin", lower_is_better=True),
        "a block and one": inputs(257),
        "blocks and a rest": inputs(2 * 256 + 45, groups=2, kind="fidelity"),
        "nan": inputs(40, groups=4, put=math.nan),
        "infinity": inputs(40, put=math.inf),
        "none": inputs(0),
    },
    run=run,
    reference=reference,
    tolerance={torch.float32: (2e-5, 2e-6), torch.float64: (1e-11, 1e-13)},
    mutants=(
        Mutant(
            "a tile read before it is written",
            "    __syncthreads();\n    if (i >= n) continue;",
            "    if (i >= n) continue;",
        ),
        Mutant(
            "a tile overwritten while it is read", "start += kThreads) {\n    __syncthreads();", "start += kThreads) {"
        ),
        Mutant(
            "threads without an item skip the barriers",
            "  if (i < n) mine = load",
            "  if (i >= n) return;\n  mine = load",
        ),
        Mutant("the last item of a tile left out", "k < size; ++k", "k < size - 1; ++k"),
        Mutant(
            "a tile too wide",
            "n - start < kThreads ? n - start : kThreads",
            "n - start < kThreads ? n - start + 1 : kThreads",
        ),
        Mutant(
            "an array too short",
            "IQAZOO_SHARED(T, tile_target, kThreads)",
            "IQAZOO_SHARED(T, tile_target, kThreads - 1)",
        ),
        Mutant("a gradient too long", "if (gradient && i < n)", "if (gradient && i <= n)"),
        Mutant("pairs counted twice", "if (start + k < i) continue;", ""),
        Mutant(
            "a block's sum dropped", "b < blocks; b += kThreads) loss_sum", "b < blocks - 1; b += kThreads) loss_sum"
        ),
        Mutant("counts in the wrong place", "partial_counts[b * kPartials + c]", "partial_counts[b * kCounts + c]"),
    ),
)
