"""The mean squared error of each pair in a batch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from iqazoo.errors import InputError
from iqazoo.ops.backend import Backend, choose, dense, launch, module, transformed
from iqazoo.ops.roads import op


def mse(image: Tensor, reference: Tensor, *, backend: Backend = "auto") -> Tensor:
    """The mean squared error of each image against its reference: mean over all but the batch of (x - y)^2.

    Differentiable in both inputs, as often as wanted.

    Args:
        image: `[B, ...]`, floating point, any range.
        reference: the same shape.
        backend: "torch", "cpu", "cuda", or "auto" for the fastest that fits.

    Returns:
        `[B]`, float64 where an input is, else float32. NaN for images without elements.

    Raises:
        InputError: shapes, dtypes or devices are not as above, or the backend cannot take them.
    """
    _check(image, reference)
    if choose(backend, image, reference, kernel="mse_forward") == "torch":
        return reference_mse(image, reference)
    return _value(image, reference)


def reference_mse(image: Tensor, reference: Tensor) -> Tensor:
    """The specification, in pure torch; every backend is held to it. Half types are computed in float32."""
    dtype = torch.float64 if torch.float64 in (image.dtype, reference.dtype) else torch.float32
    difference = image.to(dtype) - reference.to(dtype)  # [B, ...]
    return difference.square().flatten(1).mean(1)  # [B]


def _check(image: Tensor, reference: Tensor) -> None:
    if image.shape != reference.shape or image.ndim < 2:
        raise InputError(
            f"mse takes two tensors of equal shape [B, ...], at least [B, N]; "
            f"got {list(image.shape)} and {list(reference.shape)}"
        )
    if not (image.is_floating_point() and reference.is_floating_point()):
        raise InputError(f"mse takes floating point, got {image.dtype} and {reference.dtype}; convert with .float()")


def _forward(image: Tensor, reference: Tensor) -> Tensor:
    backend, size = image.device.type, math.prod(image.shape[1:])
    error = _empty_errors(image, reference)
    scratch = []
    if backend == "cuda":
        partials = module(backend).mse_partials(size)
        scratch = [image.new_empty((len(image), partials), dtype=torch.float64)]
    launch(backend, "mse_forward", dense(image), dense(reference), *scratch, error, len(image), size)
    return error


def _empty_errors(image: Tensor, reference: Tensor) -> Tensor:
    return image.new_empty(image.shape[0], dtype=torch.promote_types(image.dtype, torch.float32))  # [B]


def _save(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The gradient in the reference is the negative of that in the image."""
    image, reference = ctx.saved_tensors
    for_image, for_reference = ctx.needs_input_grad
    gradient = _any_gradient(grad if for_image else -grad, image, reference)
    if not for_image:
        return None, gradient
    return gradient, -gradient if for_reference else None


def _any_gradient(grad: Tensor, image: Tensor, reference: Tensor) -> Tensor:
    """grad * 2 (image - reference) / size, `[B, ...]`."""
    if not torch.is_grad_enabled() and not transformed(grad):
        return _gradient(grad, image, reference)
    # With create_graph this is differentiated in turn, so it is made of torch's functions.
    scale = 2 / max(math.prod(image.shape[1:]), 1) * grad  # [B]
    difference = image.to(grad.dtype) - reference.to(grad.dtype)
    return (scale.view(-1, *[1] * (image.ndim - 1)) * difference).to(image.dtype)


def _forward_gradient(grad: Tensor, image: Tensor, reference: Tensor) -> Tensor:
    image, reference, size = dense(image), dense(reference), math.prod(image.shape[1:])
    gradient = torch.empty_like(image)
    arguments = (dense(grad), image, reference, gradient, len(image), size)
    launch(image.device.type, "mse_backward", *arguments, dtype=image.dtype)
    return gradient


def _empty_gradient(grad: Tensor, image: Tensor, reference: Tensor) -> Tensor:
    return torch.empty_like(image, memory_format=torch.contiguous_format)


_value = op("mse", _forward, fake=_empty_errors, setup_context=_save, backward=_backward)
_gradient = op("mse_backward", _forward_gradient, fake=_empty_gradient)
