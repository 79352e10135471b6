"""Average precision against a slow, obvious sweep of thresholds."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from iqazoo.errors import InputError
from iqazoo.evaluate import average_precision

pairs = st.tuples(st.integers(0, 6), st.sampled_from([0.0, 1 / 3, 2 / 3, 1.0]), st.integers(0, 3))


def swept(distances, same, weights):
    """VOC since 2010: at each recall the best precision that any threshold reaches at that recall or beyond."""
    total = sum(w * s for w, s in zip(weights, same, strict=True))
    if total == 0:
        return math.nan
    points = []
    for threshold in sorted(set(distances)):
        called = [(w, s) for d, s, w in zip(distances, same, weights, strict=True) if d <= threshold]
        hits, number = sum(w * s for w, s in called), sum(w for w, _ in called)
        points.append((hits / total, hits / number if number else 0.0))
    area, before = 0.0, 0.0
    for recall, _ in points:
        area += (recall - before) * max(precision for other, precision in points if other >= recall)
        before = recall
    return area


@settings(max_examples=150, deadline=None)
@given(st.lists(pairs, min_size=1, max_size=25))
def test_as_swept(rows):
    distances, same, weights = zip(*rows, strict=True)
    found = average_precision(
        torch.tensor(distances), torch.tensor(same), torch.tensor([weights, [1] * len(rows)], dtype=torch.float64)
    )
    expected = [swept(distances, same, weights), swept(distances, same, [1] * len(rows))]
    assert found.tolist() == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert average_precision(torch.tensor(distances), torch.tensor(same)).item() == pytest.approx(
        expected[1], abs=1e-6, nan_ok=True
    )


def test_against_the_formula_of_lpips_where_no_distances_tie():
    """Sorted, cumulated, with the points (0, 0) and (1, 0) added and the envelope taken from the right."""
    import numpy as np

    rng = np.random.default_rng(0)
    distances, same = rng.permutation(200) / 7, rng.integers(0, 4, 200) / 3
    hits = same[np.argsort(distances)]
    true, false = np.cumsum(hits), np.cumsum(1 - hits)
    recall = np.concatenate([[0], true / true[-1], [1]])
    precision = np.concatenate([[0], true / (true + false), [0]])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.flatnonzero(recall[1:] != recall[:-1])
    expected = np.sum((recall[steps + 1] - recall[steps]) * precision[steps + 1])
    found = average_precision(torch.from_numpy(distances), torch.from_numpy(same))
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_a_weight_is_as_many_copies():
    generator = torch.Generator().manual_seed(1)
    distances, same = torch.rand(40, generator=generator), torch.rand(40, generator=generator)
    weights = torch.randint(4, (40,), generator=generator)
    copied = average_precision(distances.repeat_interleave(weights), same.repeat_interleave(weights))
    torch.testing.assert_close(average_precision(distances, same, weights), copied)


def test_ends_of_the_scale():
    same = torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert average_precision(torch.arange(4.0), same).item() == 1
    assert average_precision(torch.zeros(4), same).item() == 0.5
    assert average_precision(-torch.arange(4.0), same).item() == pytest.approx(0.5)
    assert average_precision(torch.tensor([0, math.inf, math.inf, math.inf]), same).item() == pytest.approx(0.75)


def test_undefined_is_nan():
    assert math.isnan(average_precision(torch.arange(3.0), torch.zeros(3)).item())
    assert math.isnan(average_precision(torch.tensor([1.0, math.nan]), torch.ones(2)).item())
    assert math.isnan(average_precision(torch.zeros(0), torch.zeros(0)).item())


def test_the_order_of_rows_has_no_part():
    generator = torch.Generator().manual_seed(2)
    distances = torch.randint(5, (60,), generator=generator).float()
    same = torch.rand(60, generator=generator)
    order = torch.randperm(60, generator=generator)
    torch.testing.assert_close(average_precision(distances[order], same[order]), average_precision(distances, same))


@pytest.mark.parametrize(
    ("distance", "same", "weights", "message"),
    [
        (torch.zeros(3), torch.zeros(2), None, "one shape"),
        (torch.zeros(3, 1), torch.zeros(3, 1), None, "one shape"),
        (torch.zeros(3), torch.zeros(3), torch.ones(2, 4), "one shape"),
        (torch.zeros(3), torch.full((3,), 2.0), None, "from 0 to 1"),
    ],
)
def test_input_errors(distance, same, weights, message):
    with pytest.raises(InputError, match=message):
        average_precision(distance, same, weights)
