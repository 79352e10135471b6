"""The metrics that compare values: rmse, mae, sam, ergas and scc against plain numpy."""

import math

import golden_data
import numpy as np
import pytest
import torch

from iqazoo.errors import InputError
from iqazoo.metrics.ergas import ERGAS, ergas
from iqazoo.metrics.mae import mae, mae_map
from iqazoo.metrics.rmse import rmse
from iqazoo.metrics.sam import sam, sam_map
from iqazoo.metrics.scc import SCC, scc

COLOUR = [name for name in golden_data.NAMES if "gray" not in name and "same" not in name]


def arrays(name):
    """[C, H, W] in float64."""
    return tuple(t[0].double().numpy() for t in golden_data.pair(name))


@pytest.mark.parametrize("name", COLOUR)
def test_equal_numpy(name):
    pair = golden_data.pair(name)
    x, y = arrays(name)
    assert rmse(*pair).item() == pytest.approx(np.sqrt(((x - y) ** 2).mean()), rel=1e-6)
    assert mae(*pair).item() == pytest.approx(np.abs(x - y).mean(), rel=1e-6)
    relative = np.sqrt(((x - y) ** 2).mean((1, 2))) / y.mean((1, 2))
    assert ergas(*pair, ratio=2.0).item() == pytest.approx(50 * np.sqrt((relative**2).mean()), rel=1e-6)
    lengths = np.linalg.norm(x, axis=0) * np.linalg.norm(y, axis=0)
    lit = lengths > 0
    angles = np.arccos(np.clip((x * y).sum(0)[lit] / lengths[lit], -1, 1))
    found = sam_map(*(t.double() for t in pair))[0, 0].numpy()
    np.testing.assert_allclose(found[lit], angles, atol=1e-7)
    assert sam(*pair).item() == pytest.approx(found.mean(), rel=1e-5)


@pytest.mark.parametrize("name", [*COLOUR, "coins_gray_noise"])
def test_scc_is_the_correlation_of_what_the_laplacian_finds(name):
    expected = []
    for x, y in zip(*arrays(name), strict=True):
        details = []
        for plane in (x, y):
            wide = np.pad(plane, 1, mode="edge")
            rows, columns = plane.shape
            nine = sum(wide[i : i + rows, j : j + columns] for i in range(3) for j in range(3))
            details.append((9 * plane - nine).ravel())
        expected.append(np.corrcoef(*details)[0, 1])
    assert scc(*golden_data.pair(name)).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_black_pixels_have_an_angle():
    black, red, green = torch.zeros(1, 3, 1, 1), torch.zeros(1, 3, 1, 1), torch.zeros(1, 3, 1, 1)
    red[:, 0], green[:, 1] = 0.7, 0.2
    assert sam(black, black).item() == 0
    assert sam(black, red).item() == sam(red, black).item() == pytest.approx(math.pi / 2)
    assert sam(red, green).item() == pytest.approx(math.pi / 2)
    assert sam(red, 0.1 * red).item() == 0


def test_a_black_reference_has_an_infinite_relative_error_but_for_itself():
    black = torch.zeros(1, 3, 4, 4)
    assert ergas(black, black).item() == 0
    assert ergas(black + 0.1, black).item() == math.inf


def test_scc_without_details():
    flat, detailed = torch.full((1, 1, 8, 8), 0.3), torch.rand(1, 1, 8, 8)
    assert scc(flat, 1 - flat).item() == 1
    assert scc(flat, detailed).item() == scc(detailed, flat).item() == 0
    assert scc(detailed, 1 - detailed).item() == pytest.approx(-1)
    assert scc(flat, flat, window=8).item() == 0


def test_mae_map_is_where_the_error_is():
    reference = torch.zeros(1, 3, 4, 5)
    image = reference.clone()
    image[0, 1, 2, 3] = 0.6
    expected = torch.zeros(1, 1, 4, 5)
    expected[0, 0, 2, 3] = 0.2
    torch.testing.assert_close(mae_map(image, reference), expected)


@pytest.mark.parametrize("make", [lambda: ERGAS(ratio=0), lambda: SCC(window=1), lambda: SCC(window=34)])
def test_options_are_checked(make):
    with pytest.raises(InputError, match="got"):
        make()
