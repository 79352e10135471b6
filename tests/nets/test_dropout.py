"""Dropout with 8 or 16 random bits for each element."""

import pytest
import torch

from iqazoo.nets.dropout import Dropout


@pytest.mark.parametrize("p", [0.5, 3 / 256, 0.1, 0.937])
def test_a_share_p_is_dropped_and_the_rest_scaled_up(p):
    torch.manual_seed(0)
    x = torch.ones(4, 16, 100, 101)
    out = Dropout(p)(x)
    dropped = round(p * 2**16) / 2**16
    assert (out == 0).float().mean().item() == pytest.approx(dropped, abs=4 * (p * (1 - p) / x.numel()) ** 0.5)
    torch.testing.assert_close(out[out != 0].unique(), torch.tensor([1 / (1 - dropped)]))


@pytest.mark.parametrize("p", [0.5, 0.5 + 2**-16])
def test_elements_are_dropped_independently(p):
    torch.manual_seed(0)
    kept = (Dropout(p)(torch.ones(1_000_000)) != 0).double() - 0.5
    for lag in (1, 2, 3, 4, 5, 7, 8, 64):
        assert abs((kept[lag:] * kept[:-lag]).mean().item()) < 4 * 0.25 / 1000


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3,), (5, 7)])
def test_every_shape_and_its_gradient(shape):
    torch.manual_seed(0)
    x = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    out = Dropout(0.5)(x)
    out.sum().backward()
    assert out.dtype == x.dtype
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x.detach(), out.detach())


def test_the_seed_decides():
    x, dropout = torch.rand(1000), Dropout(0.5)
    outs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outs.append(dropout(x))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_nothing_happens_outside_of_training(p):
    x = torch.rand(9)
    assert torch.equal(Dropout(p).eval()(x), x)


def test_all_or_nothing():
    x = torch.rand(9)
    assert torch.equal(Dropout(0.0)(x), x)
    assert not Dropout(1.0)(x).any()


def test_all_or_nothing_as_integers():
    x = torch.rand(9)
    assert torch.equal(Dropout(0)(x), x)
    assert not Dropout(1)(x).any()
