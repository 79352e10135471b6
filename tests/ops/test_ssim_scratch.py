"""What the kernels of the GPU are given to work in, computed without a GPU."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from iqazoo.ops.structural_similarity import WINDOWS_AT_ONCE, _maps


def maps(shape, dtype=torch.float32, padding="same", for_both=True):
    with FakeTensorMode():
        return _maps(torch.empty(shape, dtype=dtype, device="cuda"), 11, padding, for_both)


@pytest.mark.parametrize(
    ("shape", "planes"),
    [
        ((1, 1, 64, 64), 1),
        ((0, 3, 64, 64), 1),
        ((2, 3, 64, 64), 6),
        ((1, 3, 1080, 1920), 1),
        ((16, 3, 512, 512), 8),
        ((2, 1, 4096, 4096), 1),
    ],
)
def test_the_planes_of_a_pass_fit_and_no_pass_is_left_nearly_empty(shape, planes):
    scratch, at_once = maps(shape)
    assert at_once == planes
    assert list(scratch.shape) == [planes, *shape[2:], 4]
    assert planes == 1 or planes * math.prod(shape[2:]) <= WINDOWS_AT_ONCE


def test_one_gradient_takes_less_and_half_types_are_computed_in_float32():
    scratch, _ = maps((1, 3, 64, 80), torch.bfloat16, "valid", for_both=False)
    assert (list(scratch.shape), scratch.dtype) == ([3, 54, 70, 3], torch.float32)


def test_the_cpu_needs_none():
    assert _maps(torch.zeros(1, 3, 64, 64), 11, "same", True) == []
