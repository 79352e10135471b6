"""The paired test against scipy's, and the adjustment against its definition."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from iqazoo.evaluate import holm, sign_flip_test, significance


def scipys(differences):
    return scipy.stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    ).pvalue


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_all_signs_as_scipy(values):
    """scipy doubles the smaller tail where ours counts both, which is the same for signs."""
    found = sign_flip_test(torch.tensor(values) / 5)
    expected = scipys(np.array([*values, 0.0]))  # whole numbers, as scipy knows nothing of rounding
    assert found == pytest.approx(min(1, expected), abs=1e-12)


def test_random_signs_come_close_to_all_signs():
    values = torch.tensor([0.3, -0.1, 0.5, 0.2, 0.25, -0.05, 0.4, -0.3, 0.1, 0.35, 0.15, -0.2, 0.45, 0.12])
    exact = sign_flip_test(values, resamples=2**14)
    assert 0.005 < exact < 0.05
    assert sign_flip_test(values, resamples=2**14 - 2) == pytest.approx(exact, abs=0.004)


def test_turns_do_not_matter(monkeypatch):
    values = torch.randn(300, generator=torch.Generator().manual_seed(0)) + 0.1
    whole = sign_flip_test(values)
    monkeypatch.setattr(significance, "AT_ONCE", 5000)
    assert sign_flip_test(values) == pytest.approx(whole, abs=0.01)
    assert whole == pytest.approx(scipy.stats.ttest_1samp(values.numpy(), 0).pvalue, abs=0.02)


def test_equal_metrics_are_called_different_as_often_as_the_level_says():
    generator = torch.Generator().manual_seed(4)
    p_values = [sign_flip_test(torch.randn(40, generator=generator), resamples=199) for _ in range(400)]
    assert 0.02 <= np.mean([p <= 0.05 for p in p_values]) <= 0.09


def test_the_least_p_and_the_largest():
    assert sign_flip_test(torch.ones(100), resamples=999) == 1 / 1000
    assert sign_flip_test(torch.zeros(100)) == 1
    assert sign_flip_test(torch.tensor([])) == 1
    assert sign_flip_test(torch.tensor([1.0, -1.0])) == 1
    assert math.isnan(sign_flip_test(torch.tensor([1.0, math.nan])))


def test_rounding_does_not_hide_a_tie():
    """0.1 + 0.2 - 0.3 is not quite 0, and in another order it is another number; it is as far as 0 all the same."""
    tenths = [1.0, 2.0, -3.0, 6.0, -6.0]
    assert sign_flip_test(torch.tensor(tenths, dtype=torch.float64) / 10) == scipys(np.array(tenths)) == 1
    tenths[-1] = 7.0
    assert sign_flip_test(torch.tensor(tenths, dtype=torch.float64) / 10) == scipys(np.array(tenths))


def stepped(p_values):
    """Holm: the k-th smallest of m is compared with level / (m - k + 1), until one fails."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    for rank, place in enumerate(order):
        # The least level at which this one and all smaller ones pass.
        adjusted[place] = min(1, max(p_values[order[i]] * (len(order) - i) for i in range(rank + 1)))
    return adjusted.tolist()


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_by_its_steps(p_values):
    assert holm(p_values) == pytest.approx(stepped(p_values))


def test_holm_of_a_known_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    nan_last = holm([0.01, math.nan, 0.02])
    assert nan_last[0] == 0.02
    assert math.isnan(nan_last[1])
