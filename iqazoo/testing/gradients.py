"""Checks of gradients in the image, for metrics that are used as a loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from iqazoo.testing.subject import NotApplicable, Subject, require


def check_gradient(subject: Subject) -> None:
    """The gradient in float64 is that of finite differences, and not zero."""
    _require_differentiable(subject)
    metric = subject.new().double()
    side = max(16, subject.min_size)
    image, *reference = (x[:1].double() for x in subject.inputs(height=side, width=side + 1))
    generator = torch.Generator().manual_seed(0)
    # Flat and saturated places have kinks, where no difference is right.
    image = (0.8 * image + 0.2 * torch.rand(image.shape, generator=generator, dtype=image.dtype)).requires_grad_()
    (gradient,) = torch.autograd.grad(metric(image, *reference).sum(), image)
    length = gradient.norm()
    require(bool(length > 0), "the gradient is zero or NaN; declare differentiable=False if it must be")

    def score(x: Tensor) -> Tensor:
        return metric(x, *reference) / length  # gradients of length 1: tolerances mean the same for every metric

    try:
        torch.autograd.gradcheck(score, (image,), atol=1e-5, rtol=1e-2, fast_mode=True)
    except GradcheckError as error:
        require(False, f"the gradient is not that of finite differences: {str(error).strip().splitlines()[0]}")


def check_gradient_at_identity(subject: Subject) -> None:
    """The gradient is finite where image and reference are one, and in flat images."""
    _require_differentiable(subject)
    photographs = subject.photographs()
    for picture in (photographs, torch.zeros_like(photographs), torch.full_like(photographs, 0.5)):
        image = picture.clone().requires_grad_()
        inputs = (image, picture) if subject.spec.takes_reference else (image,)
        (gradient,) = torch.autograd.grad(subject.metric(*inputs).sum(), image)
        kind = "photographs" if picture is photographs else f"a flat image of {picture[0, 0, 0, 0]:g}"
        require(bool(gradient.isfinite().all()), f"the gradient at {kind} must be finite, got NaN or infinity")


def _require_differentiable(subject: Subject) -> None:
    if not subject.spec.differentiable:
        raise NotApplicable("differentiable=False")
