"""What formulas need to be computed as they are meant: full precision, finite gradients, constants built once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

import numpy as np
import torch
from torch import Tensor

P = ParamSpec("P")


def full_precision(score: Callable[Concatenate[Tensor, P], Tensor]) -> Callable[Concatenate[Tensor, P], Tensor]:
    """Decorates a function of images: half types are computed in float32, and autocast leaves it alone."""

    @functools.wraps(score)
    def precise(image: Tensor, *args: P.args, **options: P.kwargs) -> Tensor:
        with torch.autocast(image.device.type, enabled=False):
            given: Any = (_promoted(a) if isinstance(a, Tensor) else a for a in args)
            return score(_promoted(image), *given, **{key: _promoted(a) for key, a in options.items()})  # type: ignore[arg-type]

    return precise


def _promoted(value: Any) -> Any:
    half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if half else value


def safe_sqrt(x: Tensor) -> Tensor:
    """The square root of x >= 0, whose gradient at 0 is 0 in place of infinity. Below 0 it is 0; NaN stays NaN."""
    return safe_power(x, 0.5)


def safe_power(x: Tensor, exponent: float) -> Tensor:
    """x >= 0 to a positive power, with the gradient 0 at 0 in place of infinity. Below 0 it is 0; NaN stays NaN."""
    kept = ~(x <= 0)
    base = x.where(kept, 1)
    return (base.sqrt() if exponent == 0.5 else base**exponent).where(kept, 0)


def constant(like: Tensor, build: Callable[..., np.ndarray], *key: Any) -> Tensor:
    """`build(*key)`, a float64 array, as a tensor with the type and on the device of `like`, kept for the next calls.

    Args:
        like: a tensor that the result meets in the computation.
        build: a function of a module, the same at every call.
        key: what it is called with, hashable.
    """
    if torch.compiler.is_compiling():  # what is traced must not outlive the trace
        return torch.as_tensor(build(*key)).to(like)
    return _kept(build, key, like.dtype, like.device)


@functools.lru_cache(maxsize=32)
def _kept(build: Callable[..., np.ndarray], key: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # a tensor of inference mode could not be used with gradients later
        return torch.from_numpy(np.ascontiguousarray(build(*key))).to(device, dtype)
