"""Bootstrap intervals against scipy, and by how often they cover the truth."""

import math

import pytest
import scipy.stats
import torch

from iqazoo.errors import InputError
from iqazoo.evaluate import bootstrap, interval, mean_of, resample


def test_an_interval_as_scipys():
    values = torch.rand(80, generator=torch.Generator().manual_seed(0)).double() ** 3
    found = interval(resample(mean_of(values), 80, resamples=20_000))
    expected = scipy.stats.bootstrap(
        (values.numpy(),), lambda x, axis: x.mean(axis), n_resamples=20_000, method="percentile", rng=0
    ).confidence_interval
    assert found == pytest.approx(tuple(expected), abs=0.004)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    generator = torch.Generator().manual_seed(3)
    covered = 0
    for _ in range(200):
        low, high = interval(resample(mean_of((torch.rand(60, generator=generator) < 0.7).double()), 60, 200))
        covered += low <= 0.7 <= high
    assert 0.90 <= covered / 200 <= 0.98


def test_each_set_has_as_many_rows_as_the_data(monkeypatch):
    monkeypatch.setattr(bootstrap, "AT_ONCE", 100)  # so that it takes several turns
    times = resample(lambda drawn: drawn.T, 7, resamples=50)
    assert times.shape == (7, 50)
    assert (times.sum(0) == 7).all()
    assert times.max() > 1
    assert times.mean().item() == pytest.approx(1)


def test_metrics_are_compared_draw_by_draw():
    values = torch.rand(2, 40, generator=torch.Generator().manual_seed(0)).double()
    together = resample(mean_of(values), 40, 200, seed=5)
    assert together.shape == (2, 200)
    torch.testing.assert_close(together[1], resample(mean_of(values[1]), 40, 200, seed=5))
    assert not torch.equal(together[1], resample(mean_of(values[1]), 40, 200, seed=6))


def test_a_mean_by_counts_is_a_mean_of_rows():
    values = torch.rand(30, generator=torch.Generator().manual_seed(0)).double()
    drawn = torch.tensor([0, 0, 29, 3] + [7] * 26)
    times = torch.bincount(drawn, minlength=30).double()[None]
    torch.testing.assert_close(mean_of(values)(times), values[drawn].mean()[None])


def test_the_level_is_the_part_inside():
    replicates = torch.arange(10_001.0).double()
    assert interval(replicates) == pytest.approx((250, 9750))
    assert interval(replicates, level=0.5) == pytest.approx((2500, 7500))


def test_undefined_replicates_are_left_out():
    replicates = torch.cat([torch.full((500,), torch.nan), torch.arange(10_001.0)]).double()
    assert interval(replicates) == pytest.approx((250, 9750))
    assert all(map(math.isnan, interval(torch.full((5,), torch.nan))))


@pytest.mark.parametrize(("count", "resamples"), [(0, 5), (5, 0)])
def test_input_errors(count, resamples):
    with pytest.raises(InputError, match="a row or more"):
        resample(mean_of(torch.zeros(count)), count, resamples)
