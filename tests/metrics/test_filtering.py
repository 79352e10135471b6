import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import convolve2d

from iqazoo.metrics import filtering


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("shape", [(12, 12), (13, 17), (3, 9)])
def test_shrinks_as_matlab_does(factor, shape):
    image = np.random.default_rng(0).random(shape)
    full = convolve2d(image, np.full((factor, factor), 1 / factor**2))
    begin = factor // 2  # of "same", which scipy centres otherwise for even sides
    same = full[begin : begin + shape[0], begin : begin + shape[1]]
    expected = same[::factor, ::factor]
    found = filtering.shrink(torch.from_numpy(image)[None, None], factor)[0, 0]
    assert found.shape == (-(-shape[0] // factor), -(-shape[1] // factor))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(("side", "factor"), [(5, 1), (383, 1), (384, 2), (640, 3), (1080, 4), (2160, 8)])
def test_the_shorter_side_becomes_about_256(side, factor):
    assert filtering.viewing_factor(torch.empty(1, 1, side, side + 100)) == factor


@pytest.mark.parametrize(("operator", "rows"), [("prewitt", (1, 1, 1)), ("scharr", (3, 10, 3))])
def test_gradients_are_those_of_the_kernels(operator, rows):
    plane = np.random.default_rng(0).random((6, 7))
    kernel = np.outer(rows, (1, 0, -1)) / sum(rows)
    found = filtering.gradients(torch.from_numpy(plane)[None, None], operator)
    for got, k in zip(found, (kernel, kernel.T), strict=True):
        np.testing.assert_allclose(np.abs(got[0, 0].numpy()), np.abs(convolve2d(plane, k, mode="same")), atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.floats(0.01, 300), st.sampled_from([0.0, 0.5]))
def test_similarity_is_at_most_one_and_one_for_equals(seed, constant, masking):
    x, y = torch.rand(2, 1, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found = filtering.energy_similarity(x, y, constant, masking)
    assert (found <= 1 + 1e-12).all()
    assert (found > 0).all()
    torch.testing.assert_close(found, filtering.energy_similarity(y, x, constant, masking))
    torch.testing.assert_close(filtering.energy_similarity(x, x, constant, masking), torch.ones_like(x))
    if masking == 0:
        expected = filtering.similarity(x.sqrt(), y.sqrt(), constant)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_a_mean_without_weights_is_the_plain_one():
    values = torch.rand(2, 1, 3, 4)
    torch.testing.assert_close(filtering.weighted_mean(values, torch.zeros_like(values)), values.mean((1, 2, 3)))
    weights = torch.zeros_like(values)
    weights[:, :, 1, 2] = 3
    torch.testing.assert_close(filtering.weighted_mean(values, weights), values[:, 0, 1, 2], rtol=1e-5, atol=1e-5)


def test_the_deviation_of_equal_values_is_zero_with_a_finite_gradient():
    values = torch.full((2, 1, 3, 4), 0.75, requires_grad=True)
    found = filtering.deviation(values)
    assert found.tolist() == [0, 0]
    assert torch.autograd.grad(found.sum(), values)[0].isfinite().all()
