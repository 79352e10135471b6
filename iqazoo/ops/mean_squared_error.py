"""The mean squared error of each pair in a batch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from iqazoo.errors import InputError
from iqazoo.ops.backend import Backend, choose, dense, launch, module, transformed


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
    chosen = choose(backend, image, reference)
    if chosen == "torch":
        return reference_mse(image, reference)
    return _Fused.apply(image, reference, chosen)


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
    if image.device != reference.device:
        raise InputError(f"mse takes tensors of one device, got {image.device} and {reference.device}; move one")


class _Fused(torch.autograd.Function):
    """One pass over the pair forward, one backward."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, reference: Tensor, backend: str) -> Tensor:
        ctx.save_for_backward(image, reference)
        ctx.backend = backend
        return _forward(backend, dense(image), dense(reference))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        image, reference = ctx.saved_tensors
        for_image, for_reference, _ = ctx.needs_input_grad
        if not for_image:  # the gradient in the reference is the negative of that in the image
            return None, _gradient(ctx.backend, -grads[0], image, reference), None
        gradient = _gradient(ctx.backend, grads[0], image, reference)
        return gradient, -gradient if for_reference else None, None


def _forward(backend: str, image: Tensor, reference: Tensor) -> Tensor:
    batch, size = image.shape[0], math.prod(image.shape[1:])
    error = image.new_empty(batch)
    scratch = []
    if backend == "cuda":
        partials = module(backend).mse_partials(size)
        scratch = [image.new_empty((batch, partials), dtype=torch.float64)]
    launch(backend, "mse_forward", image, reference, *scratch, error, batch, size)
    return error


def _gradient(backend: str, grad: Tensor, image: Tensor, reference: Tensor) -> Tensor:
    """grad * 2 (image - reference) / size, `[B, ...]`."""
    batch, size = image.shape[0], math.prod(image.shape[1:])
    if torch.is_grad_enabled() or transformed(grad):  # with create_graph this is differentiated in turn
        return (2 / max(size, 1) * grad).view(-1, *[1] * (image.ndim - 1)) * (image - reference)
    image, reference = dense(image), dense(reference)
    gradient = torch.empty_like(image)
    launch(backend, "mse_backward", dense(grad), image, reference, gradient, batch, size)
    return gradient
