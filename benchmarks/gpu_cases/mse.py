"""The mean squared error on a GPU."""

import math
from functools import partial

import torch
from gpu_case import Case

from iqazoo.ops import mse

SHAPES = [(1, 3, 1080, 1920), (64, 3, 64, 64), (16, 3, 512, 512), (64, 3, 512, 512), (4, 3, 37, 53)]


def inputs(shape, grad, device):
    image, reference = torch.rand(2, *shape, device=device)
    return image.detach().requires_grad_(grad), reference


def value(image, reference, backend):
    return mse(image, reference, backend=backend)


def value_and_gradient(image, reference, backend):
    return torch.autograd.grad(mse(image, reference, backend=backend).sum(), image)


def case(shape, what):
    function = value if what == "value" else value_and_gradient
    # The gradient reads both images again and writes one.
    arrays = 2 if what == "value" else 5
    return Case(
        op="mse",
        what=what,
        shape=str(list(shape)),
        inputs=partial(inputs, shape, what != "value"),
        fused=partial(function, backend="cuda"),
        plain=partial(function, backend="torch"),
        bytes=4 * arrays * math.prod(shape),
    )


CASES = [case(shape, what) for what in ("value", "value and gradient") for shape in SHAPES]
