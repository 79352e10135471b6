"""The ops that tests/ops/test_conformance.py holds to their references.

To add an op, add a `Case` to `CASES`: its public function, its reference, and what makes inputs of a given size. All
checks then run on it: each backend that is available here, in eager mode and compiled, each dtype, each set of options.
An op whose results are not smooth (hinges, ties) chooses inputs away from the kinks, or leaves them to its own tests.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Generator, Tensor

from iqazoo.ops import (
    available,
    calibrated_pairwise_loss,
    feature_distance,
    linear_attention,
    linear_attention_packed,
    mse,
    pairwise_loss,
    ssim,
    ssim_pyramid,
    windowed_moments,
)
from iqazoo.ops.calibrated import SHAPES, reference_calibrated_pairwise_loss
from iqazoo.ops.feature_distance import reference_feature_distance
from iqazoo.ops.linear_attention import reference_linear_attention
from iqazoo.ops.mean_squared_error import reference_mse
from iqazoo.ops.moments import reference_windowed_moments
from iqazoo.ops.pairwise import reference_pairwise_loss
from iqazoo.ops.pyramid import reference_ssim_pyramid
from iqazoo.ops.ranking import ranking_loss, reference_ranking_loss
from iqazoo.ops.structural_similarity import reference_ssim

FLOATS = (torch.float32, torch.float64)
HALVES = (torch.float16, torch.bfloat16)
# A few roundings of the type; that of half types counts for gradients alone, since their results are float32.
VALUE = {torch.float32: 1e-6, torch.float64: 1e-13, torch.float16: 1e-6, torch.bfloat16: 1e-6}
GRADIENT = {torch.float32: 2e-6, torch.float64: 1e-12, torch.float16: 1e-3, torch.bfloat16: 8e-3}


@dataclass(frozen=True)
class Case:
    """One op. Tolerances are relative to the greatest value of a result; whole numbers and booleans must be equal.

    Attributes:
        name: for the ids of tests.
        op: `op(*inputs, backend=..., **options)` -> a tensor, or a tuple or dataclass of tensors.
        reference: `reference(*inputs, **options)` -> the same, in torch, for any floating-point dtype.
        inputs: `inputs(generator, dtype, size)` -> tensors on the CPU, for any size from 0.
        differentiable: which of the inputs have a gradient.
        options: the sets of keyword arguments to try.
        dtypes: what the kernels take.
        gpu_dtypes: what to try on a GPU, where its kernels take others.
        gpu_single: whether a GPU computes one gradient alone in another order than several at once.
        sizes: what to compare with the reference, which the fuzz asks for sizes up to 600 too.
        large: a size that gives several threads work; only the kernels meet it.
        value_tolerance: by dtype of the inputs.
        gradient_tolerance: likewise.
    """

    name: str
    op: Callable[..., Any]
    reference: Callable[..., Any]
    inputs: Callable[[Generator, torch.dtype, int], tuple[Tensor, ...]]
    differentiable: tuple[int, ...]
    options: tuple[Mapping[str, Any], ...] = ({},)
    dtypes: tuple[torch.dtype, ...] = FLOATS
    gpu_dtypes: tuple[torch.dtype, ...] | None = None
    gpu_single: bool = False
    sizes: tuple[int, ...] = (0, 1, 17, 300)
    large: int = 70_001
    value_tolerance: Mapping[torch.dtype, float] = field(default_factory=lambda: VALUE)
    gradient_tolerance: Mapping[torch.dtype, float] = field(default_factory=lambda: GRADIENT)

    def dtypes_on(self, backend: str) -> tuple[torch.dtype, ...]:
        return self.gpu_dtypes if backend == "cuda" and self.gpu_dtypes else self.dtypes


def image_pair(generator: Generator, dtype: torch.dtype, size: int) -> tuple[Tensor, Tensor]:
    """Two batches of 1 to 3 images of 7 rows, `size` wide: at 300, whole blocks of the kernel and a rest."""
    image, reference = torch.rand(2, 3 - size % 3, 7, size, generator=generator, dtype=torch.float64)
    return image.to(dtype), reference.to(dtype)


def windowed_pair(generator: Generator, dtype: torch.dtype, size: int) -> tuple[Tensor, Tensor]:
    """Two batches of alike images of 8 rows, `size` + 6 wide; none for the size 0."""
    height = 8 if size < 1000 else 200
    shape = (size % 2 + 1 if size else 0, 2 - size % 2, height, min(size, 600) + 6)
    image, noise = torch.rand(2, *shape, generator=generator, dtype=torch.float64)
    return image.to(dtype), (0.6 * image + 0.4 * noise).to(dtype)


def rated(generator: Generator, dtype: torch.dtype, size: int) -> tuple[Tensor, Tensor]:
    """Scores, and targets with ties."""
    scores = 3 * torch.randn(size, generator=generator, dtype=torch.float64)
    return scores.to(dtype), torch.randint(0, 9, (size,), generator=generator).to(dtype)


def judgments(generator: Generator, dtype: torch.dtype, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two scores and the fraction that preferred the second; no ties, no hinges."""
    score_a, score_b, preference = torch.rand(3, size, generator=generator, dtype=torch.float64)
    return (3 * score_a).to(dtype), (3 * score_b).to(dtype), preference.to(dtype)


def judgments_and_network(generator: Generator, dtype: torch.dtype, size: int) -> tuple[Tensor, ...]:
    """`judgments`, and the six weights of LPIPS's network; no hidden unit is where its slope changes."""
    weights = [(0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype) for shape in SHAPES]
    drawn = judgments(generator, dtype, size)
    while (near := _near_a_kink(*drawn, *weights)).any():
        drawn = tuple(torch.where(near, x, y) for x, y in zip(judgments(generator, dtype, size), drawn, strict=True))
    return *drawn, *weights


def _near_a_kink(score_a: Tensor, score_b: Tensor, preference: Tensor, *weights: Tensor) -> Tensor:
    """`[N]`: whether float32 and float64 may take different slopes of a LeakyReLU, in either order of the scores."""
    near, linear = torch.zeros(len(score_a), dtype=torch.bool), torch.nn.functional.linear

    def watched(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y = linear(x, weight, bias)  # [N, units]
        added_up = linear(x.abs(), weight.abs(), bias.abs())
        near.logical_or_((y.abs() < 3e-6 * added_up).any(1))
        return y

    with mock.patch("torch.nn.functional.linear", watched):
        for lower_is_better in (True, False):
            wide = (x.double() for x in (score_a, score_b, preference, *weights))
            reference_calibrated(*wide, lower_is_better=lower_is_better)
    return near


def calibrated(score_a: Tensor, score_b: Tensor, preference: Tensor, *weights: Tensor, **options: Any) -> Any:
    return calibrated_pairwise_loss(score_a, score_b, preference, weights, **options)


def reference_calibrated(score_a: Tensor, score_b: Tensor, preference: Tensor, *weights: Tensor, **options: Any) -> Any:
    return reference_calibrated_pairwise_loss(score_a, score_b, preference, weights, **options)


def feature_maps(generator: Generator, dtype: torch.dtype, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two maps that are alike, and weights: few channels at many positions, or, for odd sizes, many at nine."""
    shape = (3 - size % 3, size + 2, 3, 3) if size % 2 else (3 - size % 3, 5, 7, size)
    f_image, noise = torch.rand(2, *shape, generator=generator, dtype=torch.float64) + 0.05
    weight = torch.rand(shape[1], generator=generator, dtype=torch.float64)
    return f_image.to(dtype), (f_image + 0.3 * noise).to(dtype), weight.to(dtype)


def two_feature_maps(generator: Generator, dtype: torch.dtype, size: int) -> tuple[Tensor, Tensor]:
    return feature_maps(generator, dtype, size)[:2]


def queries_keys_values(generator: Generator, dtype: torch.dtype, size: int) -> tuple[Tensor, ...]:
    """q, k `[B, H, N, D]`, v `[B, H, N, E]`, the memory's keys and values, and a mask; N = size."""
    batch, heads, features, width, columns = 2 - size % 2, 2 - size % 2, 16, 20, 2
    shapes = [(batch, heads, size, features)] * 2 + [(batch, heads, size, width)]
    shapes += [(heads, columns, features), (heads, columns, width)]
    found = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    mask = torch.rand(batch, size, generator=generator) < 0.8
    mask[:, size - size // 8 :] = True  # what is hidden passes no NaN on, and one test puts it near the end
    return *found, mask


def attention(
    q: Tensor, k: Tensor, v: Tensor, memory_k: Tensor, memory_v: Tensor, mask: Tensor, **options: Any
) -> Tensor:
    return linear_attention(q, k, v, memory=(memory_k, memory_v), mask=mask, **options)


def reference_attention(
    q: Tensor, k: Tensor, v: Tensor, memory_k: Tensor, memory_v: Tensor, mask: Tensor, **options: Any
) -> Tensor:
    return reference_linear_attention(q, k, v, memory=(memory_k, memory_v), mask=mask, **options)


def packed_projection(generator: Generator, dtype: torch.dtype, size: int) -> tuple[Tensor, ...]:
    """`[B, 3 H D, N]` with H = 2, D = 18 and N = size, and the memory's keys and values."""
    shapes = (2 - size % 2, 108, size), (2, 18, 1), (2, 18, 1)
    packed, keys, values = (torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes)
    return packed, keys, values


def packed_attention(qkv: Tensor, memory_k: Tensor, memory_v: Tensor, **options: Any) -> Tensor:
    return linear_attention_packed(qkv, heads=2, memory=(memory_k, memory_v), **options)


def reference_packed_attention(qkv: Tensor, memory_k: Tensor, memory_v: Tensor, **options: Any) -> Tensor:
    q, k, v = qkv.unflatten(1, (3, 2, 18)).unbind(1)
    options["layout"] = "bhdn"
    return reference_linear_attention(q, k, v, memory=(memory_k, memory_v), **options).flatten(1, 2)


CASES = [
    Case("mse", mse, reference_mse, image_pair, differentiable=(0, 1), dtypes=FLOATS + HALVES),
    Case(
        "feature_distance",
        feature_distance,
        reference_feature_distance,
        feature_maps,
        differentiable=(0, 1, 2),
        options=({}, {"reduction": "map"}),
        sizes=(0, 3, 17, 300),
        large=20_000,
        value_tolerance={torch.float32: 5e-6, torch.float64: 1e-13},
        gradient_tolerance={torch.float32: 1e-5, torch.float64: 1e-12},
    ),
    Case(
        "feature_distance of channels",
        feature_distance,
        reference_feature_distance,
        two_feature_maps,
        differentiable=(0, 1),
        options=({"reduction": "channel"},),
        sizes=(0, 3, 17, 300),
        large=5001,
        value_tolerance={torch.float32: 5e-6, torch.float64: 1e-13},
        gradient_tolerance={torch.float32: 1e-5, torch.float64: 1e-12},
    ),
    Case(
        "ssim",
        ssim,
        reference_ssim,
        windowed_pair,
        differentiable=(0, 1),
        options=(
            {"window": 5},
            {"window": 3, "sigma": None, "padding": "same", "reduction": "map", "parts": True},
            {"window": 11, "padding": "reflect", "reduction": "channel"},
        ),
        gpu_single=True,
        value_tolerance={torch.float32: 5e-6, torch.float64: 1e-12},  # of one window; of means test_ssim.py asks 1e-6
        gradient_tolerance={torch.float32: 1e-5, torch.float64: 1e-11},
    ),
    Case(
        "ssim_pyramid",
        ssim_pyramid,
        reference_ssim_pyramid,
        windowed_pair,
        differentiable=(0, 1),
        options=({"scales": 2, "window": 3},),
        gpu_single=True,
        gradient_tolerance={torch.float32: 1e-5, torch.float64: 1e-11},
    ),
    Case(
        "windowed_moments",
        windowed_moments,
        reference_windowed_moments,
        windowed_pair,
        differentiable=(0, 1),
        options=(
            {"window": 5, "sigma": 1.0},
            {"window": 3, "sigma": None, "stride": 2, "padding": "reflect"},
        ),
    ),
    Case(
        "ranking_loss",
        ranking_loss,
        reference_ranking_loss,
        rated,
        differentiable=(0,),
        options=({}, {"lower_is_better": True, "reduction": "sum"}),  # other kinds: test_ranking.py
        large=3001,
        value_tolerance={torch.float32: 5e-6, torch.float64: 1e-12},
        gradient_tolerance={torch.float32: 5e-6, torch.float64: 1e-12},
    ),
    Case(
        "pairwise_loss",
        pairwise_loss,
        reference_pairwise_loss,
        judgments,
        differentiable=(0, 1),
        options=(
            {"lower_is_better": True},
            {"lower_is_better": False, "kind": "mse", "reduction": "none"},
            {"lower_is_better": True, "kind": "margin", "reduction": "sum", "ties": "first"},
        ),
    ),
    Case(
        "calibrated_pairwise_loss",
        calibrated,
        reference_calibrated,
        judgments_and_network,
        differentiable=(0, 1, 3, 4, 5, 6, 7, 8),
        options=(
            {"lower_is_better": True},
            {"lower_is_better": False, "reduction": "none"},
            {"lower_is_better": True, "reduction": "sum"},  # compat saturates where the type says: test_calibrated.py
        ),
        gradient_tolerance={torch.float32: 2e-4, torch.float64: 1e-12},  # of few judgments the sums cancel
    ),
    Case(
        "linear_attention",
        attention,
        reference_attention,
        queries_keys_values,
        differentiable=(0, 1, 2, 3, 4),
        options=({}, {"q_map": "scale", "scale": 0.7}, {"q_map": "elu1", "k_map": "elu1"}),  # causal: test_linear_...
        gpu_dtypes=(torch.float32,),
        sizes=(0, 1, 17, 150),
        large=9001,
        value_tolerance={torch.float32: 5e-6, torch.float64: 1e-12},
        gradient_tolerance={torch.float32: 2e-5, torch.float64: 1e-11},
    ),
    Case(
        "linear_attention_packed",
        packed_attention,
        reference_packed_attention,
        packed_projection,
        differentiable=(0, 1, 2),
        options=({}, {"q_map": "elu1", "k_map": "elu1"}),
        gpu_dtypes=(torch.float32,),
        sizes=(0, 1, 17, 150),
        large=9001,
        value_tolerance={torch.float32: 5e-6, torch.float64: 1e-12},
        gradient_tolerance={torch.float32: 2e-5, torch.float64: 1e-11},
    ),
]


def backend_params(*names: str) -> list[Any]:
    """Backends as parameters of a test, which is skipped where they are not available."""
    return [pytest.param(name, marks=_marks(name, reason)) for name, reason in available().items() if name in names]


def _marks(name: str, reason: str | None) -> list[Any]:
    skip = pytest.mark.skipif(reason is not None, reason=f"{name}: {reason}")
    return [skip, pytest.mark.gpu] if name == "cuda" else [skip]
