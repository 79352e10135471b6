"""DISTS beside the authors' values, and what the kit asks of every metric."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import golden_data
import pytest
import torch
import torch.nn.functional as F
from iqazoo_dists import SPEC
from iqazoo_dists.network import DISTS, L2Pool

from iqazoo import state_dict
from iqazoo.metric import Metric
from iqazoo.testing import parametrize_with_checks


@parametrize_with_checks([SPEC])
def test_it_keeps_its_promises(spec, check):
    check(spec)


@pytest.fixture(scope="module")
def published():
    """The authors' file, in the installed wheel of `DISTS_pytorch`, which is not imported."""
    found = find_spec("DISTS_pytorch")
    if found is None or found.origin is None:
        pytest.skip("needs `pip install --no-deps DISTS_pytorch==0.1`")
    return Path(found.origin).parent / "weights.pt"


@pytest.fixture(scope="module")
def golden(published):
    """The metric with the stated trunk weights and the published alpha and beta."""
    network = DISTS()
    golden_data.fill_trunk(network.trunk)
    network.load_state_dict(state_dict.read_state_dict(published), strict=False)
    return Metric(SPEC, network)


def test_the_published_file_is_the_one_that_the_spec_names(published):
    assert hashlib.sha256(published.read_bytes()).hexdigest() == SPEC.weights[1].sha256
    assert set(state_dict.read_state_dict(published)) == {"alpha", "beta"}


@pytest.mark.parametrize("name", golden_data.NAMES)
def test_golden(golden, name):
    score = golden(*golden_data.pair(name)).item()
    assert score == pytest.approx(golden_data.value("DISTS_pytorch-0.1:dists", name), rel=0, abs=2e-6)


def test_equal_images_have_no_distance(golden):
    _, reference = golden_data.pair(golden_data.NAMES[0])
    assert golden(reference, reference).item() == 0


def test_gray_is_repeated_into_three_channels(golden):
    image, reference = torch.rand(2, 1, 1, 48, 40)
    torch.testing.assert_close(golden(image, reference), golden(*(x.expand(-1, 3, -1, -1) for x in (image, reference))))


def test_resize_brings_the_short_side_to_256(golden):
    resizing = DISTS(resize=True)
    resizing.load_state_dict(golden.network.state_dict())
    image, reference = torch.rand(2, 1, 3, 300, 400)
    small = [F.interpolate(x, (256, 341), mode="bilinear", antialias=True) for x in (image, reference)]
    torch.testing.assert_close(Metric(SPEC, resizing)(image, reference), golden(*small))
    torch.testing.assert_close(Metric(SPEC, resizing)(*small), golden(*small))


@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_pooling_is_the_root_of_the_mean_square_under_a_hann_window(size):
    x = torch.rand(2, 3, *size)
    squares = F.pad(x, (1, 1, 1, 1)).square()
    window = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16
    expected = [
        [(squares[..., i : i + 3, j : j + 3] * window).sum((2, 3)) for j in range(0, size[1], 2)]
        for i in range(0, size[0], 2)
    ]
    rows = torch.stack([torch.stack(row, -1) for row in expected], -2)  # [B, C, H', W']
    torch.testing.assert_close(L2Pool()(x), rows.sqrt())
