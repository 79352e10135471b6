import math

import natural_scenes_oracle as oracle
import numpy as np
import pytest
import torch

from iqazoo.metrics import natural_scenes as scenes

ROUNDED = 6e-4  # half a step of the authors' table, between whose entries iqazoo interpolates


def plane(height=61, width=75, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (height, width))


@pytest.mark.parametrize(("border", "mode"), [("replicate", "nearest"), ("zeros", "constant")])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-4)])
def test_contrast_equals_the_paper(border, mode, dtype, tolerance):
    luma = plane()
    expected, deviation = oracle.contrast(luma, mode)
    contrast, mean, sigma = scenes.contrast_normalized(torch.from_numpy(luma)[None, None].to(dtype), border)
    assert contrast.dtype == dtype
    np.testing.assert_allclose(contrast[0, 0], expected, atol=tolerance)
    np.testing.assert_allclose(sigma[0, 0], deviation, atol=100 * tolerance)
    np.testing.assert_allclose((mean + contrast * (sigma + 1))[0, 0], luma, atol=0.03)


@pytest.mark.parametrize("level", [0.0, 17.3, 200.11, 255.0])
def test_flat_places_have_no_contrast_in_float32(level):
    luma = torch.rand(1, 1, 64, 64) * 255
    luma[..., :40] = level
    contrast, _, sigma = scenes.contrast_normalized(luma)
    assert (contrast[..., :37] == 0).all()
    assert (sigma[..., :37] < 0.05).all()
    assert (contrast[..., 40:] != 0).float().mean() > 0.99


def test_shapes_and_deviations_equal_the_paper():
    values = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 30, 34)) + 0.2)
    of = scenes.spreads(values)
    assert of.left.shape == (2, 5)
    for i in range(2):
        contrast = values[i].numpy()
        assert scenes.symmetric_shape(of)[i, 0].item() == pytest.approx(oracle.symmetric(contrast), abs=ROUNDED)
        for k, product in enumerate((contrast, *oracle.products(contrast))):
            shape, left, right = oracle.asymmetric(product)
            assert of.left[i, k].item() == pytest.approx(left, rel=1e-9)
            assert of.right[i, k].item() == pytest.approx(right, rel=1e-9)
            assert scenes.asymmetric_shape(of)[i, k].item() == pytest.approx(shape, abs=ROUNDED)


@pytest.mark.parametrize("shape", [0.3, 0.7, 1.0, 2.0, 5.0, 9.0])
@pytest.mark.parametrize(("left", "right"), [(1.0, 1.0), (0.5, 2.0)])
def test_the_shape_of_a_known_distribution_is_found(shape, left, right):
    """Values whose distribution is exactly that of a generalized Gaussian with two sides."""
    from scipy.stats import gennorm

    half = gennorm.ppf(0.5 + np.arange(0.5, 40000) / 80000, shape)
    share = left / (left + right)
    count = round(80000 * share)
    negative, positive = (gennorm.ppf(0.5 + np.arange(0.5, n) / (2 * n), shape) for n in (count, 80000 - count))
    values = np.concatenate([-left * negative, right * positive])
    of = scenes.spreads(torch.from_numpy(values)[None, None])
    found = scenes.asymmetric_shape(of)[0, 0]
    assert found.item() == pytest.approx(shape, rel=0.03)
    scale = scenes.to_scale(found)
    assert (of.left[0, 0] * scale).item() == pytest.approx(left, rel=0.06)
    assert (of.right[0, 0] * scale).item() == pytest.approx(right, rel=0.06)
    mean = scenes.mean_of_scales(found, of.left[0, 0] * scale, of.right[0, 0] * scale)
    assert mean.item() == pytest.approx(values.mean(), rel=0.01, abs=0.02)
    if left == right:
        both = torch.from_numpy(np.concatenate([-half, half]))[None, None]
        assert scenes.symmetric_shape(scenes.spreads(both))[0, 0].item() == pytest.approx(shape, rel=0.03)


def test_counts_are_exact_in_float32():
    """One negative value among two millions has the deviation of that one."""
    values = torch.full((1, 1000, 2000), 0.5)
    values[0, 500, 700] = -3.0
    of = scenes.spreads(values)
    assert of.left[0, 0].item() == pytest.approx(3, rel=1e-6)
    assert of.right[0, 0].item() == pytest.approx(0.5, rel=1e-6)


def test_shapes_have_a_gradient_but_for_the_ends_of_the_table():
    values = torch.randn(1, 20, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: scenes.asymmetric_shape(scenes.spreads(x)), values, fast_mode=True, rtol=1e-2
    )
    for flat in (torch.zeros(1, 8, 8), torch.ones(1, 8, 8)):
        x = flat.double().requires_grad_()
        of = scenes.spreads(x)
        found = scenes.asymmetric_shape(of)
        (gradient,) = torch.autograd.grad((found + of.left + of.right).sum(), x)
        assert found.unique().item() == (0.2 if flat.sum() == 0 else 10)
        assert gradient.isfinite().all()


def test_one_sided_values_and_nan():
    assert scenes.asymmetric_shape(scenes.spreads(torch.rand(1, 9, 9))).isfinite().all()
    values = torch.randn(2, 9, 9)
    values[1, 3, 3] = math.nan
    of = scenes.spreads(values)
    shapes = scenes.asymmetric_shape(of)
    assert shapes[0].isfinite().all()
    assert shapes[1].isnan().all()
    assert all(t[1].isnan().all() for t in of)
