import math

import golden_data
import pytest
import torch
from skimage.measure import shannon_entropy

from iqazoo.metrics.color import to_channels
from iqazoo.metrics.entropy import entropy


@pytest.mark.parametrize("name", golden_data.NAMES)
def test_equals_scikit_image(name):
    for image in golden_data.pair(name):
        levels = (to_channels(image, "y") * 255).round()
        assert entropy(image).item() == pytest.approx(shannon_entropy(levels.numpy()), rel=1e-3)


def test_of_known_histograms():
    flat = torch.full((1, 1, 16, 16), 0.3)
    two = torch.cat([torch.zeros(1, 1, 8, 16), torch.ones(1, 1, 8, 16)], 2)
    all_levels = (torch.arange(256) / 255).view(1, 1, 16, 16)
    found = entropy(torch.cat([flat, two, all_levels, two + 0.4]))
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 8.0, 1.0]))
    two[0, 0, 0, 0] = math.nan
    assert entropy(torch.cat([two, flat])).isnan().tolist() == [True, False]


def test_a_large_image_has_more_pixels_than_float32_counts():
    black = torch.zeros(1, 1, 4096, 4100)  # 2^14 more than 2^24
    assert entropy(black).item() == pytest.approx(0, abs=1e-6)
