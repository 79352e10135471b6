import math
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from iqazoo.metrics import numerics
from iqazoo.metrics.numerics import FullPrecision, constant, full_precision, safe_power, safe_sqrt


@pytest.mark.parametrize("exponent", [0.25, 0.5, 0.9])
def test_a_power_has_no_gradient_at_zero(exponent):
    x = torch.tensor([0.0, -1.0, 4.0, math.nan], dtype=torch.float64, requires_grad=True)
    found = safe_power(x, exponent)
    assert found[:2].tolist() == [0, 0]
    assert found[2].item() == pytest.approx(4**exponent)
    assert found[3].isnan()
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert gradient[:2].tolist() == [0, 0]
    assert gradient[2].item() == pytest.approx(exponent * 4 ** (exponent - 1))
    assert torch.equal(safe_power(x.detach(), exponent).nan_to_num(-1), found.detach().nan_to_num(-1))
    _, slope = torch.func.jvp(lambda x: safe_power(x, exponent), (x.detach(),), (torch.ones_like(x),))
    assert torch.equal(slope[:3], gradient[:3])


def test_the_root_is_exact():
    x = torch.tensor([2.0, 9.0])
    assert torch.equal(safe_sqrt(x), x.sqrt())


def test_a_score_is_computed_in_full_precision():
    seen = []

    @full_precision
    def score(image, reference, *, extra=None):
        seen.extend([image.dtype, reference.dtype, torch.is_autocast_enabled("cpu")])
        return image @ reference

    with torch.autocast("cpu", torch.bfloat16):
        found = score(torch.rand(2, 2).bfloat16(), torch.rand(2, 2).half())
    assert seen == [torch.float32, torch.float32, False]
    assert found.dtype == torch.float32
    assert score(torch.rand(2, 2).double(), torch.rand(2, 2).double()).dtype == torch.float64


class Model(FullPrecision):
    def __init__(self):
        super().__init__()
        self.register_buffer("covariance", torch.tensor([0.1]))
        self.inner = torch.nn.Linear(1, 1)


def test_a_fitted_model_is_not_rounded_to_half_types():
    model = Model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for change in (lambda: model.half(), lambda: model.to(torch.bfloat16), lambda: model.to(dtype=torch.half)):
        change()
        for name, value in model.state_dict().items():
            assert value.dtype == torch.float32
            assert torch.equal(value, before[name])
    assert all(value.dtype == torch.float64 for value in model.double().state_dict().values())
    assert model.half().covariance.dtype == torch.float64
    assert model.to("meta").covariance.is_meta


def counted(side):
    counted.calls += 1
    return np.arange(float(side))


counted.calls = 0


def test_a_constant_is_built_once_for_each_type():
    counted.calls = 0
    with torch.inference_mode():
        first = constant(torch.empty(1), counted, 3)
    again = constant(torch.empty(1), counted, 3)
    assert first is again
    assert not first.is_inference()  # or no gradient could be taken through it
    assert constant(torch.empty(1, dtype=torch.float64), counted, 3).dtype == torch.float64
    assert constant(torch.empty(1), counted, 4).tolist() == [0, 1, 2, 3]
    assert counted.calls == 3


@pytest.fixture
def empty(monkeypatch):
    """No constant is kept yet."""
    kept = type(numerics._kept)()
    monkeypatch.setattr(numerics, "_kept", kept)
    return kept


def under_fake_tensors(score):
    with FakeTensorMode() as mode:
        score(mode.from_tensor(torch.ones(3)))


@pytest.mark.parametrize(
    "trace",
    [
        under_fake_tensors,
        lambda score: make_fx(score, tracing_mode="fake")(torch.ones(3)),
        lambda score: torch.func.functionalize(score)(torch.ones(3)),
        lambda score: torch.func.grad(lambda x: score(x).sum())(torch.ones(3)),
    ],
)
def test_a_constant_of_a_trace_is_not_kept(empty, trace):
    trace(lambda x: x * constant(x, counted, 3))
    assert not empty
    assert type(constant(torch.ones(3), counted, 3)) is torch.Tensor


def test_constants_fill_no_more_than_their_share_of_memory(empty, monkeypatch):
    monkeypatch.setattr(numerics, "MOST_BYTES", 40)
    counted.calls = 0
    like = torch.empty(1)
    three, four = constant(like, counted, 3), constant(like, counted, 4)
    assert constant(like, counted, 3) is three
    constant(like, counted, 5)  # 12 + 16 + 20 bytes: the one of four was not used for the longest time
    assert constant(like, counted, 3) is three
    assert constant(like, counted, 4) is not four
    assert constant(like, counted, 11).tolist() == list(range(11))  # too large to be kept, it drives out nothing
    assert [len(tensor) for tensor in empty.values()] == [3, 4]
    assert counted.calls == 5


@pytest.fixture
def threads_in_turns():
    """Each gets the interpreter for a moment only, so that they meet in the middle of things."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_threads_may_share_constants(empty, monkeypatch, threads_in_turns):
    monkeypatch.setattr(numerics, "MOST_BYTES", 100)
    like = torch.empty(1)
    sides = [side % 9 for side in range(10000)]
    with ThreadPoolExecutor(8) as pool:
        assert [len(c) for c in pool.map(lambda side: constant(like, counted, side), sides)] == sides
    assert sum(tensor.nbytes for tensor in empty.values()) <= 100
