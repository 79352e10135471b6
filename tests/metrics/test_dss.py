import math

import golden_data
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn
from scipy.ndimage import correlate

from iqazoo.errors import InputError
from iqazoo.metrics.dss import DSS, dss


def oracle(image, reference, worst=0.05):
    """The paper, one subband after the other: `[C, H, W]` twice, float64."""
    x, y = (subbands(255 * (t if len(t) == 1 else np.einsum("c,chw->hw", [0.299, 0.587, 0.114], t)[None])[0])
            for t in (image, reference))  # fmt: skip
    score = total = 0.0
    for m in range(8):
        for n in range(8):
            weight = math.exp(-((m + 0.5) ** 2 + (n + 0.5) ** 2) / (2 * 1.55**2))
            if weight >= 0.01:
                score += weight * similarity(x[:, :, m, n], y[:, :, m, n], worst, dc=m == n == 0)
                total += weight
    return score / total


def subbands(luma):
    rows, columns = luma.shape[0] // 8, luma.shape[1] // 8
    blocks = luma[: 8 * rows, : 8 * columns].reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3)
    return dctn(blocks, axes=(2, 3), norm="ortho")


def similarity(x, y, worst, dc):
    c = 1000 if dc else 300
    window = np.exp(-(np.arange(-1, 2) ** 2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2

    def mean(t):
        return correlate(t, window, mode="constant")

    var_x, var_y = mean(x * x) - mean(x) ** 2, mean(y * y) - mean(y) ** 2
    product = np.sqrt(np.maximum(var_x, 0) * np.maximum(var_y, 0))
    count = max(1, round(worst * x.size))
    score = np.sort((2 * product + c) / (var_x + var_y + c), axis=None)[:count].mean()
    if dc:
        covariance = mean(x * y) - mean(x) * mean(y)
        score *= np.sort((covariance + c) / (product + c), axis=None)[:count].mean()
    return score


def pair(*shape, seed=0):
    x, y = torch.rand(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x, 0.7 * x + 0.3 * y


@pytest.mark.parametrize("shape", [(3, 3, 40, 71), (2, 1, 64, 48), (1, 3, 8, 8), (1, 1, 15, 90)])
@pytest.mark.parametrize("worst", [0.05, 0.5, 1.0])
def test_is_the_paper(shape, worst):
    x, y = pair(*shape)
    expected = [oracle(a.numpy(), b.numpy(), worst) for a, b in zip(x, y, strict=True)]
    assert dss(x, y, worst=worst).tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", golden_data.NAMES)
def test_is_the_paper_on_photographs(name):
    x, y = golden_data.pair(name)
    expected = oracle(*(t[0].double().numpy() for t in (x, y)))
    assert dss(x.double(), y.double()).item() == pytest.approx(expected, rel=1e-8)
    # Where JPEG left nothing of a subband, the root of its variance is the convolution's rounding.
    assert dss(x, y).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_flat_images_have_a_score_and_a_finite_gradient(value):
    x, y = torch.full((2, 1, 3, 24, 24), value)
    assert dss(x, y).item() == pytest.approx(1, abs=1e-6)
    y = torch.rand(1, 3, 24, 24)
    for image, reference in ((x, y), (y, x), (x, 1 - x)):
        image = image.clone().requires_grad_()
        score = dss(image, reference)
        assert -1 < score.item() < 1
        score.backward()
        assert image.grad.isfinite().all()


def test_one_changed_pixel_lowers_the_score():
    y, _ = pair(1, 3, 64, 64)
    x = y.clone()
    x[0, :, 20, 20] = 1 - x[0, :, 20, 20]
    assert dss(x, y).item() < dss(y, y).item() == pytest.approx(1)


def test_nan_stays_nan_in_its_image():
    x, y = pair(3, 3, 80, 80)
    x[1, 0, 40, 40] = math.nan
    assert dss(x, y).isnan().tolist() == [False, True, False]


@given(st.integers(8, 40), st.integers(8, 40), st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_symmetric_in_its_images_and_at_most_that_of_identical_ones(height, width, seed):
    x, y = pair(1, 1, height, width, seed=seed)
    assert dss(x, y).item() == pytest.approx(dss(y, x).item(), rel=1e-9)
    assert dss(x, y).item() < 1
    assert dss(x, x).item() == pytest.approx(1, abs=1e-9)


def test_gradcheck():
    x, y = pair(2, 3, 17, 24)
    x.requires_grad_()
    y.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: dss(a, b, worst=0.4), (x, y), fast_mode=True)


def test_options_are_checked():
    for worst in (0, -0.1, 1.1, math.nan):
        with pytest.raises(InputError, match="worst"):
            DSS(worst=worst)
    x, y = pair(1, 1, 32, 32)
    assert torch.equal(DSS(worst=0.3)(x, y), dss(x, y, worst=0.3))
