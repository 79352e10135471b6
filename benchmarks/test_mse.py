"""The mean-squared-error kernel beside the torch expression it replaces."""

import pytest
import torch

from iqazoo.ops import mse

SHAPES = {"1080p": (1, 3, 1080, 1920), "batch of 64": (64, 3, 64, 64)}


@pytest.mark.parametrize("backend", ["torch", "cpu"])
@pytest.mark.parametrize("shape", SHAPES)
def test_value(benchmark, shape, backend):
    x, y = torch.rand(2, *SHAPES[shape])
    benchmark.group = f"value, {shape}"
    benchmark(mse, x, y, backend=backend)


@pytest.mark.parametrize("backend", ["torch", "cpu"])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradient(benchmark, shape, backend):
    x, y = torch.rand(2, *SHAPES[shape])
    x.requires_grad_()
    benchmark.group = f"value and gradient, {shape}"
    benchmark(lambda: mse(x, y, backend=backend).sum().backward())
