import golden_data
import numpy as np
import pytest
import torch
from mad_oracle import slow_mad

from iqazoo.errors import InputError
from iqazoo.metrics import mad as module
from iqazoo.metrics.block_moments import cells, doubled
from iqazoo.metrics.mad import MAD, mad


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
