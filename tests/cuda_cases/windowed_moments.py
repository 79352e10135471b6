"""csrc/cuda/windowed_moments.cu on the CPU: what to run, and which changes of it must be noticed."""

import math

import torch
from cuda_cases.ssim import pair
from cuda_shim import Mutant, Op

from iqazoo.ops import windows
from iqazoo.ops.moments import reference_windowed_moments


def inputs(*shape, put=None, flat=False, by="xy", **options):
    """Two images, the options, by which images there are gradients, and a generator's seed."""

    def make(dtype):
        defaults = {"window": 11, "sigma": 1.5, "stride": 1, "padding": "valid"}
        return *pair(dtype, *shape, put=put, flat=flat), defaults | options, by, sum(shape)

    return make


def shape_of(x, options):
    """Of one result."""
    sides = (windows.output_size(side, options["window"], options["padding"]) for side in x.shape[2:])
    return *x.shape[:2], *((side - 1) // options["stride"] + 1 for side in sides)


def incoming_of(x, options, seed):
    generator = torch.Generator().manual_seed(seed)
    grads = torch.randn((5, *shape_of(x, options)), generator=generator, dtype=torch.float64)
    return list(grads.to(torch.promote_types(x.dtype, torch.float32)))


def run(kernels, x, y, options, by, seed):
    wide, shape = torch.promote_types(x.dtype, torch.float32), shape_of(x, options)
    numbers = (*x.shape, options["window"], options["sigma"] or 0.0, options["stride"])
    numbers = (*numbers, windows.PADDINGS.index(options["padding"]))
    moments = [kernels.empty(*shape, dtype=wide) for _ in range(5)]
    kernels("windowed_moments_forward", x, y, *moments, *numbers)
    gradients = [kernels.empty(*x.shape, dtype=x.dtype) if image in by else 0 for image in "xy"]
    scratch = kernels.empty(2, *shape, dtype=wide)
    incoming = incoming_of(x, options, seed)
    kernels("windowed_moments_backward", x, y, *incoming, *gradients, scratch, *numbers)
    return *moments, *(g for g in gradients if not isinstance(g, int))


def reference(x, y, options, by, seed):
    leaves = [image.double().requires_grad_() for image in (x, y)]
    moments = reference_windowed_moments(*leaves, **options)
    incoming = [g.double() for g in incoming_of(x, options, seed)]
    gradients = torch.autograd.grad(moments, leaves, incoming)
    kept = [g for g, image in zip(gradients, "xy", strict=True) if image in by]
    return *(moment.detach() for moment in moments), *kept


OP = Op(
    source="windowed_moments",
    cases={
        "one window": inputs(1, 1, 11, 11),
        "a tile": inputs(1, 1, 18, 128, by="x"),
        "tiles": inputs(2, 1, 30, 132),
        "interior tiles": inputs(1, 1, 44, 250, padding="same", by="y"),
        "reflect": inputs(1, 2, 19, 130, padding="reflect"),
        "stride": inputs(1, 2, 20, 132, stride=2),
        "stride, reflect": inputs(2, 1, 18, 21, stride=3, window=7, sigma=1.2, padding="reflect"),
        "even window": inputs(1, 1, 20, 133, window=8, sigma=None),
        "even window, stride": inputs(1, 1, 25, 30, window=8, sigma=None, stride=4, by="y"),
        "largest window": inputs(1, 1, 40, 100, window=33, sigma=5.0, padding="same"),
        "window of one": inputs(1, 1, 5, 131, window=1),
        "flat": inputs(1, 1, 20, 250, flat=True),
        "nan": inputs(2, 1, 20, 40, put=math.nan),
    },
    run=run,
    reference=reference,
    tolerance={
        torch.float32: (1e-5, 2e-6),
        torch.float64: (1e-12, 1e-13),
        torch.bfloat16: (8e-3, 1e-4),
        torch.float16: (1e-3, 1e-4),
    },
    mutants=(
        Mutant("every row of windows", "return i % stride == 0 && j % stride == 0;", "return j % stride == 0;"),
        Mutant(
            "a row too short",
            "stored_rows + i / stride) * stored_columns",
            "stored_rows + i / stride) * (stored_columns - 1)",
        ),
        Mutant("another plane's results", "return (tiling.plane() * stored_rows", "return (0 * stored_rows"),
        Mutant(
            "a mean less its pivot", "results.mean_y[at] = mean[1] + pivot.y", "results.mean_y[at] = mean[1] + pivot.x"
        ),
        Mutant("a raw moment", "mean[3] - mean[1] * mean[1]", "mean[3]"),
        Mutant(
            "the covariance of an image with itself", "value[4] = value[0] * value[1]", "value[4] = value[0] * value[0]"
        ),
        Mutant("the moments' pivot for the gradient's", "{pivot.x - plane.x, pivot.y - plane.y}", "{0, 0}"),
        Mutant(
            "the other image's part",
            "    failed = launch_gather<window>(call, incoming.var_x, incoming.cov, parts,",
            "    failed = launch_gather<window>(call, incoming.var_x, incoming.cov, part_y,",
        ),
        Mutant("images not swapped", "  swapped.x = call.y;\n", ""),
        Mutant("gaps not seen", "if (call.stride > 1) {", "if (false) {"),
        Mutant("not folded", "} else if (call.tiling.padding == Padding::kReflect) {", "} else if (false) {"),
        Mutant(
            "no barrier between the halves",
            "kMoments>{pixels, pivot}, tile);\n  __syncthreads();",
            "kMoments>{pixels, pivot}, tile);",
        ),
        Mutant(
            "no barrier before the parts are gathered",
            "source, tile);\n  __syncthreads();",
            "source, tile);",
        ),
        Mutant(
            "a window between the others",
            "row % stride == 0 && column % stride == 0",
            "row % stride == 0",
            "cuda/window_gather.h",
        ),
        Mutant(
            "gathered from the next row",
            "(within(row, height) && within(column, width))",
            "within(row, height)",
            "cuda/window_gather.h",
        ),
    ),
)
