import pickle

import pytest
import torch
import torch.nn.functional as F

import iqazoo
from iqazoo.errors import InputError
from iqazoo.metrics.ms_ssim import EXPONENTS, MSSSIM, ms_ssim
from iqazoo.metrics.ssim import ssim


def pair(*shape, seed=0):
    x, y = torch.rand(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x, 0.5 * (x + y)


def test_is_the_product_of_its_scales():
    x, y = pair(2, 3, 48, 64)
    expected = torch.ones(2, 3, dtype=torch.float64)
    scales = (0.2, 0.3, 0.5)
    for k, power in enumerate(scales):
        both = iqazoo.ops.ssim(x, y, window=7, parts=True, reduction="channel")
        expected *= (both.ssim if k == len(scales) - 1 else both.contrast_structure) ** power
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    x, y = pair(2, 3, 48, 64)
    torch.testing.assert_close(ms_ssim(x, y, exponents=scales, window=7), expected.mean(1))
    torch.testing.assert_close(ms_ssim(x, y, exponents=(1,)), ssim(x, y))
    assert sum(EXPONENTS) == pytest.approx(1, abs=1e-3)


def test_a_negative_scale_counts_as_zero_and_keeps_the_gradient_finite():
    x, _ = pair(1, 2, 48, 48)
    y = x.clone()
    y[:, 0] = 1 - y[:, 0]  # the inverse: structure turns round
    x.requires_grad_()
    score = ms_ssim(x, y, exponents=(0.5, 0.5))
    assert score.item() == pytest.approx(0.5)
    score.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert ms_ssim(x * torch.nan, y, exponents=(0.5, 0.5)).isnan().all()


def test_gradcheck():
    x, y = (t.requires_grad_() for t in pair(1, 1, 14, 13))
    assert torch.autograd.gradcheck(lambda a, b: ms_ssim(a, b, exponents=(0.4, 0.6), window=3), (x, y))


def test_as_a_metric():
    metric = iqazoo.create("ms_ssim", channels="y")
    image, reference = (t.float() for t in pair(2, 3, 170, 161))
    torch.testing.assert_close(metric(image, reference), ms_ssim(image, reference, channels="y"))
    assert metric(image, image).tolist() == [1, 1]
    assert torch.equal(pickle.loads(pickle.dumps(metric))(image, reference), metric(image, reference))
    image.requires_grad_()
    metric.loss(image, reference).backward()
    assert image.grad is not None
    with pytest.raises(InputError, match="at least 161 x 161"):
        metric(image[..., 10:, :], reference[..., 10:, :])


def test_min_size_follows_from_the_options():
    assert MSSSIM().min_size == iqazoo.create("ms_ssim").spec.min_size == 161
    assert MSSSIM(border="drop").min_size == 176
    assert MSSSIM(exponents=(1.0,), padding="same").min_size == 1


@pytest.mark.parametrize(
    "options",
    [
        {"exponents": ()},
        {"exponents": (0.5, -0.5)},
        {"border": "mirror"},
        {"window": 10},
        {"channels": "y-studio", "data_range": 255.0},
    ],
)
def test_options_are_checked(options):
    with pytest.raises(InputError, match="got"):
        MSSSIM(**options)
