import functools

import golden_data
import numpy as np
import pytest
import torch

from iqazoo.errors import InputError
from iqazoo.metrics import mad as module
from iqazoo.metrics.block_moments import cells, doubled
from iqazoo.metrics.mad import MAD, mad

# A slow transcription of the authors' definition, in loops: images are [H, W] in [0, 255].


def block_starts(side):
    """Of blocks of 16 x 16 pixels, 4 pixels apart."""
    return range(0, side - 15, 4)


def map_of_blocks(shape, of_block):
    """What `of_block` says of the block at each place, for the 4 x 4 pixels that the block begins with."""
    found = np.zeros(shape)
    for i in block_starts(shape[0]):
        for j in block_starts(shape[1]):
            found[i : i + 4, j : j + 4] = of_block(i, j)
    return found


def without_border(found):
    return found[16:-17, 16:-17]


def slow_sensitivity(height, width):
    found = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            y, x = (i - height / 2 + 0.5) / width * 64, (j - width / 2 + 0.5) / width * 64
            frequency = np.sqrt(x * x + y * y) / (0.3 / 2 * np.cos(4 * np.arctan2(y, x)) + 1.7 / 2)
            peak = 2.6 * (0.0192 + 0.114 * frequency) * np.exp(-((0.114 * frequency) ** 1.1))
            found[i, j] = 0.9809 if frequency < 7.8909 else peak
    return found


def slow_seen(plane):
    lightness = 0.02874 * plane ** (2.2 / 3)
    spectrum = np.fft.fftshift(np.fft.fft2(lightness)) * slow_sensitivity(*plane.shape)
    return np.fft.ifft2(np.fft.ifftshift(spectrum)).real


def slow_visibility(x, y):
    seen = slow_seen(y)
    error = slow_seen(x) - seen

    def of_block(i, j):
        mean = seen[i : i + 16, j : j + 16].mean()
        smaller = [seen[i + a : i + a + 8, j + b : j + b + 8].std(ddof=1) for a in (0, 4) for b in (0, 4)]
        contrast = error[i : i + 16, j : j + 16].std(ddof=1)
        if mean < 0.5 or contrast == 0:
            return 1e-6
        masking = np.log(min(smaller) / mean) if min(smaller) > 0 else -np.inf
        return max(np.log(contrast / mean) - max(masking, -5), 1e-6)

    return map_of_blocks(x.shape, of_block)


def slow_detected(x, y):
    wide = np.pad((x - y) ** 2, 8, mode="symmetric")
    errors = np.zeros(x.shape)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            errors[i, j] = wide[i + 1 : i + 17, j + 1 : j + 17].mean()
    found = without_border(slow_visibility(x, y) * errors)
    return 200 * np.sqrt((found**2).mean())


def slow_frequencies(side):
    return [k / (side - side % 2) for k in (*range((side + 1) // 2), *range(-(side // 2), 0))]


@functools.cache
def slow_filter(height, width, wavelength, direction):
    found = np.zeros((height, width))
    for i, v in enumerate(slow_frequencies(height)):
        for j, u in enumerate(slow_frequencies(width)):
            if u or v:
                angle = np.arctan2(-v, u) - direction
                angle = abs(np.arctan2(np.sin(angle), np.cos(angle)))
                radius = np.log(np.sqrt(u * u + v * v) * wavelength)
                found[i, j] = np.exp(-(radius**2) / (2 * np.log(0.55) ** 2) - angle**2 / (2 * (np.pi / 6) ** 2))
    return found


def slow_subband(plane, wavelength, direction):
    return np.abs(np.fft.ifft2(np.fft.fft2(plane) * slow_filter(*plane.shape, wavelength, direction)))


def slow_statistics(band, i, j):
    block = band[i : i + 16, j : j + 16]
    away = block - block.mean()
    deviation = np.sqrt((away**2).mean())
    if deviation < 1e-3:
        return np.array([block.std(ddof=1), 0, 0])
    return np.array([block.std(ddof=1), (away**3).mean() / deviation**3, (away**4).mean() / deviation**4])


def slow_appearance(x, y):
    found = 0
    for scale, weight in enumerate((0.5, 0.75, 1, 5, 6)):
        for orientation in range(4):
            a, b = (slow_subband(t, 3 * 3**scale, orientation * np.pi / 4) for t in (x, y))

            def of_block(i, j, a=a, b=b):
                return np.abs(slow_statistics(a, i, j) - slow_statistics(b, i, j)) @ [1, 2, 1]

            found = found + weight / 13.25 * map_of_blocks(x.shape, of_block)
    return np.sqrt((without_border(found) ** 2).mean())


def slow_mad(x, y):
    detected, appearance = slow_detected(x, y), slow_appearance(x, y)
    alpha = 1 / (1 + np.exp(-2.55 / 3.35) * detected ** (1 / (np.log(10) * 3.35)))
    return detected**alpha * appearance ** (1 - alpha)


def smooth(height, width, seed=0):
    """Waves and a little noise, [H, W] in [0, 1], dark on the right: some errors are seen, others are not."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 9
    waves = np.sin(x + 0.3 * seed) * np.cos(0.7 * y) + np.sin(0.2 * x * y / (1 + x))
    lit = np.clip(0.45 + 0.2 * waves + 0.05 * rng.random((height, width)), 0, 1)
    lit[:, width * 3 // 5 :] *= 0.2
    return lit


def scored(x, y, dtype=torch.float64, **options):
    return mad(*(torch.from_numpy(t)[None, None].to(dtype) for t in (x, y)), **options).item()


@pytest.mark.parametrize("shape", [(48, 64), (45, 39), (34, 51), (63, 34)])
def test_equals_the_definition(shape):
    reference = smooth(*shape)
    rng = np.random.default_rng(1)
    for image in (rng.random(shape), smooth(*shape, seed=1), 0.7 * reference + 0.1 * rng.random(shape)):
        expected = slow_mad(255 * image, 255 * reference)
        assert scored(image, reference) == pytest.approx(expected, rel=1e-9)
        assert scored(image, reference, torch.float32) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["astronaut_jpeg", "coffee_blur", "coins_gray_noise", "astronaut_contrast"])
def test_equals_the_definition_on_photographs(name):
    pair = [t[..., 20:116, 10:118] for t in golden_data.pair(name)]
    weights = np.array([0.299, 0.587, 0.114]) if pair[0].shape[1] == 3 else np.ones(1)
    expected = slow_mad(*(255 * np.tensordot(weights, t[0].double().numpy(), 1) for t in pair))
    assert mad(*(t.double() for t in pair)).item() == pytest.approx(expected, rel=1e-9)
    assert mad(*pair).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", golden_data.NAMES)
def test_float32_is_precise(name):
    pair = golden_data.pair(name)
    assert mad(*pair).item() == pytest.approx(mad(*(t.double() for t in pair)).item(), rel=1e-5)


def test_one_subband_at_a_time_is_the_same(monkeypatch):
    x, y = torch.rand(2, 2, 3, 61, 58, dtype=torch.float64)
    together = mad(x, y)
    monkeypatch.setattr(module, "AT_ONCE", 0)
    torch.testing.assert_close(mad(x, y), together, rtol=1e-12, atol=0)


def test_moments_are_those_of_blocks():
    # A far mean, which sums of powers would not bear.
    planes = 1e4 + torch.rand(2, 3, 24, 28, dtype=torch.float64)
    found = doubled(doubled(cells(planes), 1), 2)
    for i, j in ((0, 0), (1, 2), (2, 3)):
        block = planes[..., 4 * i : 4 * i + 16, 4 * j : 4 * j + 16].flatten(2)
        away = block - block.mean(2, keepdim=True)
        torch.testing.assert_close(found.mean[..., i, j], block.mean(2))
        for power, moment in zip((2, 3, 4), found[1:], strict=True):
            torch.testing.assert_close(moment[..., i, j], (away**power).mean(2), rtol=1e-8, atol=1e-11)


def test_channels_are_averaged():
    x, y = torch.rand(2, 2, 3, 40, 50, dtype=torch.float64)
    each = [mad(x[:, c : c + 1], y[:, c : c + 1]) for c in range(3)]
    torch.testing.assert_close(mad(x, y, channels="rgb"), torch.stack(each).mean(0))


def test_options_are_checked():
    with pytest.raises(InputError, match="channels"):
        MAD(channels="lab")  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_only_the_same_image_scores_0(dtype):
    reference = torch.from_numpy(smooth(70, 61))[None, None].to(dtype)
    flat = torch.full_like(reference, 0.4)
    for y in (reference, flat, torch.zeros_like(flat), torch.ones_like(flat)):
        assert mad(y, y).item() == 0
        for step in (1e-3, 0.1):  # below what is seen, where blocks are dark or the error is flat
            assert mad((y - step).abs(), y).item() > 0
    dot = reference.clone()
    dot[..., 30, 30] += 0.02
    assert 0 < mad(dot, reference).item() < 0.1


def test_a_louder_error_is_worse():
    reference = torch.from_numpy(smooth(70, 61))[None, None]
    noise = torch.rand(reference.shape, generator=torch.Generator().manual_seed(0), dtype=reference.dtype) - 0.5
    scores = [mad(reference + amount * noise, reference).item() for amount in (0.01, 0.03, 0.1, 0.3)]
    assert scores == sorted(scores)


def test_float32_rounding_is_no_structure():
    flat = torch.full((1, 1, 190, 203), 0.37)
    square = flat.clone()
    square[..., 60:100, 60:100] = 0.8
    for image, reference in ((square, flat), (flat, square)):
        expected = mad(image.double(), reference.double()).item()
        assert mad(image, reference).item() == pytest.approx(expected, rel=1e-3)


def test_a_bright_mean_does_not_drown_faint_detail_in_float32():
    reference = torch.from_numpy(0.95 + 1e-4 * smooth(191, 203))[None, None]
    image = torch.from_numpy(0.95 + 1e-4 * smooth(191, 203, seed=1))[None, None]
    image, reference = image.float(), reference.float()
    expected = module._appearance(255 * image.double(), 255 * reference.double())
    assert module._appearance(255 * image, 255 * reference).item() == pytest.approx(expected.item(), rel=1e-3)


def test_the_gradient_is_that_of_finite_differences():
    reference = torch.from_numpy(smooth(36, 37))[None, None]
    generator = torch.Generator().manual_seed(0)
    image = (
        0.8 * reference + 0.2 * torch.rand(reference.shape, generator=generator, dtype=reference.dtype)
    ).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: mad(x, reference), (image,), fast_mode=True, rtol=1e-3)


@pytest.mark.parametrize("kind", ["same", "black", "white", "flat", "saturated"])
def test_the_gradient_is_finite(kind):
    reference = torch.from_numpy(smooth(50, 45))[None, None].float()
    flats = {"black": 0.0, "white": 1.0, "flat": 0.5}
    if kind in flats:
        reference = torch.full_like(reference, flats[kind])
    image = ((reference - 0.5) * 20 + 0.5).clamp(0, 1) if kind == "saturated" else reference.clone()
    for x, y in ((image, reference), (reference, image), (image, 1 - reference)):
        x = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(mad(x, y).sum(), x)
        assert gradient.isfinite().all()
