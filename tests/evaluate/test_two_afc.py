"""2AFC agreement and its limits against a slow, obvious count of people."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from iqazoo.errors import InputError
from iqazoo.evaluate import agreement, best_agreement, by_subset, human_agreement

RATERS = 5
triplets = st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.integers(0, RATERS))


def counted(a, b, for_b):
    """How many of the raters the nearer image pleases; half of them if none is nearer."""
    if a == b:
        return 0.5
    return (for_b if b < a else RATERS - for_b) / RATERS


@settings(max_examples=100, deadline=None)
@given(st.lists(triplets, min_size=1, max_size=30))
def test_as_counted(rows):
    a, b, for_b = torch.tensor(rows).unbind(1)
    expected = torch.tensor([counted(*row) for row in rows], dtype=torch.float64)
    found = agreement(a.double() / 7, b.double() / 7, for_b.double() / RATERS)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(agreement(a, b, for_b.double() / RATERS), expected)
    assert found.dtype == torch.float64


def test_a_similarity_agrees_upside_down():
    a, b, p = torch.rand(3, 50, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(agreement(-a, -b, p), 1 - agreement(a, b, p))


def test_infinite_distances_are_ordered_and_tie():
    inf = math.inf
    a, b = torch.tensor([inf, -inf, inf, 1.0, -inf]), torch.tensor([inf, -inf, 1.0, inf, inf])
    p = torch.full((5,), 0.8)
    torch.testing.assert_close(agreement(a, b, p), torch.tensor([0.5, 0.5, 0.8, 0.2, 0.2]).double())


def test_nan_stays_visible():
    found = agreement(torch.tensor([math.nan, 1.0, 0.0]), torch.tensor([0.0, math.nan, 1.0]), torch.ones(3))
    assert found.isnan().tolist() == [True, True, False]


@pytest.mark.parametrize("for_b", range(RATERS + 1))
def test_limits_as_counted(for_b):
    p = for_b / RATERS
    crowd = [1] * for_b + [0] * (RATERS - for_b)
    person = sum(x == y for x in crowd for y in crowd) / RATERS**2
    best = max(sum(x == y for x in crowd) for y in (0, 1)) / RATERS
    assert human_agreement(torch.tensor([p])).item() == pytest.approx(person)
    assert best_agreement(torch.tensor([p])).item() == pytest.approx(best)


def test_columns_are_divided_by_subset():
    parts = by_subset(torch.arange(10).view(2, 5), ["b", "a", "b", "c", "a"])
    assert {name: part.tolist() for name, part in parts.items()} == {
        "b": [[0, 2], [5, 7]], "a": [[1, 4], [6, 9]], "c": [[3], [8]],
    }  # fmt: skip
    assert list(parts) == ["b", "a", "c"]


def test_nothing_beats_the_best():
    generator = torch.Generator().manual_seed(0)
    a, b, p = torch.rand(3, 1000, generator=generator)
    assert (agreement(a, b, p) <= best_agreement(p) + 1e-12).all()
    assert (human_agreement(p) <= best_agreement(p) + 1e-12).all()


@pytest.mark.parametrize(
    ("a", "b", "p", "message"),
    [
        (torch.zeros(2), torch.zeros(3), torch.zeros(2), r"one shape \[N\]"),
        (torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2), r"one shape \[N\]"),
        (torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2, 1), "flatten"),
        (torch.zeros(2), torch.zeros(2), torch.tensor([0.0, 1.1]), "fractions from 0 to 1"),
        (torch.zeros(2), torch.zeros(2), torch.tensor([0.0, -0.1]), "fractions from 0 to 1"),
        (torch.zeros(1), torch.zeros(1), torch.tensor([math.nan]), "fractions from 0 to 1"),
    ],
)
def test_input_errors(a, b, p, message):
    with pytest.raises(InputError, match=message):
        agreement(a, b, p)
