import math

import golden_data
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from iqazoo.errors import InputError
from iqazoo.metrics.ssim import SSIM, ssim, ssim_map


def test_golden_of_piq_which_averages_blocks_first():
    """Of a picture enlarged by repeating its pixels, the blocks average to the picture."""
    large = [t.repeat_interleave(2, 2).repeat_interleave(2, 3) for t in golden_data.pair("astronaut_jpeg")]
    assert large[0].shape[2:] == (512, 512)
    expected = golden_data.value("piq-0.8.0:ssim", "astronaut_jpeg")
    assert ssim(*large, downsample=True).item() == pytest.approx(expected, rel=5e-5)
    assert ssim(*large).item() != pytest.approx(expected, rel=1e-2)


def slow_index(x, y, window, sigma, c1=0.01**2, c2=0.03**2):
    """The paper's equation 13 at every window inside the image, one by one, in float64. x, y: [H, W]."""
    offsets = np.arange(window) - window // 2
    taps = np.ones(window) if sigma is None else np.exp(-0.5 * (offsets / sigma) ** 2)
    weights = np.outer(taps, taps) / taps.sum() ** 2
    index = np.empty((x.shape[0] - window + 1, x.shape[1] - window + 1))
    for i, j in np.ndindex(*index.shape):
        a, b = x[i : i + window, j : j + window], y[i : i + window, j : j + window]
        mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
        var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
        cov = (weights * (a - mean_a) * (b - mean_b)).sum()
        index[i, j] = ((2 * mean_a * mean_b + c1) * (2 * cov + c2)) / (
            (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
        )
    return index


@pytest.mark.parametrize(("window", "sigma"), [(11, 1.5), (7, None), (3, 0.8), (1, None)])
@pytest.mark.parametrize("padding", ["valid", "same", "reflect"])
def test_equals_the_formula_at_every_window(window, sigma, padding):
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 13, 16))
    pads = {"valid": None, "same": "constant", "reflect": "reflect"}[padding]
    wide = [x, y] if pads is None else [np.pad(t, window // 2, mode=pads) for t in (x, y)]
    expected = slow_index(*wide, window, sigma)
    tensors = [torch.from_numpy(t)[None, None] for t in (x, y)]
    score = ssim(*tensors, window=window, sigma=sigma, padding=padding)
    assert score.item() == pytest.approx(expected.mean(), rel=1e-10)
    shown = ssim_map(*tensors, window=window, sigma=sigma, padding=padding)[0, 0]
    assert shown.shape == x.shape
    edge = window // 2 if padding == "valid" else 0
    inside = shown[edge : 13 - edge, edge : 16 - edge]
    torch.testing.assert_close(inside, torch.from_numpy(expected), rtol=1e-9, atol=1e-12)


def test_downsample_averages_blocks_first():
    image, reference = torch.rand(2, 1, 3, 512, 640, dtype=torch.float64)
    small = [torch.nn.functional.avg_pool2d(t, 2) for t in (image, reference)]
    torch.testing.assert_close(ssim(image, reference, downsample=True), ssim(*small))
    assert ssim_map(image, reference, downsample=True).shape == (1, 1, 512, 640)
    middle = [t[..., :384, :384] for t in (image, reference)]  # 384 / 256 rounds to 2
    assert ssim(*middle, downsample=True) != ssim(*middle)
    below = [t[..., :383, :383] for t in (image, reference)]  # 383 / 256 rounds to 1
    assert ssim(*below, downsample=True) == ssim(*below)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**31),
    st.sampled_from([1, 3]),
    st.integers(11, 24),
    st.integers(11, 24),
    st.floats(0, 1),
)
def test_bounds_symmetry_and_identity(seed, channels, height, width, noise):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(2, 2, channels, height, width, generator=generator, dtype=torch.float64)
    y = (1 - noise) * x + noise * y
    score = ssim(x, y)
    assert (score <= 1 + 1e-12).all()
    assert (score >= -1).all()
    torch.testing.assert_close(score, ssim(y, x))
    torch.testing.assert_close(ssim(x, x), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_constant_images_do_not_cancel(level):
    """Flat regions in float32: squares would differ by rounding alone were the mean not subtracted first."""
    image, reference = torch.full((2, 1, 1, 32, 32), level)
    image = image + 1e-4
    expected = ssim(image.double(), reference.double()).item()
    assert ssim(image, reference).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("options", [{}, {"padding": "same"}, {"padding": "reflect", "sigma": None}, {"channels": "y"}])
def test_gradcheck(options):
    x, y = torch.rand(2, 1, 3, 7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    y.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: ssim(a, b, window=5, **options), (x, y))


def test_identical_images_have_a_finite_gradient_of_zero():
    reference = torch.rand(1, 3, 16, 16)
    reference[..., 8:] = 0.5  # a flat half
    image = reference.clone().requires_grad_()
    ssim(image, reference).sum().backward()
    assert image.grad.isfinite().all()
    assert image.grad.abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_neither_value_nor_gradient(dtype):
    """Variances are differences of near numbers: in half precision the gradient would be noise."""
    image, reference = golden_data.pair("coffee_blur")
    results = []
    for enabled in (False, True):
        x = image.clone().requires_grad_()
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            score = ssim(x, reference)
        score.backward()
        results.append((score.detach(), x.grad))
    torch.testing.assert_close(results[1], results[0])


def test_nan_stays_in_its_image():
    x, y = torch.rand(2, 2, 3, 16, 16)
    x[0, 0, 8, 8] = math.nan
    assert ssim(x, y).isnan().tolist() == [True, False]


def test_the_window_must_fit():
    small = torch.rand(1, 3, 10, 30)
    with pytest.raises(InputError, match=r"at least 11 x 11 pixels, got 10 x 30"):
        ssim(small, small)
    assert ssim(small, small, padding="same").item() == pytest.approx(1)
    assert ssim(small, small, padding="reflect").item() == pytest.approx(1)


@pytest.mark.parametrize(
    "options",
    [
        {"window": 10},
        {"window": 0},
        {"window": 11.0},
        {"window": "11"},
        {"sigma": 0.0},
        {"data_range": -1},
        {"padding": "zero"},
        {"channels": "y-studio", "data_range": 255.0},
    ],
)
def test_options_are_checked(options):
    with pytest.raises(InputError, match="got"):
        SSIM(**options)
