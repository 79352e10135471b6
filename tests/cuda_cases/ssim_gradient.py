"""csrc/cuda/ssim_gradient.cu on the CPU: what to run, and which changes of it must be noticed."""

import math

import torch
from cuda_cases.ssim import BORDERS, masks_of, numbers_of, partial_of, results, shifts_of
from cuda_cases.ssim import inputs as images
from cuda_shim import Mutant, Op

from iqazoo.ops import windows
from iqazoo.ops.pyramid import halve
from iqazoo.ops.structural_similarity import reference_ssim

TERMS = ("index", "structure")
AT_ONCE = 3  # planes: some cases have more, and not a multiple


def inputs(*shape, of=("index",), by="xy", **options):
    """What the images' cases have, of which terms there are gradients, by which images, and a generator's seed."""
    make_images = images(*shape, **options)

    def make(dtype):
        return *make_images(dtype), of, by, sum(shape)

    return make


def incoming_of(x, border, of, options, seed):
    """Gradients of index, structure and both halves, about as large as what they multiply is small; None for none."""
    generator = torch.Generator().manual_seed(seed)
    wide, (batch, channels, height, width) = torch.promote_types(x.dtype, torch.float32), x.shape
    rows, columns = (windows.output_size(side, options["window"], options["padding"]) for side in (height, width))
    shape = {"image": [batch], "channel": [batch, channels], "map": [batch, channels, rows, columns]}
    scale = {"image": channels * rows * columns, "channel": rows * columns, "map": 1}[options["reduction"]]

    def some(size, dtype):
        return (torch.rand(size, generator=generator, dtype=torch.float64) + 0.5).to(dtype)

    terms = [scale / 8 * some(shape[options["reduction"]], wide) if term in of else None for term in TERMS]
    if not border:
        return *terms, None, None
    down, right = shifts_of(x, border)
    half = (batch, channels, (height + down) // 2, (width + right) // 2)
    return *terms, some(half, x.dtype), some(half, x.dtype)


def run(kernels, x, y, mask, border, options, of, by, seed):
    incoming = [0 if g is None else g for g in incoming_of(x, border, of, options, seed)]
    index = results(kernels, x, options) if "index" in of and options["reduction"] != "map" else 0
    gradients = [kernels.empty(*x.shape, dtype=x.dtype) if image in by else 0 for image in "xy"]
    sides = (windows.output_size(side, options["window"], options["padding"]) for side in x.shape[2:])
    maps = kernels.empty(AT_ONCE, *sides, 4 if by == "xy" else 3, dtype=torch.promote_types(x.dtype, torch.float32))
    shifts = (*shifts_of(x, border), BORDERS[border]) if border else (0, 0, 0)
    arrays = *masks_of(mask, options), *incoming, index, *gradients, partial_of(kernels, x, options), maps, AT_ONCE
    kernels("ssim_backward", x, y, *arrays, *numbers_of(x, options), *shifts)
    return tuple(found for found in (index, *gradients) if not isinstance(found, int))


def reference(x, y, mask, border, options, of, by, seed):
    incoming = incoming_of(x, border, of, options, seed)
    leaves = [image.double().requires_grad_() for image in (x, y)]
    terms = reference_ssim(*leaves, mask=mask, parts=True, **options)
    outputs = [*terms, *([halve(leaf, border) for leaf in leaves] if border else [])]
    pairs = [(a, g.double()) for a, g in zip(outputs, incoming, strict=False) if g is not None]
    gradients = torch.autograd.grad([a for a, _ in pairs], leaves, [g for _, g in pairs])
    index = [terms.ssim.detach()] if "index" in of and options["reduction"] != "map" else []
    return *index, *(g for g, image in zip(gradients, "xy", strict=True) if image in by)


OP = Op(
    source="ssim_gradient",
    cases={
        "one window": inputs(1, 1, 11, 11),
        "a tile": inputs(1, 1, 16, 118, by="x"),
        "a tile and one": inputs(1, 2, 17, 119, reduction="channel", by="y"),
        "tiles of images": inputs(2, 2, 30, 132),
        "a row short of interior": inputs(1, 1, 36, 250, padding="same"),
        "a column short of interior": inputs(1, 1, 44, 240, padding="same"),
        "same": inputs(1, 2, 19, 23, padding="same", of=TERMS),
        "reflect": inputs(1, 1, 38, 150, padding="reflect"),
        "reflect by one": inputs(1, 1, 7, 9, padding="reflect", by="y", of=("structure",)),
        "map": inputs(2, 1, 20, 130, reduction="map", of=TERMS),
        "map of the structure": inputs(1, 2, 20, 30, reduction="map", padding="reflect", of=("structure",)),
        "window of one": inputs(1, 1, 5, 131, window=1),
        "small uniform window": inputs(2, 1, 20, 133, window=7, sigma=None, by="y"),
        "largest window": inputs(1, 1, 40, 100, window=33, sigma=5.0, padding="same"),
        "largest window, reflect": inputs(1, 1, 20, 40, window=33, sigma=None, padding="reflect"),
        "window as large as reflect takes": inputs(1, 1, 9, 10, window=17, sigma=None, padding="reflect"),
        "other range": inputs(1, 1, 20, 20, data_range=4.0),
        "mask": inputs(2, 1, 30, 132, masked=True),
        "mask by channel": inputs(2, 2, 14, 40, masked=True, window=5, padding="reflect", reduction="channel"),
        "equal images": inputs(1, 1, 20, 30, alike=True),
        "flat": inputs(1, 1, 30, 250, flat=True, of=TERMS),
        "flat, reflect": inputs(1, 1, 20, 130, flat=True, padding="reflect", by="x"),
        "halves": inputs(1, 2, 28, 150, border="zeros", reduction="channel", of=("structure",)),
        "halves of odd sides": inputs(2, 1, 33, 151, border="zeros", by="x"),
        "halves of one odd side, replicated": inputs(1, 2, 33, 150, border="replicate", padding="same", by="y"),
        "nan": inputs(2, 1, 20, 40, put=math.nan),
        "no image": inputs(0, 3, 20, 20),
        "no channel": inputs(2, 0, 20, 20),
        "infinity": inputs(1, 1, 30, 40, put=math.inf, by="x"),
    },
    run=run,
    reference=reference,
    tolerance={
        torch.float32: (2e-5, 2e-5),
        torch.float64: (1e-11, 1e-11),
        torch.bfloat16: (8e-3, 1e-4),
        torch.float16: (1e-3, 1e-4),
    },
    mutants=(
        Mutant("slopes of the sum, not of the mean", "incoming[result] / call.windows_of(result)", "incoming[result]"),
        Mutant("another image's gradient", "call.result_here();", "0;"),
        Mutant("by y as by x", "s + sign * e;", "s + e;"),
        Mutant("by the other image", "gradients.x ? 1 : -1", "gradients.x ? -1 : 1"),
        Mutant("a pivot forgotten", "slopes.s - shift_s * slopes.ss", "slopes.s"),
        Mutant("another pivot", "  pixels.height = call.tiling.rows;\n", ""),
        Mutant("what does not count is given", "given[at] = counts ? here : Given<C, both>{};", "given[at] = here;"),
        Mutant("what does not count is added", "index += counts ? ", "index += true ? "),
        Mutant("gathered from the next row", "(within(row, height) && within(column, width))", "within(row, height)"),
        Mutant("gathered from beyond the last row", "first + rows <= height &&", "first + rows <= height + 1 &&"),
        Mutant(
            "gathered from beyond the last column",
            "first_column + kColumns <= width;",
            "first_column + kColumns <= width + 1;",
        ),
        Mutant(
            "no barrier between the halves",
            "count, rows>(call.tiling, call.taps, source, tile);\n  __syncthreads();",
            "count, rows>(call.tiling, call.taps, source, tile);",
        ),
        Mutant("sums of the first planes overwritten", "partial[call.tiling.tile()]", "partial[blockIdx.y]"),
        Mutant("planes left out", "first += most", "first += most + 1", "cuda/window_call.h"),
        Mutant("replicated pixels count once", "replicate && i == 0 && shift_y ? 2 : 1", "1"),
        Mutant("halves of a dropped column", "|| column >= width", "|| column > width"),
        Mutant("a tile not folded", "if (folds) {", "if (false) {"),
        Mutant("the border's own pixel folded", "if (inside < 1 ||", "if (inside < 0 ||", "cuda/window_gather.h"),
        Mutant(
            "a column of the mirror image lost",
            "for (int t = 0; t < taps.size / 2; ++t) {\n      const int column",
            "for (int t = 1; t < taps.size / 2; ++t) {\n      const int column",
            "cuda/window_gather.h",
        ),
        Mutant(
            "a row of the mirror image lost",
            "for (int t = 0; t < taps.size / 2; ++t) {\n      C value",
            "for (int t = 0; t < taps.size / 2 - 1; ++t) {\n      C value",
            "cuda/window_gather.h",
        ),
        Mutant("only the upper mirror image", "side ? last - t : t, value", "t, value", "cuda/window_gather.h"),
        Mutant(
            "mirror images out of reach too soon",
            "first > taps.size / 2) continue;",
            "first > 0) continue;",
            "cuda/window_gather.h",
        ),
    ),
)
