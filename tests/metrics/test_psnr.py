import math

import golden_data
import pytest
import torch

from iqazoo.errors import InputError
from iqazoo.metrics.psnr import PSNR, psnr


@pytest.mark.parametrize("name", golden_data.NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("source", ["skimage-0.26:psnr", "torchmetrics-1.9.0:psnr"])
def test_golden(name, dtype, source):
    image, reference = (t.to(dtype) for t in golden_data.pair(name))
    expected = golden_data.value(source, name)
    assert psnr(image, reference).item() == pytest.approx(expected, rel=2e-7)


@pytest.mark.parametrize("name", golden_data.NAMES)
@pytest.mark.parametrize(
    ("source", "options"),
    [("piq-0.8.0:psnr", {}), ("pyiqa-0.1.16:psnr", {}), ("pyiqa-0.1.16:psnry", {"channels": "y"})],
)
def test_golden_of_libraries_that_add_1e_8_to_the_error(name, source, options):
    """piq and pyiqa give identical images 80 dB and all others a little less than the formula."""
    score = psnr(*golden_data.pair(name), cap=80, **options).item()
    assert score == pytest.approx(golden_data.value(source, name), rel=2e-6)


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
