import math

import golden_data
import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from iqazoo.errors import InputError
from iqazoo.metrics.cw_ssim import CWSSIM, coarsest, cw_ssim


def ramp(log_radius, centre):
    """The root of a raised cosine, one octave wide: 0 below, 1 above."""
    return np.sin(np.clip(log_radius - centre + 0.5, 0, 1) * np.pi / 2)


def slow_bands(plane, levels, orientations):
    """The coarsest bands, level by level over the whole centred spectrum. plane: [H, W]."""
    spectrum = np.fft.fftshift(np.fft.fft2(plane))
    grids = np.meshgrid(*((np.arange(n) - n // 2) / (n / 2) for n in plane.shape), indexing="ij")
    radius, angle = np.hypot(*grids), np.arctan2(*grids)
    with np.errstate(divide="ignore"):
        log_radius = np.log2(radius)
    spectrum = spectrum * np.sqrt(1 - ramp(log_radius, -0.5) ** 2)
    for level in range(1, levels):
        sizes = [math.ceil((n - 0.5) / 2) for n in spectrum.shape]
        begins = [n // 2 - size // 2 for n, size in zip(spectrum.shape, sizes, strict=True)]
        crop = tuple(slice(begin, begin + size) for begin, size in zip(begins, sizes, strict=True))
        spectrum, log_radius, angle = spectrum[crop], log_radius[crop], angle[crop]
        spectrum = spectrum * np.sqrt(1 - ramp(log_radius, -0.5 - level) ** 2)
    order = orientations - 1
    size = 4**order * math.factorial(order) ** 2 / (orientations * math.factorial(2 * order))
    for b in range(orientations):
        turned = (angle - np.pi * b / orientations + np.pi) % (2 * np.pi) - np.pi
        directed = 2 * np.sqrt(size) * np.where(np.abs(turned) < np.pi / 2, np.cos(turned), 0) ** order
        yield np.fft.ifft2(np.fft.ifftshift((-1j) ** order * spectrum * directed * ramp(log_radius, -0.5 - levels)))


def slow_cw_ssim(x, y, levels, orientations, stabilizer):
    scores, box = [], np.ones((7, 7)) / 49
    for a, b in zip(*(slow_bands(255 * t, levels, orientations) for t in (x, y)), strict=True):
        product = convolve2d(a * b.conj(), box, mode="valid")
        squares = convolve2d(np.abs(a) ** 2 + np.abs(b) ** 2, box, mode="valid")
        index = (2 * np.abs(product) + stabilizer) / (squares + stabilizer)
        rows, columns = (np.arange(n) - (n - 1) / 2 for n in index.shape)
        weights = np.exp(-(rows[:, None] ** 2 + columns**2) / (2 * (a.shape[0] / 4) ** 2))
        scores.append((index * weights).sum() / weights.sum())
    return np.mean(scores)


@pytest.mark.parametrize("shape", [(64, 96), (71, 95), (98, 57)])
@pytest.mark.parametrize(
    ("levels", "orientations", "stabilizer"), [(4, 8, 0.0), (2, 4, 0.5), (1, 2, 0.0), (3, 16, 0.0)]
)
def test_equals_the_paper(shape, levels, orientations, stabilizer):
    x, y = np.random.default_rng(0).random((2, *shape))
    tensors = [torch.from_numpy(t)[None, None] for t in (x, y)]
    found = cw_ssim(*tensors, levels=levels, orientations=orientations, stabilizer=stabilizer)
    assert found.item() == pytest.approx(slow_cw_ssim(x, y, levels, orientations, stabilizer), rel=1e-9)


@pytest.mark.parametrize("name", ["astronaut_contrast", "coins_gray_noise"])
def test_equals_the_paper_on_photographs(name):
    pair = golden_data.pair(name)
    weights = np.array([0.299, 0.587, 0.114]) if pair[0].shape[1] == 3 else np.ones(1)
    planes = [np.tensordot(weights, t[0].double().numpy(), 1) for t in pair]
    assert cw_ssim(*pair).item() == pytest.approx(slow_cw_ssim(*planes, 4, 8, 0.0), rel=1e-6)


def test_a_small_shift_hardly_counts():
    reference = golden_data.pair("chelsea_noise")[1].mean(1, keepdim=True)
    shifted = reference.roll(2, 3)
    noisy = golden_data.pair("chelsea_noise")[0].mean(1, keepdim=True)
    assert (shifted - reference).square().mean() > (noisy - reference).square().mean()
    assert cw_ssim(shifted, reference, levels=5) > 0.97
    inverted = cw_ssim(1 - reference, reference)
    assert inverted.item() == pytest.approx(1)  # all phases turn alike


def test_images_without_detail():
    flat, detailed = torch.full((1, 3, 64, 64), 0.3), torch.rand(1, 3, 64, 64)
    assert cw_ssim(flat, 1 - flat).item() == pytest.approx(1)
    assert cw_ssim(flat, detailed).item() == pytest.approx(0, abs=1e-3)


def test_the_least_size_follows_from_the_levels():
    assert [CWSSIM(levels=levels).min_size for levels in (1, 2, 4)] == [7, 13, 49]
    assert coarsest(1080, 4) == 135
    for options in ({"levels": 0}, {"orientations": 1}, {"stabilizer": -1.0}, {"channels": "lab"}):
        with pytest.raises(InputError, match="got"):
            CWSSIM(**options)
