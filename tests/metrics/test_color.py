import pytest
import torch

from iqazoo.errors import InputError
from iqazoo.metrics.color import CHANNELS, check_channels, to_channels

WHITE, BLACK = torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)


def test_luma_weighs_the_primaries_as_bt601_says():
    primaries = torch.eye(3).view(3, 3, 1, 1)
    torch.testing.assert_close(to_channels(primaries, "y").flatten(), torch.tensor([0.299, 0.587, 0.114]))


def test_studio_range_spans_16_to_235():
    torch.testing.assert_close(to_channels(BLACK, "y-studio"), torch.full((1, 1, 2, 2), 16 / 255))
    torch.testing.assert_close(to_channels(WHITE, "y-studio"), torch.full((1, 1, 2, 2), 235 / 255))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_8bit_luma_of_8bit_images_is_exact(dtype):
    """Some colours have a luma halfway between two levels, where rounding errors must not decide."""
    levels = torch.cartesian_prod(*[torch.arange(0, 256, 5)] * 3)  # [N, 3]
    thousandths = levels @ torch.tensor([299, 587, 114])
    expected = (thousandths.double() / 1000).round()
    luma = to_channels((levels.to(dtype) / 255)[..., None, None], "y-8bit").flatten()
    assert torch.equal((255 * luma).round().double(), expected)
    torch.testing.assert_close(255 * luma, expected.to(dtype))
    assert (thousandths % 1000 == 500).sum() > 50


def test_8bit_luma_passes_the_gradient():
    image = torch.rand(1, 3, 8, 8, requires_grad=True)
    luma = to_channels(image, "y-8bit")
    torch.testing.assert_close(luma, to_channels(image, "y"), atol=0.5005 / 255, rtol=0)
    luma.sum().backward()
    torch.testing.assert_close(image.grad[0, :, 0, 0], torch.tensor([0.299, 0.587, 0.114]))


@pytest.mark.parametrize("channels", CHANNELS[1:])
def test_gray_scores_as_the_same_picture_in_rgb(channels):
    gray = torch.rand(2, 1, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(to_channels(gray, channels), to_channels(gray.expand(-1, 3, -1, -1), channels))
    assert to_channels(gray, "y") is gray


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="'rgb', 'y'"):
        check_channels("lab", 1.0)


def test_levels_and_studio_range_are_for_images_up_to_one():
    check_channels("y", 255.0)
    for channels in ("y-8bit", "y-studio"):
        with pytest.raises(InputError, match="data_range=255"):
            check_channels(channels, 255.0)
