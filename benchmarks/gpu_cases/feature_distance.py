"""The feature distance on a GPU: the taps of LPIPS's trunks."""

import math
from functools import partial

import torch
from gpu_case import Case

from iqazoo.ops import feature_distance

LARGE = (16, 64, 256, 256)
SHAPES = [(50, 64, 15, 15), (50, 384, 3, 3), (1, 64, 127, 127), (8, 128, 128, 128), (8, 512, 32, 32), LARGE]
WHATS = ("value", "value and gradients")


def inputs(shape, dtype, memory_format, device):
    image, reference = torch.rand(2, *shape, device=device).to(dtype)
    pair = (f.contiguous(memory_format=memory_format).detach().requires_grad_() for f in (image, reference))
    return *pair, torch.rand(shape[1], device=device)


def value(image, reference, weight, backend):
    with torch.no_grad():
        return feature_distance(image, reference, weight, backend=backend)


def value_and_gradients(image, reference, weight, backend):
    distance = feature_distance(image, reference, weight, backend=backend)
    return torch.autograd.grad(distance.sum(), (image, reference))


def case(shape, what, dtype=torch.float32, memory_format=torch.contiguous_format):
    function = value if what == "value" else value_and_gradients
    # The backward pass reads both maps again and writes two.
    arrays = 2 if what == "value" else 6
    layout = ", channels last" if memory_format == torch.channels_last else ""
    return Case(
        op="feature_distance",
        what=what,
        shape=f"{list(shape)} {str(dtype).removeprefix('torch.')}{layout}",
        inputs=partial(inputs, shape, dtype, memory_format),
        fused=partial(function, backend="cuda"),
        plain=partial(function, backend="torch"),
        bytes=dtype.itemsize * arrays * math.prod(shape),
    )


CASES = [case(shape, what) for what in WHATS for shape in SHAPES]
CASES += [case(LARGE, what, memory_format=torch.channels_last) for what in WHATS]
CASES += [case(LARGE, what, torch.bfloat16) for what in WHATS]
