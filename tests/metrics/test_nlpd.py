import golden_data
import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from iqazoo.errors import InputError
from iqazoo.metrics.nlpd import NEIGHBOURS, NLPD, SIGMAS, nlpd

FILTER = np.outer((0.05, 0.25, 0.4, 0.25, 0.05), (0.05, 0.25, 0.4, 0.25, 0.05))


def enlarged(low, shape):
    """Zeros between the pixels of an image with its last pixels repeated, and the filter."""
    wide = np.pad(low, 1, mode="edge")
    zeros = np.zeros((2 * wide.shape[0], 2 * wide.shape[1]))
    zeros[::2, ::2] = 4 * wide
    return correlate(zeros, FILTER, mode="constant")[2 : 2 + shape[0], 2 : 2 + shape[1]]


def slow_nlpd(x, y):
    """The paper's distance, with the borders of its authors. x, y: [H, W]."""
    distances = []
    for scale, (sigma, (up, left, right, down)) in enumerate(zip(SIGMAS, NEIGHBOURS, strict=True)):
        bands, lows = [], []
        for plane in (x, y):
            low = correlate(plane, FILTER, mode="reflect")[::2, ::2]  # scipy's "reflect" repeats the edge
            lows.append(low)
            band = plane if scale == len(SIGMAS) - 1 else plane - enlarged(low, plane.shape)
            cross = np.array([[0, up, 0], [left, 0, right], [0, down, 0]])
            bands.append(band / (sigma + correlate(np.abs(band), cross, mode="constant")))
        distances.append(np.sqrt(((bands[0] - bands[1]) ** 2).mean()))
        x, y = lows
    return np.mean(distances)


@pytest.mark.parametrize("shape", [(64, 96), (71, 95), (37, 40)])
def test_equals_the_paper(shape):
    x, y = np.random.default_rng(0).random((2, *shape))
    found = nlpd(*(torch.from_numpy(t)[None, None] for t in (x, y)))
    assert found.item() == pytest.approx(slow_nlpd(x, y), rel=1e-9)


@pytest.mark.parametrize("name", ["astronaut_jpeg", "chelsea_noise", "coins_gray_noise"])
def test_equals_the_paper_on_photographs(name):
    pair = golden_data.pair(name)
    weights = np.array([0.299, 0.587, 0.114]) if pair[0].shape[1] == 3 else np.ones(1)
    planes = [np.tensordot(weights, t[0].double().numpy(), 1) for t in pair]
    assert nlpd(*pair).item() == pytest.approx(slow_nlpd(*planes), rel=1e-5)


def test_channels_are_averaged():
    x, y = torch.rand(2, 2, 3, 40, 50, dtype=torch.float64)
    each = [nlpd(x[:, c : c + 1], y[:, c : c + 1]) for c in range(3)]
    torch.testing.assert_close(nlpd(x, y, channels="rgb"), torch.stack(each).mean(0))


def test_options_are_checked():
    with pytest.raises(InputError, match="channels"):
        NLPD(channels="lab")  # type: ignore[arg-type]
