import math

import numpy as np
import pytest
import torch

from iqazoo.metrics.numerics import constant, full_precision, safe_power, safe_sqrt


@pytest.mark.parametrize("exponent", [0.25, 0.5, 0.9])
def test_a_power_has_no_gradient_at_zero(exponent):
    x = torch.tensor([0.0, -1.0, 4.0, math.nan], dtype=torch.float64, requires_grad=True)
    found = safe_power(x, exponent)
    assert found[:2].tolist() == [0, 0]
    assert found[2].item() == pytest.approx(4**exponent)
    assert found[3].isnan()
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert gradient[:2].tolist() == [0, 0]
    assert gradient[2].item() == pytest.approx(exponent * 4 ** (exponent - 1))


def test_the_root_is_exact():
    x = torch.tensor([2.0, 9.0])
    assert torch.equal(safe_sqrt(x), x.sqrt())


def test_a_score_is_computed_in_full_precision():
    seen = []

    @full_precision
    def score(image, reference, *, extra=None):
        seen.extend([image.dtype, reference.dtype, torch.is_autocast_enabled("cpu")])
        return image @ reference

    with torch.autocast("cpu", torch.bfloat16):
        found = score(torch.rand(2, 2).bfloat16(), torch.rand(2, 2).half())
    assert seen == [torch.float32, torch.float32, False]
    assert found.dtype == torch.float32
    assert score(torch.rand(2, 2).double(), torch.rand(2, 2).double()).dtype == torch.float64


def counted(side):
    counted.calls += 1
    return np.arange(float(side))


def test_a_constant_is_built_once_for_each_type():
    counted.calls = 0
    with torch.inference_mode():
        first = constant(torch.empty(1), counted, 3)
    again = constant(torch.empty(1), counted, 3)
    assert first is again
    assert not first.is_inference()  # or no gradient could be taken through it
    assert constant(torch.empty(1, dtype=torch.float64), counted, 3).dtype == torch.float64
    assert constant(torch.empty(1), counted, 4).tolist() == [0, 1, 2, 3]
    assert counted.calls == 3
