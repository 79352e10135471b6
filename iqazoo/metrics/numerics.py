"""What formulas need to be computed as they are meant: full precision, finite gradients, constants built once."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

import numpy as np
import torch
from torch import Tensor, nn

from iqazoo.ops import Moments, windowed_moments
from iqazoo.ops.backend import traced, transformed

P = ParamSpec("P")
HALF_TYPES = (torch.float16, torch.bfloat16)
MOST_BYTES = 2**28
"""The constants that are kept hold no more memory than this together. MAD's for an image of 6 megapixels fit, and a
folder of images that all differ in size does not fill the memory."""
_kept: OrderedDict[tuple[Any, ...], Tensor] = OrderedDict()  # the least recently used first
_lock = threading.Lock()


def full_precision(score: Callable[Concatenate[Tensor, P], Tensor]) -> Callable[Concatenate[Tensor, P], Tensor]:
    """Decorates a function of images: half types are computed in float32, and autocast leaves it alone."""

    @functools.wraps(score)
    def precise(image: Tensor, *args: P.args, **options: P.kwargs) -> Tensor:
        with torch.autocast(image.device.type, enabled=False):
            given: Any = (_promoted(a) if isinstance(a, Tensor) else a for a in args)
            return score(_promoted(image), *given, **{key: _promoted(a) for key, a in options.items()})  # type: ignore[arg-type]

    return precise


def _promoted(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in HALF_TYPES else value


class FullPrecision(nn.Module):
    """A module whose numbers are those of a fitted model: in a half type they would be those of another one.

    `half()` and the like leave them as they are; other types and devices are as always.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FullPrecision:
        def precise(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return tensor.to(moved.device) if moved.dtype in HALF_TYPES else moved

        return super()._apply(precise, recurse)


def safe_sqrt(x: Tensor) -> Tensor:
    """The square root of x >= 0, whose gradient at 0 is 0 in place of infinity. Below 0 it is 0; NaN stays NaN."""
    return safe_power(x, 0.5)


def safe_power(x: Tensor, exponent: float) -> Tensor:
    """x >= 0 to a positive power, with the gradient 0 at 0 in place of infinity. Below 0 it is 0; NaN stays NaN."""
    if not x.requires_grad and not transformed(x):  # half the passes over x
        return _power(x.clamp(min=0), exponent)
    kept = ~(x <= 0)
    return _power(x.where(kept, 1), exponent).where(kept, 0)


def _power(x: Tensor, exponent: float) -> Tensor:
    return x.sqrt() if exponent == 0.5 else x**exponent  # the root is exact


def exact_moments(x: Tensor, y: Tensor, *, window: int, sigma: float | None) -> Moments:
    """`ops.windowed_moments`, computed in float64 and rounded to the type of the images.

    For formulas in which flat windows count by themselves: their variances in float32, far from an image's mean as in
    black bars, are 1e-8 of rounding.
    """
    dtype = torch.promote_types(x.dtype, y.dtype)
    moments = windowed_moments(x.double(), y.double(), window=window, sigma=sigma)
    return Moments(*(moment.to(dtype) for moment in moments))


def constant(like: Tensor, build: Callable[..., np.ndarray], *key: Any) -> Tensor:
    """`build(*key)`, a float64 array, as a tensor with the type and on the device of `like`, kept for the next calls.

    Where constants fill `MOST_BYTES`, those that were not used for the longest time go.

    Args:
        like: a tensor that the result meets in the computation.
        build: a function of a module, the same at every call.
        key: what it is called with, hashable.
    """
    if traced(like) or transformed(like):  # what is traced must not outlive the trace
        return torch.as_tensor(build(*key)).to(like.device, like.dtype)
    wanted = (build, key, like.dtype, like.device)
    with _lock:
        if wanted in _kept:
            _kept.move_to_end(wanted)
            return _kept[wanted]
    with torch.inference_mode(False):  # a tensor of inference mode could not be used with gradients later
        made = torch.from_numpy(np.ascontiguousarray(build(*key))).to(like.device, like.dtype)
    _keep(wanted, made)
    return made


def _keep(wanted: tuple[Any, ...], made: Tensor) -> None:
    if made.nbytes > MOST_BYTES:  # it would drive out all others, and then itself
        return
    with _lock:
        _kept[wanted] = made
        while sum(tensor.nbytes for tensor in _kept.values()) > MOST_BYTES:
            _kept.popitem(last=False)
