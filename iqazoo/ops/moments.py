"""Means, variances and the covariance of two images over sliding windows."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from iqazoo.errors import InputError
from iqazoo.ops import windows
from iqazoo.ops.backend import Backend, choose, dense, launch, transformed
from iqazoo.ops.roads import gradients_by_torch, op
from iqazoo.ops.structural_similarity import UNIFORM, empty_gradients
from iqazoo.ops.windows import PADDINGS, Padding, output_size


class Moments(NamedTuple):
    """What each window of two images holds, `[B, C, H', W']` each."""

    mean_x: Tensor
    mean_y: Tensor
    var_x: Tensor
    var_y: Tensor
    cov: Tensor


def windowed_moments(
    x: Tensor,
    y: Tensor,
    *,
    window: int,
    sigma: float | None,
    stride: int = 1,
    padding: Padding = "valid",
    backend: Backend = "auto",
) -> Moments:
    """Weighted means, variances and the covariance of all windows, in one pass over both images.

    Variances are those of the weighted pixels (no correction for the size of the sample) and never negative. A pivot
    is subtracted from each image first, so flat regions do not cancel. Differentiable in both images; a second
    derivative is taken through `reference_windowed_moments`.

    Args:
        x, y: `[B, C, H, W]`, floating point, any range.
        window: side of the square window in pixels, at most 33; odd, or with padding "valid" also even.
        sigma: standard deviation of the Gaussian window in pixels; None: all its pixels weigh the same.
        stride: from one window to the next in pixels, along both sides; the first is the upper left one.
        padding: "valid" takes the windows that lie inside the image; "same" and "reflect" centre one on every
            pixel, beyond the border being zeros or the mirrored image.
        backend: "torch", "cpu", "cuda", or "auto" for the fastest that fits.

    Returns:
        `Moments`, float64 where an input is, else float32.

    Raises:
        InputError: shapes, dtypes, devices or options are not as above, the image is smaller than the window and the
            padding allow, or the backend cannot take them.
    """
    windows.check_pair("windowed_moments", x, y)
    windows.check_window(window, sigma, padding, even=True)
    windows.check_size("windowed_moments", x, window, padding)
    if not isinstance(stride, int) or stride < 1:
        raise InputError(f"stride must be a whole number of pixels from 1; got {stride!r}")
    if x.device.type != "cuda" or x.dtype != y.dtype:  # kernels of the CPU take no half types
        x, y = windows.computed(x, y)
    if choose(backend, x, y, kernel="windowed_moments_forward") == "torch":
        return reference_windowed_moments(x, y, window=window, sigma=sigma, stride=stride, padding=padding)
    return Moments(*_moments(x, y, window, UNIFORM if sigma is None else float(sigma), stride, padding))


def reference_windowed_moments(
    x: Tensor, y: Tensor, *, window: int, sigma: float | None, stride: int = 1, padding: Padding = "valid"
) -> Moments:
    """The specification, in pure torch; every backend is held to it. Half types are computed in float32."""
    x, y = windows.computed(x, y)
    x, y = windows.extend(x, window, padding), windows.extend(y, window, padding)
    pivot_x, pivot_y = windows.pivot(x), windows.pivot(y)
    x, y = x - pivot_x, y - pivot_y
    planes = torch.stack([x, y, x * x, y * y, x * y])  # [5, B, C, H, W]
    with torch.autocast(x.device.type, enabled=False):  # in half precision the differences below would be noise
        filtered = windows.filter_windows(planes, window, sigma)[..., ::stride, ::stride]
    mean_x, mean_y, square_x, square_y, product = filtered
    var_x = windows.not_negative(square_x - mean_x * mean_x)
    var_y = windows.not_negative(square_y - mean_y * mean_y)
    return Moments(mean_x + pivot_x, mean_y + pivot_y, var_x, var_y, product - mean_x * mean_y)


# What follows calls the kernels; sigma 0 is a uniform window, `padding` an index of PADDINGS.
# windowed_moments_forward(x, y, mean_x, mean_y, var_x, var_y, cov, B, C, H, W, window, sigma, stride, padding)
# windowed_moments_backward(x, y, five gradients, grad_x, grad_y, B, C, H, W, window, sigma, stride, padding)
#   all five gradients of the results are there; grad_x and grad_y, `[B, C, H, W]`, are each written unless empty (its
#   address is null). On the GPU it also takes scratch, after the results, twice as large as one of them.


def _forward(
    x: Tensor, y: Tensor, window: int, sigma: float, stride: int, padding: str
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    results = _empty(x, y, window, sigma, stride, padding)
    numbers = (*x.shape, window, sigma, stride, PADDINGS.index(padding))
    launch(x.device.type, "windowed_moments_forward", dense(x), dense(y), *results, *numbers)
    return results


def _empty(
    x: Tensor, y: Tensor, window: int, sigma: float, stride: int, padding: str
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    height, width = ((output_size(side, window, padding) - 1) // stride + 1 for side in x.shape[2:])
    shape, dtype = (*x.shape[:2], height, width), torch.promote_types(x.dtype, torch.float32)
    mean_x, mean_y, var_x, var_y, cov = (x.new_empty(shape, dtype=dtype) for _ in range(5))
    return mean_x, mean_y, var_x, var_y, cov


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.numbers = inputs[2:]


def _backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    x, y = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    if torch.is_grad_enabled() or transformed(*grads):  # with create_graph this is differentiated in turn
        found = gradients_by_torch(lambda x, y: _moments_again(x, y, ctx.numbers), (x, y), wanted[:2], *grads)
    else:
        found = _gradient(x, y, *grads, *ctx.numbers, wanted[0], wanted[1])
    return *(g if want else None for g, want in zip(found, wanted, strict=False)), *(None,) * 4


def _moments_again(x: Tensor, y: Tensor, numbers: tuple[Any, ...]) -> Moments:
    window, sigma, stride, padding = numbers
    return reference_windowed_moments(x, y, window=window, sigma=sigma or None, stride=stride, padding=padding)


def _forward_gradient(
    x: Tensor, y: Tensor, grad_mean_x: Tensor, grad_mean_y: Tensor, grad_var_x: Tensor, grad_var_y: Tensor,
    grad_cov: Tensor, window: int, sigma: float, stride: int, padding: str, for_x: bool, for_y: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    incoming = [dense(g) for g in (grad_mean_x, grad_mean_y, grad_var_x, grad_var_y, grad_cov)]
    results = empty_gradients(x, y, for_x, for_y)
    numbers = (*x.shape, window, sigma, stride, PADDINGS.index(padding))
    scratch = [grad_cov.new_empty((2, *grad_cov.shape))] if x.device.type == "cuda" else []
    launch(x.device.type, "windowed_moments_backward", dense(x), dense(y), *incoming, *results, *scratch, *numbers)
    return results


_moments = op("windowed_moments", _forward, fake=_empty, setup_context=_save, backward=_backward)
_gradient = op("windowed_moments_backward", _forward_gradient, fake=empty_gradients)
