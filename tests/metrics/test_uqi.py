import golden_data
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from iqazoo.errors import InputError
from iqazoo.metrics.uqi import UQI, uqi, uqi_map
from iqazoo.testing.pictures import photographs


def slow_index(x, y, window):
    """The authors' index at every window, one by one, in float64. x, y: [H, W]."""
    index = np.empty((x.shape[0] - window + 1, x.shape[1] - window + 1))
    for i, j in np.ndindex(*index.shape):
        a, b = (t[i : i + window, j : j + window] for t in (x, y))
        cov = (a * b).mean() - a.mean() * b.mean()
        variances, squares = a.var() + b.var(), a.mean() ** 2 + b.mean() ** 2
        if variances < 1e-12 and squares == 0:
            index[i, j] = 1
        elif variances < 1e-12:
            index[i, j] = 2 * a.mean() * b.mean() / squares
        else:
            index[i, j] = 4 * cov * a.mean() * b.mean() / variances / squares
    return index


def blocky(seed):
    """A picture with windows that are flat, and black, in one or both images."""
    rng = np.random.default_rng(seed)
    x = rng.random((40, 33)).round(2)
    x[:12, :14], x[20:, 16:] = 0, 0.5
    return x


@pytest.mark.parametrize("window", [8, 5])
def test_equals_the_formula_at_every_window(window):
    x, y = blocky(0), blocky(1)
    y[:4] += 0.25
    expected = slow_index(x, y, window)
    tensors = [torch.from_numpy(t)[None, None] for t in (x, y)]
    assert uqi(*tensors, window=window).item() == pytest.approx(expected.mean(), rel=1e-9)
    assert uqi(*(t.float() for t in tensors), window=window).item() == pytest.approx(expected.mean(), rel=1e-5)
    shown = uqi_map(*tensors, window=window)[0, 0]
    assert shown.shape == x.shape
    before = (window - 1) // 2
    inside = shown[before : before + expected.shape[0], before : before + expected.shape[1]]
    np.testing.assert_allclose(inside.numpy(), expected, atol=1e-9)


def test_equals_the_formula_on_a_photograph():
    pair = [t[..., :60, :70] for t in golden_data.pair("coins_gray_noise")]
    expected = slow_index(*(t[0, 0].double().numpy() for t in pair), 8)
    assert uqi(*pair).item() == pytest.approx(expected.mean(), rel=1e-5)


def test_identical_images_score_one_though_they_are_flat():
    x = torch.from_numpy(blocky(0))[None, None]
    assert uqi(x, x).item() == pytest.approx(1, abs=1e-12)
    assert uqi(x, x, stabilizer=1e-7).item() < 0.99


def smoothed(images):
    return F.avg_pool2d(images, 5, stride=1, padding=2, count_include_pad=False)


@pytest.mark.parametrize("distort", [smoothed, lambda images: 0.9 * images], ids=["smoothed", "darkened"])
def test_flat_windows_far_from_the_mean_are_flat_in_float32(distort):
    letterboxed = photographs(3, 256, 256)[:1].clone()
    letterboxed[..., :64, :] = letterboxed[..., -64:, :] = 0
    reference = (letterboxed * 255).round() / 255
    image = distort(reference)
    expected = uqi(image.double(), reference.double())
    found = uqi(image, reference)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    shown = uqi_map(image, reference)
    torch.testing.assert_close(shown, uqi_map(image.double(), reference.double()).float(), rtol=1e-3, atol=1e-3)


def test_options_are_checked():
    assert UQI(window=11, sigma=1.5).min_size == 11
    with pytest.raises(InputError, match="window"):
        UQI(window=0)
