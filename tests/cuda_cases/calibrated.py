"""csrc/cuda/calibrated.cu on the CPU: what to run, and which changes of it must be noticed."""

import math

import torch
from cuda_shim import Mutant, Op

from iqazoo.ops.calibrated import SHAPES, SIZES, reference_calibrated_pairwise_loss
from iqazoo.ops.pairwise import REDUCTIONS


def inputs(size, *, put=None, reduction="mean", compat=None):
    """Three `[size]`, some scores tied, the weights as one array, what comes back from the loss, and the options."""

    def make(dtype):
        generator = torch.Generator().manual_seed(size)
        first, second, h, incoming = torch.rand(4, size, generator=generator, dtype=torch.float64)
        second[::5] = first[::5]
        if put is not None:
            first[size // 2] = put
        # Small, or the sigmoid of "bceloss" would round to 0 or 1 sooner in float32 than in the reference.
        weights = 0.25 * torch.randn(sum(SIZES), generator=generator, dtype=torch.float64)
        incoming = incoming + 0.5 if reduction == "none" else torch.ones_like(incoming)
        options = {"reduction": reduction, "compat": compat}
        return *(x.to(dtype) for x in (first, second, h, weights, incoming)), options

    return make


def run(kernels, first, second, h, weights, incoming, options):
    size, by_itself = len(first), options["reduction"] == "none"
    shape = (size,) if by_itself else ()
    loss, agreement = (kernels.empty(*shape, dtype=first.dtype) for _ in range(2))
    gradients = [kernels.empty(n, dtype=first.dtype) for n in (size, size, sum(SIZES))]
    partial = kernels.empty(kernels.module.calibrated_pairwise_partials(size), dtype=torch.float64)
    numbers = (size, int(options["compat"] == "bceloss"), REDUCTIONS[options["reduction"]])
    judged = (first, second, h, weights)
    if by_itself:  # values first; gradients once it is known what comes back
        kernels("calibrated_pairwise", *judged, 0, loss, agreement, 0, 0, 0, partial, *numbers)
        kernels("calibrated_pairwise", *judged, incoming, 0, 0, *gradients, partial, *numbers)
    else:
        kernels("calibrated_pairwise", *judged, 0, loss, agreement, *gradients, partial, *numbers)
    return loss, agreement, *gradients


def reference(first, second, h, weights, incoming, options):
    learned = [x.double().requires_grad_() for x in (first, second, weights)]
    parts = [part.view(shape) for part, shape in zip(learned[2].split(SIZES), SHAPES, strict=True)]
    found = reference_calibrated_pairwise_loss(*learned[:2], h.double(), parts, lower_is_better=True, **options)
    total = (found.loss * incoming.double()).sum() if options["reduction"] == "none" else found.loss
    return found.loss.detach(), found.agreement, *torch.autograd.grad(total, learned)


OP = Op(
    source="calibrated",
    cases={
        "one": inputs(1),
        "odd": inputs(7, compat="bceloss"),
        "a block": inputs(16, reduction="sum"),
        "a block and one": inputs(17, reduction="none"),
        "blocks and a rest": inputs(53, reduction="none", compat="bceloss"),
        "nan": inputs(20, reduction="none", put=math.nan),
        "none": inputs(0),
        "none by itself": inputs(0, reduction="none"),
    },
    run=run,
    reference=reference,
    tolerance={torch.float32: (2e-4, 2e-5), torch.float64: (1e-10, 1e-12)},
    mutants=(
        Mutant("units read before they are written", "leaky(before1);\n    __syncthreads();", "leaky(before1);"),
        Mutant(
            "slopes read before they are written",
            "rows[0][unit] = slope2;\n  __syncthreads();",
            "rows[0][unit] = slope2;",
        ),
        Mutant("a wrong row", "put(kW2 + unit * kUnits + k,", "put(kW2 + k * kUnits + unit,"),
        Mutant("a group's first judgment dropped", "i = start + group;", "i = start + group + 1;"),
        Mutant("one judgment too many", "valid = i < end", "valid = i <= end"),
        Mutant("rows of the wrong group", "(rows_flat) + 3 * group", "(rows_flat)"),
        Mutant("an array too short", "kGroups * 3 * kRow", "(kGroups - 1) * 3 * kRow"),
        Mutant("a sum dropped", "if (k >= kSums) return;", "if (k >= kSums - 1) return;"),
        Mutant("a block dropped", "block < blocks; ++block", "block < blocks - 1; ++block"),
    ),
)
