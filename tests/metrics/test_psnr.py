import math

import pytest
import torch

from iqazoo.errors import InputError
from iqazoo.metrics.psnr import PSNR, psnr


def test_identical_images_give_infinity_or_the_cap_and_no_gradient():
    reference = torch.rand(2, 3, 8, 8)
    for cap, expected in ((None, math.inf), (80.0, 80.0)):
        image = reference.clone().requires_grad_()
        score = psnr(image, reference, cap=cap)
        assert score.tolist() == [expected] * 2
        score.nan_to_num(posinf=0.0).sum().backward()
        assert image.grad.eq(0).all()


def test_one_identical_image_does_not_disturb_its_batch():
    reference = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    image = reference.clone()
    image[1] = 1 - image[1]
    image.requires_grad_()
    psnr(image, reference).nan_to_num(posinf=0.0).sum().backward()
    assert image.grad.isfinite().all()
    assert image.grad[0].eq(0).all()
    assert image.grad[1].ne(0).any()


def test_nan_stays_nan():
    image, reference = torch.rand(2, 2, 3, 8, 8)
    image[0, 0, 0, 0] = math.nan
    assert psnr(image, reference, cap=50).isnan().tolist() == [True, False]


@pytest.mark.parametrize("channels", ["rgb", "y", "y-8bit", "y-studio"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype, channels):
    image, reference = torch.rand(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = psnr(image.float(), reference.float(), channels=channels)
    torch.testing.assert_close(psnr(image, reference, channels=channels), expected)


def test_scaling_images_and_range_together_changes_nothing():
    image, reference = torch.rand(2, 1, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(psnr(image, reference), psnr(image * 255, reference * 255, data_range=255))


@pytest.mark.parametrize("channels", ["rgb", "y", "y-studio"])
def test_gradcheck(channels):
    image, reference = torch.rand(2, 2, 3, 4, 5, dtype=torch.float64)
    image.requires_grad_()
    reference.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: psnr(a, b, channels=channels), (image, reference))


def test_options_are_checked():
    with pytest.raises(InputError, match="channels"):
        PSNR(channels="yuv")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="data_range"):
        PSNR(data_range=0)
