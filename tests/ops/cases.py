"""The ops that tests/ops/test_conformance.py holds to their references.

To add an op, add a `Case` to `CASES`: its public function, its reference, and what makes inputs of a given size. All
checks then run on it: each backend that is available here, in eager mode and compiled, each dtype, each set of options.
An op whose results are not smooth (hinges, ties) chooses inputs away from the kinks, or leaves them to its own tests.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from iqazoo.ops import available, mse
from iqazoo.ops.mean_squared_error import reference_mse

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
    sizes: tuple[int, ...] = (0, 1, 17, 300)
    large: int = 70_001
    value_tolerance: Mapping[torch.dtype, float] = field(default_factory=lambda: VALUE)
    gradient_tolerance: Mapping[torch.dtype, float] = field(default_factory=lambda: GRADIENT)


def image_pair(generator: Generator, dtype: torch.dtype, size: int) -> tuple[Tensor, Tensor]:
    """Two batches of images, `size` wide, of 1 to 3 images with 1 to 4 rows."""
    image, reference = torch.rand(2, 1 + size % 3, 1 + size % 4, size, generator=generator, dtype=torch.float64)
    return image.to(dtype), reference.to(dtype)


CASES = [
    Case("mse", mse, reference_mse, image_pair, differentiable=(0, 1), dtypes=FLOATS + HALVES),
]


def backend_params(*names: str) -> list[Any]:
    """Backends as parameters of a test, which is skipped where they are not available."""
    reasons = available()
    return [
        pytest.param(name, marks=pytest.mark.skipif(reasons[name] is not None, reason=f"{name}: {reasons[name]}"))
        for name in names
    ]
