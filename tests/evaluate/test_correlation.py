"""Kendall's tau against scipy."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from iqazoo.errors import InputError
from iqazoo.evaluate import kendall_tau


def scipy_tau(scores, targets):
    return float(kendalltau(scores.numpy(), targets.numpy()).statistic)


@pytest.mark.parametrize("levels", [2, 10, 5000, 10**9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_ten_thousand_items_as_scipy(dtype, levels):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(-levels, levels, (10_000,), generator=generator).to(dtype)
    targets = (scores + torch.randint(-levels, levels, (10_000,), generator=generator)).to(torch.float64)
    tau = kendall_tau(scores, targets)
    assert tau == pytest.approx(scipy_tau(scores, targets), abs=1e-12)
    assert kendall_tau(-scores, targets) == -tau
    assert kendall_tau(targets, scores) == tau


@settings(max_examples=150, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 4)), min_size=2, max_size=40))
def test_fuzz(pairs):
    scores, targets = torch.tensor(pairs).double().unbind(1)
    assert kendall_tau(scores, targets) == pytest.approx(scipy_tau(scores, targets), abs=1e-12, nan_ok=True)


def test_perfect_orders_are_exactly_one():
    values = torch.arange(1000)
    assert kendall_tau(values, values.float()) == 1
    assert kendall_tau(-values, values**2) == -1


@pytest.mark.parametrize(
    ("scores", "targets"),
    [
        (torch.ones(5), torch.arange(5.0)),
        (torch.arange(5.0), torch.ones(5)),
        (torch.ones(5), torch.ones(5)),
        (torch.tensor([1.0, math.nan, 2.0]), torch.arange(3.0)),
        (torch.arange(3.0), torch.tensor([math.nan, 1.0, 2.0])),
        (torch.ones(1), torch.ones(1)),
        (torch.ones(0), torch.ones(0)),
    ],
)
def test_undefined_is_nan(scores, targets):
    assert math.isnan(kendall_tau(scores, targets))


def test_infinities_are_ordered():
    scores = torch.tensor([-math.inf, 0.0, math.inf, math.inf])
    assert kendall_tau(scores, torch.arange(4.0)) == pytest.approx(scipy_tau(scores, torch.arange(4.0)), abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        (torch.zeros(2, 2), torch.zeros(2, 2), r"shape \[N\]"),
        (torch.zeros(2), torch.zeros(3), r"shape \[N\]"),
        (torch.zeros(2, dtype=torch.complex64), torch.zeros(2), "real numbers"),
        (torch.tensor([2**53 + 1, 0]), torch.zeros(2), r"2\^53"),
    ],
)
def test_input_errors(scores, targets, message):
    with pytest.raises(InputError, match=message):
        kendall_tau(scores, targets)
