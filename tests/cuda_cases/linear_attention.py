"""csrc/cuda/linear_attention.cu on the CPU: what to run, and which changes of it must be noticed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from cuda_shim import Kernels, Mutant, Op, View
from torch import Tensor

from iqazoo.ops.linear_attention_reference import Q_MAPS, elu1, reference_linear_attention, scale_of

TILE = "cuda/linear_attention_tile.h"
SUMS = "cuda/linear_attention_sums.h"
STRIP = "cuda/linear_attention_strip.h"
MAPS = "cuda/linear_attention_maps.h"
SPLIT = "cuda/linear_attention_split.h"
NO_VIEW = (0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Problem:
    """Inputs, and what a call has to give, in float64."""

    q: Tensor  # [B, H, N, D] or [B, H, D, N], like the others
    k: Tensor
    v: Tensor
    grad: Tensor  # of the output
    mask: Tensor | None
    memory: tuple[Tensor, ...]
    q_map: str
    last: bool  # whether positions are the last dimension
    packed: bool  # whether q, k and v lie in one tensor, and their gradients are to

    @property
    def sizes(self) -> tuple[int, ...]:
        """B, H, N, M, D, E."""
        n, d = (-1, -2) if self.last else (-2, -1)
        columns = self.memory[0].shape[n] if self.memory else 0
        return *self.q.shape[:2], self.q.shape[n], columns, self.q.shape[d], self.v.shape[d]

    @property
    def options(self) -> dict:
        layout = "bhdn" if self.last else "bhnd"
        return {"q_map": self.q_map, "k_map": "elu1" if self.q_map == "elu1" else "softmax", "layout": layout}

    @property
    def scale(self) -> float:
        return scale_of(None, self.q_map, self.sizes[4])

    def view(self, x: Tensor) -> View:
        batch = 0 if x.ndim == 4 else None
        return View(x, (batch, -3, -1, -2) if self.last else (batch, -3, -2, -1))

    def arguments(self) -> tuple:
        """Views of the inputs as kernels take them."""
        return tuple(map(self.view, (self.q, self.k, self.v))), tuple(map(self.view, self.memory)) or (NO_VIEW,) * 2

    def numbers(self) -> tuple:
        """What follows the views."""
        return 0 if self.mask is None else self.mask, *self.sizes, Q_MAPS.index(self.q_map), self.scale, False

    def rows(self, x: Tensor) -> Tensor:
        """`[..., N, D]` as double."""
        return (x.mT if self.last else x).double()

    def sums(self) -> tuple[Tensor, Tensor]:
        """Context and normalizer."""
        k, v = self.rows(self.k), self.rows(self.v)
        if self.mask is not None:
            hidden = ~self.mask[:, None, :, None]
            k, v = k.masked_fill(hidden, -math.inf), v.masked_fill(hidden, 0)
        if self.memory:
            learned = [self.rows(m).expand(len(k), -1, -1, -1) for m in self.memory]
            k, v = torch.cat((learned[0], k), -2), torch.cat((learned[1], v), -2)
        if self.q_map == "elu1":
            return elu1(k).mT @ v, elu1(k).sum(-2)
        return k.softmax(-2).mT @ v, k.logsumexp(-2)


def inputs(
    batch: int, heads: int, positions: int, features: int, width: int, q_map: str = "softmax", **more: Any
) -> Callable[[torch.dtype], tuple[Problem]]:
    """A problem; `more` are the options of `problem`."""

    def make(dtype: torch.dtype) -> tuple[Problem]:
        return (problem(dtype, (batch, heads, positions, features, width), q_map, **more),)

    return make


def problem(
    dtype: torch.dtype,
    sizes: tuple[int, ...],
    q_map: str,
    *,
    memory: int = 0,
    mask: str = "",
    last: bool = False,
    packed: bool = False,
    turned: bool = False,
    padded: bool = False,
    spread: float = 1.0,
    put: float | None = None,
    until: int = 1,
    bias: float = 0.0,
) -> Problem:
    """Normal numbers, queries and keys times `spread`; `put` goes into a feature's first keys, `until` of them.

    q, k and v are `turned` where they lie in memory as the other layout has them, `padded` where NaN follows each row
    of positions up to aligned memory. The gradient is around `bias`, all times the positions: so gradients of the keys
    are of about 1.
    """
    batch, heads, positions, features, width = sizes
    generator = torch.Generator().manual_seed(sum(sizes))

    def normal(*shape: int) -> Tensor:
        x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        return x.mT.contiguous() if last else x

    shapes = [(batch, heads, positions, size) for size in (features, features, width)]
    q, k, v = (normal(*shape) for shape in shapes)
    if packed:
        q, k, v = torch.stack((q, k, v), 1).unbind(1)
    if turned:
        q, k, v = (x.mT.contiguous().mT for x in (q, k, v))
    if padded:
        q, k, v = (torch.nn.functional.pad(x, (0, -positions % 8), value=math.nan)[..., :positions] for x in (q, k, v))
    q, k = q.mul_(spread), k.mul_(spread)
    if put is not None:
        keys = k.mT if last else k
        keys[0, 0, :until, 3] = min(put, torch.finfo(dtype).max)
    taken = torch.rand(batch, positions, generator=generator) < 0.7 if mask else None
    if taken is not None and mask == "all":
        taken[0] = False
    if taken is not None:  # what is hidden must not matter
        v.masked_fill_(~taken[:, None, None, :] if last else ~taken[:, None, :, None], math.nan)
    learned = tuple(normal(1, heads, memory, size)[0] for size in (features, width)) if memory else ()
    grad = positions * (normal(*shapes[2]) + bias)
    return Problem(q, k, v, grad, taken, learned, q_map, last, packed)


def shrunk(outputs: tuple[Tensor, ...], like: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Each divided by the largest magnitude of another, and rounded: so one tolerance suits all."""
    largest = [x.where(x.isfinite(), 0).abs().amax() if x.numel() else torch.ones(()) for x in like]
    return tuple((x.double() / (m if m else 1)).to(dtype) for x, m in zip(outputs, largest, strict=True))


def run(kernels: Kernels, problem: Problem) -> tuple[Tensor, ...]:
    """Output, context and normalizer."""
    batch, heads, _, _, features, width = problem.sizes
    out = kernels.empty(*problem.v.shape, dtype=problem.v.dtype)
    context = kernels.empty(batch, heads, features, width, dtype=torch.float32)
    normalizer = kernels.empty(batch, heads, features, dtype=torch.float32)
    size = kernels.module.linear_attention_forward_scratch(*problem.sizes)
    scratch = kernels.empty(size, dtype=torch.float32)
    tensors, memory = problem.arguments()
    views = (*tensors, *memory, problem.view(out))
    numbers = (*problem.numbers(), scratch)
    kernels("linear_attention_forward", context, normalizer, *views, *numbers, dtype=problem.q.dtype)
    return shrunk((out.cpu(), context.cpu(), normalizer.cpu()), expected(problem), problem.q.dtype)


def expected(problem: Problem) -> tuple[Tensor, ...]:
    """The same in float64."""
    q, k, v = (x.double() for x in (problem.q, problem.k, problem.v))
    memory: Any = tuple(x.double() for x in problem.memory) or None
    out = reference_linear_attention(q, k, v, mask=problem.mask, memory=memory, **problem.options)
    return out, *problem.sums()


def reference(problem: Problem) -> tuple[Tensor, ...]:
    wanted = expected(problem)
    return shrunk(wanted, wanted, torch.float64)


# Widths are padded to 32, 64 or 128; a tile has 64 positions of a half type, or 32.
CASES = {
    "one": inputs(1, 1, 1, 16, 16, memory=1),
    "packed, aligned": inputs(2, 2, 128, 32, 32, last=True, packed=True, memory=3),
    "channels first, a rest": inputs(1, 2, 101, 32, 20, last=True),
    "channels first, padded": inputs(1, 1, 101, 32, 20, last=True, padded=True),
    "tokens, masked": inputs(2, 1, 72, 24, 40, "scale", mask="some"),
    "tokens, aligned": inputs(1, 2, 64, 32, 32),
    "tokens that lie like channels": inputs(1, 1, 136, 32, 32, turned=True),
    "sums merged": inputs(1, 1, 460, 16, 16, last=True, memory=70),
    "wide": inputs(1, 1, 70, 72, 128, memory=2),
    "elu1": inputs(2, 1, 90, 17, 33, "elu1", mask="some", memory=5, last=True),
    "elu1, tokens": inputs(1, 1, 520, 32, 16, "elu1"),
    "scale, packed": inputs(1, 1, 40, 64, 64, "scale", last=True, packed=True),
    "large logits": inputs(1, 1, 70, 16, 16, spread=40.0),
    "one huge key": inputs(1, 1, 70, 16, 16, put=1e7),
    "nan": inputs(1, 2, 70, 16, 16, put=math.nan),
    "-inf": inputs(1, 2, 70, 16, 16, put=-math.inf, until=70),
    "-inf at first": inputs(1, 1, 130, 16, 16, put=-math.inf, until=65),
    "sums beyond float16": inputs(1, 1, 520, 16, 16, bias=20.0, last=True),
    "sums beyond float16, elu1": inputs(1, 1, 520, 16, 16, "elu1", spread=2000.0),
    "all masked": inputs(2, 1, 40, 16, 16, mask="all"),
    "all masked, elu1": inputs(2, 1, 40, 16, 16, "elu1", mask="all"),
    "only memory": inputs(1, 1, 0, 16, 16, memory=3),
    "no batch": inputs(0, 2, 5, 16, 16),
}
TOLERANCE = {torch.float32: (2e-5, 4e-6), torch.bfloat16: (2e-2, 1.5e-2), torch.float16: (3e-3, 2e-3)}

OP = Op(
    source="linear_attention",
    cases=CASES,
    run=run,
    reference=reference,
    tolerance=TOLERANCE,
    mutants=(
        Mutant(
            "tiles read before they are written",
            "    __syncthreads();  // the tile is there, and the last one is read\n",
            "",
        ),
        Mutant(
            "products before the map",
            "hide<W>(values, taken);\n    __syncthreads();",
            "hide<W>(values, taken);",
            SUMS,
        ),
        Mutant("earlier sums that do not decay", "context_[j][0] *= upper;", "", SUMS),
        Mutant("hidden values that count", "if (here.mask) hide", "if (false) hide", SUMS),
        Mutant("a tile dropped", "tile < part.last; ++tile", "tile + 1 < part.last; ++tile"),
        Mutant("a context past its end", "e + 1 < width) out", "e < width) out", SUMS),
        Mutant("a part dropped", "s < splits; ++s) sum +=", "s + 1 < splits; ++s) sum +="),
        Mutant("a part's total not weighed", "totals[s * size] * weight(s)", "totals[s * size]"),
        Mutant("output over queries that are read", "__syncthreads();  // the tile is read", "// the tile is read"),
        Mutant(
            "output stored before it is written", "    __syncthreads();\n    store<T, W>(tile", "    store<T, W>(tile"
        ),
        Mutant("another head's context", "context + part.head * features", "context + part.b * features"),
        Mutant("shared memory too small", "4 * kTileBytes<W> + Sums", "3 * kTileBytes<W> + Sums"),
        Mutant(
            "a position past the end", "position + k * positions < count", "position + k * positions <= count", TILE
        ),
        Mutant(
            "a piece past the end",
            "from.count, kVector<T> - 1)) {\n      *rein",
            "from.count, 0)) {\n      *rein",
            TILE,
        ),
        Mutant(
            "a vote that some lanes skip",
            "rises = __any_sync(~0u, rises);",
            "if (rises) rises = __any_sync(~0u, rises);",
            MAPS,
        ),
        Mutant("the maximum of one lane", "      top = warp_max(top);\n", "", MAPS),
        Mutant("-inf less -inf", "sums.top[r] == -INFINITY ? 0.0f : sums.top[r]", "sums.top[r]", MAPS),
        Mutant("memory for positions", "(early ? tile : tile - split.memory_tiles)", "tile", SPLIT),
        Mutant("sums too large for a half", "map == Map::elu1 && power <", "false && power <", SPLIT, torch.float16),
        Mutant(
            "hidden values of halves that count", "if (some) {  // even", "if (false) {  // even", SUMS, torch.bfloat16
        ),
        Mutant("hidden keys of halves that count", "if (!some) continue;", "continue;", SUMS, torch.bfloat16),
        Mutant(
            "earlier sums of halves that do not decay",
            "scale(m, r, decay(top_[m][r], top));\n        top_[m][r] = top;\n      }\n    }",
            "top_[m][r] = top;\n      }\n    }",
            SUMS,
            torch.bfloat16,
        ),
        Mutant("keys that are never followed", "kSlack = 4.0f", "kSlack = 1e30f", SUMS, torch.float16),
        Mutant(
            "-inf less -inf of halves",
            "top_[m][r] == -INFINITY ? 0.0f : top_[m][r]",
            "top_[m][r]",
            SUMS,
            torch.bfloat16,
        ),
        Mutant(
            "a warp's positions left out",
            "part < kPositionParts; ++part",
            "part + 1 < kPositionParts; ++part",
            SUMS,
            torch.bfloat16,
        ),
        Mutant("a warp's total not weighed", "totals[d] * theirs", "totals[d]", SUMS, torch.bfloat16),
        Mutant(
            "sums joined before they are there",
            "W, W, W);\n      __syncthreads();",
            "W, W, W);",
            SUMS,
            torch.bfloat16,
        ),
        Mutant("the largest query of one lane", "      top = max_over_t(top);\n", "", dtype=torch.bfloat16),
        Mutant("another position's divisor", "inverse, 8 * t + 4)", "inverse, 8 * t)", dtype=torch.bfloat16),
        Mutant("a strip's groups mixed", "(lane.pair, 8 * i, 8 * j)", "(lane.pair, 8 * i, 0)", STRIP, torch.bfloat16),
        Mutant(
            "a matrix not transposed", "(lane.turned, k, 16 * m)", "(lane.upright, k, 16 * m)", STRIP, torch.float16
        ),
    ),
)
