import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from iqazoo.metrics.laplacian_pyramid import BINOMIAL, BURT, laplacian_pyramid


def slow_pyramid(plane, scales, taps, gain):
    """Filtering whole images, with zeros put in between; scipy's "mirror" repeats no pixel."""
    down, up, bands = gain * np.array(taps), 2 / gain * np.array(taps), []
    for _ in range(scales - 1):
        low = correlate1d(correlate1d(plane, down, axis=0, mode="mirror"), down, axis=1, mode="mirror")[::2, ::2]
        wide = np.zeros((2 * low.shape[0], 2 * low.shape[1]))
        wide[::2, ::2] = low
        high = correlate1d(correlate1d(wide, up, axis=0, mode="mirror"), up, axis=1, mode="mirror")
        bands.append(plane - high[: plane.shape[0], : plane.shape[1]])
        plane = low
    return [*bands, plane]


@pytest.mark.parametrize("shape", [(32, 40), (33, 47), (18, 64)])
@pytest.mark.parametrize(("taps", "gain"), [(BURT, 1.0), (BINOMIAL, np.sqrt(2))])
def test_equals_filters_and_zeros(shape, taps, gain):
    plane = np.random.default_rng(0).random(shape)
    found = laplacian_pyramid(torch.from_numpy(plane)[None, None], 3, taps, gain)
    for band, expected in zip(found, slow_pyramid(plane, 3, taps, gain), strict=True):
        np.testing.assert_allclose(band[0, 0].numpy(), expected, atol=1e-12)


def test_a_flat_image_is_flat_at_the_coarsest_scale_alone():
    *bands, low = laplacian_pyramid(torch.full((1, 1, 20, 24), 0.7, dtype=torch.float64), 3, BURT)
    assert all(band.abs().max() < 1e-12 for band in bands)
    torch.testing.assert_close(low, torch.full_like(low, 0.7))


def test_one_scale_is_the_image():
    plane = torch.rand(1, 1, 5, 6)
    assert laplacian_pyramid(plane, 1, BURT)[0] is plane
