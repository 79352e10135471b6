import golden_data
import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from iqazoo.errors import InputError
from iqazoo.metrics.gmsd import GMSD, gmsd, gmsd_map
from iqazoo.metrics.ms_gmsd import ms_gmsd

WEIGHTS = np.array([0.299, 0.587, 0.114])


def quality(x, y, masking=0.0):
    """Equation 4 of GMSD (with the masking of MS-GMSD) in levels of 8 bits. x, y: [H, W]."""
    prewitt = np.outer((1, 1, 1), (1, 0, -1)) / 3
    sizes = []
    for plane in (x, y):
        sizes.append(np.hypot(*(convolve2d(plane, k, mode="same") for k in (prewitt, prewitt.T))))
    a, b = sizes
    return ((2 - masking) * a * b + 170) / (a**2 + b**2 - masking * a * b + 170)


def halved(plane):
    rows, columns = (side + side % 2 for side in plane.shape)
    wide = np.zeros((rows, columns))
    wide[: plane.shape[0], : plane.shape[1]] = plane
    return wide.reshape(rows // 2, 2, columns // 2, 2).mean((1, 3))


def rgb(name):
    return [t[0].permute(1, 2, 0).double().numpy() * 255 for t in golden_data.pair(name)]


@pytest.mark.parametrize("name", ["astronaut_jpeg", "chelsea_noise"])
def test_gmsd_equals_its_equations(name):
    planes = [halved(t @ WEIGHTS) for t in rgb(name)]
    expected = quality(*planes)
    pair = [t.double() for t in golden_data.pair(name)]
    assert gmsd(*pair).item() == pytest.approx(expected.std(), rel=1e-4)
    shown = gmsd_map(*pair)
    assert shown.shape == (1, 1, *pair[0].shape[2:])
    np.testing.assert_allclose(1 - shown[0, 0, ::2, ::2].numpy()[1:-1, 1:-1], expected[1:-1, 1:-1], atol=1e-3)
    whole = quality(*(t @ WEIGHTS for t in rgb(name)))
    assert gmsd(*pair, downsample=False).item() == pytest.approx(whole.std(), rel=1e-4)


@pytest.mark.parametrize("name", ["astronaut_jpeg", "chelsea_noise"])
def test_ms_gmsd_equals_its_equations(name):
    x, y = rgb(name)
    luma, terms = [x @ WEIGHTS, y @ WEIGHTS], []
    chroma = [(x - y) @ np.array(row) for row in ((0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))]
    for scale, weight in enumerate((0.096, 0.596, 0.289, 0.019)):
        if scale:
            luma, chroma = [halved(t) for t in luma], [halved(t) for t in chroma]
        terms.append(weight * quality(*luma, masking=0.5).var())
    expected = np.sqrt(sum(terms))
    pair = [t.double() for t in golden_data.pair(name)]
    assert ms_gmsd(*pair).item() == pytest.approx(expected, rel=1e-4)
    error = np.sqrt(sum((t**2).mean() for t in chroma))
    gamma = 2 / (1 + 0.32 * np.exp(-15 * expected)) - 1
    coloured = gamma * expected + (1 - gamma) * 0.01 * error
    assert ms_gmsd(*pair, chromatic=True).item() == pytest.approx(coloured, rel=1e-4)


def test_8bit_luma_is_rounded():
    x, y = torch.rand(2, 1, 3, 20, 20)
    levels = [(255 * (t * torch.from_numpy(WEIGHTS).float().view(3, 1, 1)).sum(1, True)).round() / 255 for t in (x, y)]
    torch.testing.assert_close(gmsd(x, y, channels="y-8bit"), gmsd(*levels), rtol=1e-3, atol=1e-5)
    with pytest.raises(InputError, match="channels"):
        GMSD(channels="rgb")
