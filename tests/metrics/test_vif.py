import golden_data
import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from iqazoo.metrics import steerable_filters
from iqazoo.metrics.vif import vif

LEVELS = ((17, 3), (9, 2), (5, 1), (3, 1))  # windows, and the blocks at each border that do not count


def filtered(plane, kernel):
    return correlate(plane, kernel, mode="mirror")


def slow_vif(x, y):
    """The authors' estimates, window by window and block by block. x, y: [H, W] in [0, 1]."""
    x, y = (filtered(255 * t, steerable_filters.first_low()[0, 0]) for t in (x, y))
    kept = held = 0.0
    for window, edge in LEVELS:
        for kernel in steerable_filters.bands()[:, 0]:
            rows, columns = (side // 3 for side in y.shape)
            a, b = (filtered(t, kernel)[: 3 * rows, : 3 * columns] for t in (x, y))
            views = np.lib.stride_tricks.sliding_window_view(b, (3, 3)).reshape(-1, 9)
            covariance = np.cov(views.T, bias=True)
            inverse, eigenvalues = np.linalg.inv(covariance), np.linalg.eigvalsh(covariance)
            wide = [np.pad(t, window // 2, mode="reflect") for t in (a, b)]
            for i in range(edge, rows - edge):
                for j in range(edge, columns - edge):
                    p, q = (t[3 * i + 1 :, 3 * j + 1 :][:window, :window] for t in wide)
                    cov, var = (p * q).mean() - p.mean() * q.mean(), q.var()
                    gain = max(cov, 0) / var
                    noise = p.var() - gain * cov
                    block = b[3 * i : 3 * i + 3, 3 * j : 3 * j + 3].ravel()
                    signal = block @ inverse @ block / 9 * eigenvalues
                    kept += np.log2(1 + gain**2 * signal / (noise + 0.4)).sum()
                    held += np.log2(1 + signal / 0.4).sum()
        x, y = (filtered(t, steerable_filters.low()[0, 0])[::2, ::2] for t in (x, y))
    return kept / held


@pytest.mark.parametrize("shape", [(72, 96), (71, 95)])
def test_equals_the_paper(shape):
    rng = np.random.default_rng(0)
    y = rng.random(shape)
    x = 0.6 * y + 0.2 * rng.random(shape)
    tensors = [torch.from_numpy(t)[None, None] for t in (x, y)]
    assert vif(*tensors).item() == pytest.approx(slow_vif(x, y), rel=1e-5)


def test_equals_the_paper_on_a_photograph():
    pair = golden_data.pair("coins_gray_noise")
    expected = slow_vif(*(t[0, 0].double().numpy() for t in pair))
    assert vif(*(t.double() for t in pair)).item() == pytest.approx(expected, rel=1e-5)
    assert vif(*pair).item() == pytest.approx(expected, rel=1e-4)


def test_filters_are_those_of_the_pyramid():
    first, low, bands = (f() for f in (steerable_filters.first_low, steerable_filters.low, steerable_filters.bands))
    assert first.shape == (1, 1, 5, 5)
    assert first.sum() == pytest.approx(1, abs=1e-3)
    assert low.shape == (1, 1, 9, 9)
    assert low.sum() == pytest.approx(2, abs=1e-6)
    assert np.abs(bands.sum((2, 3))).max() < 1e-12
    np.testing.assert_array_equal(bands[0, 0], -bands[0, 0, ::-1])
    np.testing.assert_array_equal(bands[1, 0], -bands[0, 0].T)


def test_enhanced_contrast_scores_above_one_and_a_flat_reference_is_defined():
    reference = golden_data.pair("coffee_blur")[1].double()
    assert vif(reference.mean() + 1.3 * (reference - reference.mean()), reference).item() > 1.05
    flat, noisy = torch.full((1, 1, 80, 80), 0.5), torch.rand(1, 1, 80, 80)
    assert vif(flat, flat).item() == pytest.approx(1)
    assert 0 < vif(noisy, flat).item() < 0.5


def rectangles(dtype):
    """Two flat rectangles on a flat ground, with noise and without."""
    reference = torch.full((1, 1, 200, 200), 0.9, dtype=dtype)
    reference[..., 40:100, 30:90], reference[..., 120:170, 100:180] = 0.1, 0.3
    noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(0))
    return reference + 1e-2 * noise.to(dtype), reference


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flat_parts_of_the_reference_have_no_gain_and_a_bounded_gradient(dtype):
    """The gain there would be rounding over rounding."""
    expected = vif(*rectangles(torch.float64)).item()
    image, reference = rectangles(dtype)
    reference.requires_grad_()
    found = vif(image, reference)
    (gradient,) = torch.autograd.grad(found.sum(), reference)
    assert found.item() == pytest.approx(expected, rel=1e-4)
    assert gradient.norm() < 10


@pytest.mark.parametrize("deviation", [1e-6, 1e-5, 1e-4])
def test_identical_images_of_hardly_any_contrast_score_one(deviation):
    noise = torch.randn(1, 1, 96, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    image = 0.5 + deviation * noise
    assert vif(image, image).item() == pytest.approx(1, abs=1e-4)
