"""csrc/cuda/calibrated.cu on the CPU: what to run, and which changes of it must be noticed."""

import math

import torch
from cuda_shim import Mutant, Op

from iqazoo.ops.calibrated import SHAPES, SIZES, reference_calibrated_pairwise_loss
from iqazoo.ops.pairwise import REDUCTIONS


def inputs(n, reduction="mean", compat=None, put=None):
    """(first, second, preference, flat weights, incoming gradient, options); `put` goes into the last score."""

    def make(dtype):
        generator = torch.Generator().manual_seed(n)
        first, second, preference, incoming = torch.rand((4, n), generator=generator, dtype=torch.float64)
        scale = 0.2 if compat else 0.5  # saturation is where the type says; other tests have it
        weights = scale * torch.randn(sum(SIZES), generator=generator, dtype=torch.float64)
        second[::7] = first[::7]
        if put is not None:
            first[-1] = put
        options = {"reduction": reduction, "compat": compat}
        return *(t.to(dtype) for t in (first, second, preference, weights, incoming + 0.5)), options

    return make


def run(kernels, first, second, preference, weights, incoming, options):
    n, dtype = len(first), first.dtype
    shape = (n,) if options["reduction"] == "none" else (1,)
    loss, agreement = (kernels.empty(*shape, dtype=dtype) for _ in range(2))
    grads = [kernels.empty(size, dtype=dtype) for size in (n, n, len(weights))]
    partial = kernels.empty(kernels.module.calibrated_pairwise_partials(n), dtype=torch.float64)
    numbers = (n, options["compat"] is not None, REDUCTIONS[options["reduction"]])
    given = (first, second, preference, weights)
    if options["reduction"] == "none":  # in two calls, as in backward
        kernels("calibrated_pairwise", *given, 0, loss, agreement, 0, 0, 0, partial, *numbers)
        kernels("calibrated_pairwise", *given, incoming, 0, 0, *grads, partial, *numbers)
    else:
        kernels("calibrated_pairwise", *given, 0, loss, agreement, *grads, partial, *numbers)
    return loss, agreement, *(g / _size(g) for g in grads)


def reference(first, second, preference, weights, incoming, options):
    first, second, weights = (t.double().requires_grad_() for t in (first, second, weights))
    parts = [p.view(shape) for p, shape in zip(weights.split(SIZES), SHAPES, strict=True)]
    loss, agreement = reference_calibrated_pairwise_loss(
        first, second, preference.double(), parts, lower_is_better=True, **options
    )
    total = (loss * incoming.double()).sum() if options["reduction"] == "none" else loss
    grads = torch.autograd.grad(total, (first, second, weights))
    return loss.detach().reshape(-1), agreement.reshape(-1), *(g / _size(g) for g in grads)


def _size(grad):
    """The greatest element: what the tolerance is relative to."""
    return grad.abs().max() if grad.numel() and grad.any() and grad.isfinite().all() else 1


OP = Op(
    source="calibrated",
    cases={
        "one": inputs(1),
        "a group short": inputs(3),
        "a step": inputs(4),
        "odd": inputs(7, "sum"),
        "a block and one": inputs(17),
        "blocks and a rest": inputs(150),
        "none": inputs(37, "none"),
        "as BCELoss": inputs(30, compat="bceloss"),
        "as BCELoss, none": inputs(30, "none", compat="bceloss"),
        "nan": inputs(20, put=math.nan),
        "nothing": inputs(0),
        "nothing, none": inputs(0, "none"),
    },
    run=run,
    reference=reference,
    rtol={torch.float32: 1e-5, torch.float64: 1e-12},
    atol=1e-5,
    mutants=(
        Mutant(
            "no barrier after the first layer",
            "after1[unit] = leaky(before1);\n    __syncthreads();\n",
            "after1[unit] = leaky(before1);\n",
        ),
        Mutant(
            "no barrier before the logit",
            "rows[0][unit] = weights[kW3 + unit] * leaky(before2);\n    __syncthreads();\n",
            "rows[0][unit] = weights[kW3 + unit] * leaky(before2);\n",
        ),
        Mutant("no barrier in backward", "rows[0][unit] = slope2;\n  __syncthreads();\n", "rows[0][unit] = slope2;\n"),
        Mutant(
            "no barrier before the scores' gradients",
            "rows[2][unit] = slope_second;\n  __syncthreads();\n",
            "rows[2][unit] = slope_second;\n",
        ),
        Mutant("groups that add more than once", "    if (turn == group) {", "    if (turn >= group) {"),
        Mutant("a group left out", "turn < kGroups; ++turn", "turn < kGroups - 1; ++turn"),
        Mutant("another group's rows", "+ 3 * group;", "+ 2 * group;"),
        Mutant("rows too short", "kGroups * 3 * kRow)", "kGroups * 3 * kUnits)"),
        Mutant("a transposed layer", "slope1 += w2[k][unit]", "slope1 += w2[unit][k]"),
        Mutant("a judgment too many", "const bool valid = i < end;", "const bool valid = i <= end;"),
        Mutant("a judgment left out", "start < end; start += kGroups", "start < end - 1; start += kGroups"),
        Mutant("a unit without the loss adds it", "      if (unit == 0) {", "      if (unit == 1) {"),
        Mutant("no incoming gradient", "valid && call.incoming ? call.incoming[i]", "false ? call.incoming[i]"),
        Mutant("another block's sums", "call.partial[block * kSums + k]", "call.partial[block * kWeights + k]"),
        Mutant("a block left out", "block < blocks; ++block", "block < blocks - 1; ++block"),
        Mutant(
            "sums that start with what was there", "k < kSums; k += kThreads) sums[k] = 0", "k < 1; ++k) sums[k] = 0"
        ),
    ),
)
