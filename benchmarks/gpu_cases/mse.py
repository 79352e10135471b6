"""The mean squared error on a GPU."""

import math
from functools import partial

import torch
from gpu_case import Case

from iqazoo.ops import mse

LARGE = (64, 3, 512, 512)
SHAPES = [(1, 3, 1080, 1920), (64, 3, 64, 64), (16, 3, 512, 512), LARGE, (4, 3, 37, 53)]


def inputs(shape, dtype, grad, device):
    image, reference = torch.rand(2, *shape, device=device).to(dtype)
    return image.detach().requires_grad_(grad), reference


def value(image, reference, backend):
    return mse(image, reference, backend=backend)


def value_and_gradient(image, reference, backend):
    return torch.autograd.grad(mse(image, reference, backend=backend).sum(), image)


def case(shape, what, dtype=torch.float32):
    function = value if what == "value" else value_and_gradient
    # The gradient reads both images again and writes one.
    arrays = 2 if what == "value" else 5
    return Case(
        op="mse",
        what=what,
        shape=f"{list(shape)} {str(dtype).removeprefix('torch.')}",
        inputs=partial(inputs, shape, dtype, what != "value"),
        fused=partial(function, backend="cuda"),
        plain=partial(function, backend="torch"),
        bytes=dtype.itemsize * arrays * math.prod(shape),
    )


WHATS = ("value", "value and gradient")
CASES = [case(shape, what) for what in WHATS for shape in SHAPES]
CASES += [case(LARGE, what, dtype) for what in WHATS for dtype in (torch.bfloat16, torch.float16)]
