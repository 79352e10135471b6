"""csrc/cuda/ssim.cu on the CPU: what to run, and which changes of it must be noticed."""

import math

import torch
from cuda_shim import Mutant, Op

from iqazoo.ops import windows
from iqazoo.ops.pyramid import halve
from iqazoo.ops.structural_similarity import REDUCTIONS, reference_ssim

BORDERS = {"zeros": 0, "replicate": 1}


def pair(dtype, *shape, put=None, alike=False, flat=False):
    """Two images: a slope, texture and noise, or two nearly `flat` halves; `put` into one pixel of the first plane."""
    generator = torch.Generator().manual_seed(sum(shape))
    x = torch.rand(shape, generator=generator, dtype=torch.float64)
    x = 0.3 * x + torch.linspace(0, 0.5, shape[-1], dtype=torch.float64)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    y = x if alike else 0.9 * x + 0.05 + 0.08 * noise
    if flat:
        x, y = 0.1 + 1e-4 * x, 0.1 + 1e-4 * y
        x[..., shape[-1] // 2 :] += 0.8
        y[..., shape[-1] // 2 :] += 0.75
    x, y = x.to(dtype), y.to(dtype)
    if put is not None:
        x[0, 0, shape[2] // 2, shape[3] // 3] = put
    return x, y


def mask_of(shape):
    """Excludes three pixels of each image, other ones in each, and all of the last image where there are several."""
    mask = torch.ones(shape[0], 1, *shape[2:], dtype=torch.bool)
    for b in range(shape[0]):
        mask[b, 0, 2 + b, 1] = mask[b, 0, -1, -4] = mask[b, 0, shape[2] // 2, shape[3] // 2 + b] = False
    if shape[0] > 1:
        mask[-1] = False
    return mask


def inputs(*shape, masked=False, put=None, alike=False, flat=False, border=None, **options):
    """Two images, a mask or None, how they are halved or None, and the options."""

    def make(dtype):
        defaults = {"window": 11, "sigma": 1.5, "padding": "valid", "reduction": "image", "data_range": 1.0}
        mask = mask_of(shape) if masked else None
        return *pair(dtype, *shape, put=put, alike=alike, flat=flat), mask, border, defaults | options

    return make


def shifts_of(x, border):
    """Of the blocks of 2 x 2 pixels, as ssim_pyramid has them."""
    odd = x.shape[2] % 2, x.shape[3] % 2
    return odd if border == "zeros" else (max(odd), max(odd))


def results(kernels, x, options):
    """Room for one of the two terms."""
    dtype, (batch, channels, height, width) = torch.promote_types(x.dtype, torch.float32), x.shape
    window, padding = options["window"], options["padding"]
    rows, columns = (windows.output_size(side, window, padding) for side in (height, width))
    shape = {"image": [batch], "channel": [batch, channels], "map": [batch, channels, rows, columns]}
    return kernels.empty(*shape[options["reduction"]], dtype=dtype)


def masks_of(mask, options):
    """What kernels take for a mask: which windows count, how many."""
    if mask is None:
        return 0, 0
    counted = windows.whole_windows(mask, options["window"], options["padding"])
    return counted.squeeze(1).to(torch.uint8), counted.sum(dim=(1, 2, 3))


def numbers_of(x, options):
    """What kernels take behind the arrays, up to the shifts."""
    c1, c2 = (0.01 * options["data_range"]) ** 2, (0.03 * options["data_range"]) ** 2
    kinds = windows.PADDINGS.index(options["padding"]), c1, c2, REDUCTIONS.index(options["reduction"])
    return *x.shape, options["window"], options["sigma"] or 0.0, *kinds


def partial_of(kernels, x, options):
    """Scratch for the sums of tiles."""
    planes, height, width = x.shape[0] * x.shape[1], x.shape[2], x.shape[3]
    padding = windows.PADDINGS.index(options["padding"])
    size = kernels.module.ssim_partials(planes, height, width, options["window"], padding)
    return kernels.empty(size, dtype=torch.float64)


def run(kernels, x, y, mask, border, options):
    index, structure = results(kernels, x, options), results(kernels, x, options)
    pooled, shifts = (0, 0), (0, 0, 0)
    if border:
        down, right = shifts_of(x, border)
        shape = (*x.shape[:2], (x.shape[2] + down) // 2, (x.shape[3] + right) // 2)
        pooled = kernels.empty(*shape, dtype=x.dtype), kernels.empty(*shape, dtype=x.dtype)
        shifts = down, right, BORDERS[border]
    masks, partial = masks_of(mask, options), partial_of(kernels, x, options)
    kernels("ssim_forward", x, y, *masks, index, structure, *pooled, partial, *numbers_of(x, options), *shifts)
    return index, structure, *(pooled if border else ())


def reference(x, y, mask, border, options):
    index, structure = reference_ssim(x.double(), y.double(), mask=mask, parts=True, **options)
    pooled = [halve(image.double(), border) for image in (x, y)] if border else []
    return index, structure, *pooled


OP = Op(
    source="ssim",
    cases={
        "one window": inputs(1, 1, 11, 11),
        "a tile": inputs(1, 1, 26, 128),
        "a tile and one": inputs(1, 2, 27, 129, reduction="channel"),
        "tiles of images": inputs(2, 2, 30, 132),
        "a row short of interior": inputs(1, 1, 36, 250, padding="same"),
        "a column short of interior": inputs(1, 1, 44, 240, padding="same"),
        "same": inputs(1, 2, 19, 23, padding="same"),
        "reflect": inputs(1, 2, 19, 130, padding="reflect"),
        "map": inputs(2, 1, 20, 130, reduction="map", padding="reflect"),
        "window of one": inputs(1, 1, 5, 131, window=1),
        "small uniform window": inputs(2, 1, 20, 133, window=7, sigma=None, reduction="map"),
        "largest window": inputs(1, 1, 40, 100, window=33, sigma=5.0, padding="same"),
        "window as large as reflect takes": inputs(1, 1, 9, 9, window=17, sigma=None, padding="reflect"),
        "other range": inputs(1, 1, 20, 20, data_range=4.0),
        "mask": inputs(2, 1, 30, 132, masked=True),
        "mask by channel": inputs(2, 2, 14, 40, masked=True, window=5, padding="reflect", reduction="channel"),
        "equal images": inputs(1, 1, 20, 30, alike=True),
        "flat": inputs(1, 1, 30, 250, flat=True, padding="reflect"),
        "halves": inputs(1, 2, 28, 150, border="zeros", reduction="channel"),
        "halves of odd sides": inputs(2, 1, 33, 151, border="zeros"),
        "halves of one odd side, replicated": inputs(1, 2, 33, 150, border="replicate", padding="same"),
        "nan": inputs(2, 1, 30, 140, put=math.nan, reduction="map"),
        "no image": inputs(0, 3, 20, 20),
        "no channel": inputs(2, 0, 20, 20),
        "infinity": inputs(2, 1, 30, 40, put=math.inf),
    },
    run=run,
    reference=reference,
    tolerance={
        torch.float32: (0, 5e-6),  # of single windows; means are nearer
        torch.float64: (0, 1e-13),
        torch.bfloat16: (8e-3, 0),
        torch.float16: (1e-3, 6e-8),
    },
    mutants=(
        Mutant("windows that do not count", " || (counted && !counted[i * columns + j + r])", ""),
        Mutant("a mask not looked at", "count == kRun && !counted;", "count == kRun;"),
        Mutant("a window of a short run left out", "all || r >= count ", "all || r >= count - 1 "),
        Mutant("a window of a whole run left out", "r = 0; all && r < kRun", "r = 1; all && r < kRun"),
        Mutant(
            "the pivot not added again",
            "{{pivot.s, pivot.e, call.c1, call.c2}, call.counted",
            "{{0, 0, call.c1, call.c2}, call.counted",
        ),
        Mutant("the index for the structure", "structure += here.structure", "structure += here.index"),
        Mutant(
            "another plane's map",
            "plane = call.tiling.plane() * call.tiling.results()",
            "plane = 0 * call.tiling.results()",
        ),
        Mutant("halves without a shift", "row = 2 * i - pooled.shift_y", "row = 2 * i"),
        Mutant("zeros for replicated pixels", "if (!replicate && (i < 0", "if ((i < 0"),
        Mutant("halves of pixels before the border", "(j < 0 ? 0 : j)]", "j]"),
        Mutant("a column of halves left out", "j < right; j += kColumns", "j < right - 1; j += kColumns"),
        Mutant(
            "halves of a tile left out",
            "(tiling.down() + 1) * height / tiling.tiles_down",
            "(tiling.down() + 1) * (height / tiling.tiles_down)",
        ),
        Mutant(
            "a tile's sum dropped", "i < tiles; i += kSumThreads", "i < tiles - 1; i += kSumThreads", "cuda/ssim_call.h"
        ),
        Mutant(
            "an image's tiles for a channel's",
            "(call.reduction == Reduction::kImage ? call.channels : 1)",
            "call.channels",
            "cuda/ssim_call.h",
        ),
        Mutant(
            "a channel's mask for an image's",
            "tiling.plane() / channels * tiling.results()",
            "tiling.plane() * tiling.results()",
            "cuda/ssim_call.h",
        ),
        Mutant(
            "no barrier between the halves",
            "  __syncthreads();\n  return source.pivot;",
            "  return source.pivot;",
            "cuda/ssim_call.h",
        ),
        Mutant(
            "a row overwritten while it is read",
            "    __syncwarp();  // the row is read by this warp alone\n",
            "",
            "cuda/window_filter.h",
        ),
        Mutant(
            "written before all rows are there",
            "  __syncthreads();\n  const int column",
            "  const int column",
            "cuda/window_filter.h",
        ),
        Mutant("the last weight left out", "|| i - g >= window)", "|| i - g >= window - 1)", "cuda/window_filter.h"),
        Mutant(
            "the last weight of any window left out",
            "within(j + e - r, taps.size)",
            "within(j + e - r, taps.size - 1)",
            "cuda/window_filter.h",
        ),
        Mutant(
            "a window beyond the image",
            "inside < left ? inside : left",
            "inside",
            "cuda/window_filter.h",
        ),
        Mutant(
            "windows of the next tile",
            "inside < left ? inside : left",
            "left",
            "cuda/window_filter.h",
        ),
        Mutant(
            "rows beyond the image",
            "if (i >= tiling.rows || count <= 0) continue;",
            "if (count <= 0) continue;",
            "cuda/window_filter.h",
        ),
        Mutant(
            "a column too few filtered", "+ taps.size - 1) return;", "+ taps.size - 2) return;", "cuda/window_filter.h"
        ),
        Mutant("mirrored about the border", "2 * (n - 1) - i", "2 * n - 1 - i", "cuda/window_tile.h"),
        Mutant(
            "a wrong place in shared memory",
            "column + column / 32 * 4",
            "column + column / 32 * 5",
            "cuda/window_tile.h",
        ),
        Mutant("rows that overlap", "kColumns / 32 * 4 + 12", "kColumns / 32 * 4 - 8", "cuda/window_tile.h"),
        Mutant(
            "a pixel beyond the border of same",
            "first + rows <= height_ &&",
            "first + rows <= height_ + 1 &&",
            "cuda/pixel_pair.h",
        ),
        Mutant(
            "a column beyond the border of same",
            "first_column_ + kColumns <= width_;",
            "first_column_ + kColumns <= width_ + 1;",
            "cuda/pixel_pair.h",
        ),
    ),
)
