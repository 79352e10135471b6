"""csrc/cuda/feature_distance.cu on the CPU: what to run, and which changes of it must be noticed."""

import math

import torch
from cuda_shim import Mutant, Op

from iqazoo.ops.feature_distance import reference_feature_distance

EPS = 1e-10


def inputs(batch, channels, positions, *, last=False, one_reference=False, put=None, zero=False):
    """(what comes back from the map, from the means, image, reference, weight, channels last); the maps `[B, C, P]`."""

    def make(dtype):
        generator = torch.Generator().manual_seed(batch + channels + positions)
        image, noise = torch.rand(2, batch, channels, positions, generator=generator, dtype=torch.float64) + 0.1
        reference = image + 0.3 * noise
        if one_reference:
            reference = reference[:1]
        if put is not None:
            image[-1, channels // 2, positions // 2] = put
        if zero:
            image[:, :, ::3] = 0
            reference[:, :, ::2] = 0
        grad_map, grad_means, weight = (
            torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5
            for shape in ((batch, positions), (batch, channels), (channels,))
        )
        computed = torch.promote_types(dtype, torch.float32)
        grads = (grad_map.to(computed), grad_means.to(computed))
        return *grads, image.to(dtype), reference.to(dtype), weight.to(computed), last

    return make


def run(kernels, grad_map, grad_means, image, reference, weight, last):
    """Value, map with lengths, means alone and with a factor for each position, gradients of a map and of means."""
    (batch, channels, positions), computed = image.shape, weight.dtype
    placed = [f.transpose(1, 2).contiguous() if last else f for f in (image, reference)]
    size = channels * positions
    pair = (*placed, batch, channels, positions, size, 0 if len(reference) < batch else size, last, EPS)

    def forward(at_positions, value=0, at_map=0, means=0, lengths=0):
        doubles = kernels.module.feature_distance_partials(batch, channels, positions, isinstance(means, torch.Tensor))
        partial = kernels.empty(doubles, dtype=torch.float64)
        kernels("feature_distance", *pair, weight, at_positions, value, at_map, means, lengths, partial)

    def backward(of_channels, at_positions, lengths, wanted):
        grads = [kernels.empty(*placed[0].shape, dtype=image.dtype) if want else 0 for want in wanted]
        kernels("feature_distance_backward", *pair, of_channels, at_positions, lengths, *grads)
        return [g.transpose(1, 2) if last else g for g in grads if isinstance(g, torch.Tensor)]

    value, means, weighed = (kernels.empty(*s, dtype=computed) for s in ((batch,), *[(batch, channels)] * 2))
    at_map, lengths = (kernels.empty(batch, *s, dtype=computed) for s in ((positions,), (2, positions)))
    forward(0, value=value, means=means)
    forward(0, at_map=at_map, lengths=lengths)
    forward(grad_map, means=weighed)
    of_map = backward((2 * weight).expand(batch, channels).contiguous(), grad_map, lengths, (True, True))
    of_means = (2 / max(positions, 1) * grad_means).contiguous()
    return value, means, at_map, weighed, *of_map, *backward(of_means, 0, lengths, (False, True))


def reference(grad_map, grad_means, image, reference, weight, last):
    f_image, f_reference = (f.double()[..., None] for f in (image, reference))  # [B, C, P, 1]
    f_reference = f_reference.expand_as(f_image)
    pair = [f.detach().clone().requires_grad_() for f in (f_image, f_reference)]
    head = weight.double().requires_grad_()
    value, at_map, means = (
        reference_feature_distance(*pair, head, eps=EPS, reduction=r) for r in ("image", "map", "channel")
    )
    of_map = torch.autograd.grad(at_map, (*pair, head), grad_map.double()[:, None, :, None])
    (of_means,) = torch.autograd.grad(means, pair[1:], grad_means.double())
    unit = [f / (f.norm(dim=1, keepdim=True) + EPS) for f in pair]
    weighed = ((unit[0] - unit[1]).square() * grad_map.double()[:, None, :, None]).mean((2, 3)).detach()
    gradients = [g[..., 0] for g in (*of_map[:2], of_means)]
    return value.detach(), means.detach(), at_map.detach()[:, 0, :, 0], weighed, *gradients


OP = Op(
    source="feature_distance",
    cases={
        "one": inputs(1, 2, 1),
        "odd": inputs(2, 5, 7),
        "odd, channels last": inputs(2, 5, 7, last=True),
        "parts of tiles and a rest": inputs(2, 9, 75),
        "parts of rows and a rest": inputs(2, 35, 70, last=True),
        "many channels": inputs(1, 131, 5),
        "zero vectors": inputs(1, 6, 12, zero=True),
        "zero vectors, channels last": inputs(1, 6, 11, last=True, zero=True),
        "one reference": inputs(3, 4, 5, one_reference=True),
        "one reference, channels last": inputs(3, 4, 10, last=True, one_reference=True),
        "nan": inputs(1, 5, 9, put=math.nan),
        "nan, channels last": inputs(1, 5, 12, last=True, put=math.nan),
        "infinity": inputs(1, 3, 5, put=math.inf),
        "no image": inputs(0, 5, 7),
        "no positions": inputs(2, 5, 0),
        "no channels": inputs(2, 0, 5),
    },
    run=run,
    reference=reference,
    tolerance={
        torch.float32: (2e-4, 2e-6),
        torch.float64: (1e-10, 1e-13),
        torch.bfloat16: (2e-2, 2e-3),
        torch.float16: (4e-3, 3e-4),
    },
    mutants=(
        Mutant("sums read before all are there", "= second;\n  __syncthreads();", "= second;"),
        Mutant(
            "sums written before the last were read",
            "  __syncthreads();  // the sums before these have been read\n",
            "",
        ),
        Mutant(
            "a warp's sum dropped",
            "warp < warps; ++warp) {\n    total.first",
            "warp < warps - 1; ++warp) {\n    total.first",
        ),
        Mutant("sums of another lane", "sums[warp * kLanes + lane];", "sums[warp * kLanes + (lane ^ 1)];"),
        Mutant("an array too short", "2 * warps * kLanes);", "2 * warps * kLanes - 1);"),
        Mutant("half of a warp's sum", "other = kLanes / 2; other > 0", "other = kLanes / 4; other > 0"),
        Mutant(
            "a channel left out of the lengths",
            "c = warp; valid && c < pair.channels;",
            "c = warp; valid && c < pair.channels - 1;",
        ),
        Mutant(
            "positions past the end",
            "const bool valid = p < positions;\n    C squares0",
            "const bool valid = p <= positions;\n    C squares0",
        ),
        Mutant(
            "lengths of the wrong map",
            "call.lengths[(2 * b + 1) * positions + p] = length1;",
            "call.lengths[(2 * b + 1) * positions + p] = length0;",
        ),
        Mutant(
            "a part's later tiles dropped",
            "mean + of_channel;\n    }\n    if (valid) value",
            "mean;\n    }\n    if (valid) value",
        ),
        Mutant("a part's earlier tiles dropped", "mean = begun ? mean + of_channel", "mean = begun ? of_channel"),
        Mutant("rows past the end", "if (start + k >= end) continue;", "if (start + k > end) continue;"),
        Mutant("a wrong step over rows", "start += kFewWarps * kRows", "start += kFewWarps"),
        Mutant("a part's values dropped", "i < parts; i += kMergeThreads", "i < parts - 1; i += kMergeThreads"),
        Mutant("means of the wrong image", "i / channels * parts * channels + i % channels", "i % channels"),
        Mutant("one mean too many", "if (i >= batch * channels) return;", "if (i > batch * channels) return;"),
        Mutant("a tile left out", "(positions + kLanes - 1) / kLanes; }", "positions / kLanes; }"),
        Mutant("scratch too small", "(means ? kFewWarps * channels : 0)", "(means ? kFewWarps * channels - 1 : 0)"),
        Mutant("dots of a single warp", "over_warps<warps>(dot0, dot1)", "Two<C>{dot0, dot1}"),
        Mutant("dots of a single lane", "{warp_sum(dot0), warp_sum(dot1)}", "{dot0, dot1}"),
        Mutant(
            "another image's factors", "of_channels = call.of_channels + b * channels", "of_channels = call.of_channels"
        ),
        Mutant(
            "a position too many",
            "if (index >= pair.batch * pair.positions) return;",
            "if (index > pair.batch * pair.positions) return;",
        ),
        Mutant(
            "a repeated reference read on",
            "pair.reference + b * pair.reference_step + p * channels",
            "pair.reference + b * pair.image_step + p * channels",
        ),
        Mutant(
            "cancelling lengths",
            "(x - y) * common + (x * image_rest + y * reference_rest)",
            "(x - y) * common + (x * reference_rest + y * image_rest)",
            file="common/feature_distance.h",
        ),
        Mutant("a zero vector's gradient", "length == 0 ? T(0) : dot", "dot", file="common/feature_distance.h"),
        Mutant("a zero vector enlarged", "length == 0 ? T(0) : 1", "1", file="common/feature_distance.h"),
    ),
)
