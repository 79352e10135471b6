import math

import judging
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from iqazoo.errors import InputError
from iqazoo.ops import calibrated_pairwise_loss, pairwise_loss
from iqazoo.train.losses import Calibrated, Scaled, badness, has_best, make_loss

SPECS = [
    judging.spec(score_range=(0.5, math.inf)),
    judging.spec(lower_is_better=False, score_range=(-math.inf, 1.0)),
    judging.spec(score_range=(-math.inf, math.inf)),
    judging.spec(lower_is_better=False, score_range=(0.0, math.inf)),
]


@pytest.mark.parametrize(("number", "expected"), [*enumerate(([0.5, 2.5], [0.0, -2.0], [1, 3], [-1, -3]))])
def test_badness_grows_for_the_worse_from_the_best(number, expected):
    spec = SPECS[number]
    assert badness(spec, torch.tensor([1.0, 3.0])).tolist() == expected
    assert has_best(spec) == (spec in SPECS[:2])


@pytest.mark.parametrize("spec", SPECS)
def test_auto_is_calibrated_only_where_there_is_a_best(spec):
    assert isinstance(make_loss("auto", spec), Calibrated if has_best(spec) else Scaled)
    if not has_best(spec):
        assert make_loss("auto", spec).kind == "bce"
        with pytest.raises(InputError, match="has none; take 'bce'"):
            make_loss("calibrated", spec)


def judgments(n=6, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    d_a, d_b, preference = torch.rand(3, n, generator=generator)
    return scale * d_a, scale * d_b, preference


@pytest.mark.parametrize("kind", ["bce", "mse", "margin"])
def test_scaled_is_the_op(kind):
    d_a, d_b, preference = judgments()
    loss = make_loss(kind, SPECS[0], margin=0.3)
    expected = pairwise_loss(d_a, d_b, preference, kind=kind, margin=0.3, lower_is_better=True)
    torch.testing.assert_close(tuple(loss(d_a, d_b, preference)), tuple(expected))
    assert len(list(loss.parameters())) == (0 if kind == "margin" else 1)


def test_calibrated_is_the_op():
    d_a, d_b, preference = judgments()
    loss = Calibrated()
    expected = calibrated_pairwise_loss(d_a, d_b, preference, loss.weights, lower_is_better=True)
    torch.testing.assert_close(tuple(loss(d_a, d_b, preference)), tuple(expected))


def test_the_calibrated_network_starts_as_torchs_layers():
    torch.manual_seed(0)
    loss = Calibrated()
    torch.manual_seed(0)
    layers = nn.Linear(5, 32), nn.Linear(32, 32), nn.Linear(32, 1)
    want = torch.cat([p.flatten() for layer in layers for p in (layer.weight, layer.bias)])
    assert [name for name, _ in loss.named_parameters()] == ["weights"]
    assert torch.equal(loss.weights, want)


@given(st.floats(1e-6, 1e6))
def test_the_temperature_starts_at_the_scale_of_the_scores(scale):
    losses = []
    for by in (1.0, scale):
        d_a, d_b, preference = judgments(scale=by)
        loss = Scaled("bce")
        loss.start_from(d_a, d_b)
        losses.append(loss(d_a, d_b, preference).loss)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=0)


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_a_first_batch_without_a_scale_leaves_the_temperature(value):
    loss = Scaled("bce")
    loss.start_from(torch.full((3,), value), torch.zeros(3))
    assert loss.log_scale.item() == 0


@pytest.mark.parametrize("kind", ["bce", "mse", "margin", "calibrated"])
@pytest.mark.parametrize("difference", [1e4, -1e4])
def test_differences_of_1e4_have_finite_gradients(kind, difference):
    loss = make_loss(kind, SPECS[0])
    d_a, d_b = (torch.tensor([v], requires_grad=True) for v in (1e4 + difference, 1e4))
    for preference in (0.0, 0.3, 1.0):
        result = loss(d_a, d_b, torch.tensor([preference]))
        gradients = torch.autograd.grad(result.loss, [d_a, d_b, *loss.parameters()])
        assert result.loss.isfinite()
        assert all(g.isfinite().all() for g in gradients)
