"""The pairwise losses beside the torch expressions they replace: value and gradient, two threads, bounds asserted."""

import time

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from iqazoo.ops import calibrated_pairwise_loss, pairwise_loss
from iqazoo.ops.calibrated import SHAPES

SIZES = [64, 256, 1024, 65536]


@pytest.fixture(autouse=True)
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def judgments(n):
    generator = torch.Generator().manual_seed(0)
    score_a, score_b = torch.randn((2, n), generator=generator)
    return score_a.requires_grad_(), score_b.requires_grad_(), torch.rand(n, generator=generator)


def unfused(a, b, h):
    return ((1 / (1 + torch.exp(b - a)) - h) ** 2).mean()


def bce_with_logits(a, b, h):
    return F.binary_cross_entropy_with_logits(a - b, h)


def fused_mse(a, b, h):
    return pairwise_loss(a, b, h, kind="mse", lower_is_better=True).loss


def fused_bce(a, b, h):
    return pairwise_loss(a, b, h, lower_is_better=True).loss


LOSSES = {f.__name__: f for f in (unfused, fused_mse, bce_with_logits, fused_bce)}


def with_gradient(loss, a, b, h):
    def call():
        a.grad = b.grad = None
        loss(a, b, h).backward()

    return call


def side_by_side(*calls, rounds=400, seconds=0.002):
    """The least time of each call in us, measured in turn: whatever else runs here only adds to it."""
    counts = []
    for call in calls:
        for _ in range(20):
            call()
        start = time.perf_counter()
        call()
        counts.append(max(1, int(seconds / (time.perf_counter() - start))))
    times = [[] for _ in calls]
    for _ in range(rounds):
        for call, count, found in zip(calls, counts, times, strict=True):
            start = time.perf_counter()
            for _ in range(count):
                call()
            found.append((time.perf_counter() - start) / count * 1e6)
    return [min(found) for found in times]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("n", SIZES)
def test_value_and_gradient(benchmark, n, name):
    benchmark.group = f"pairwise loss, value and gradient, N = {n}"
    benchmark(with_gradient(LOSSES[name], *judgments(n)))


@pytest.mark.parametrize("n", SIZES)
def test_ratios(benchmark, n):
    """Faster than the unfused expression (twice for many), within a tenth of torch's own fused loss."""
    triple = judgments(n)
    calls = [with_gradient(loss, *triple) for loss in LOSSES.values()]
    measured = benchmark.pedantic(side_by_side, args=calls, rounds=1)
    plain, mse, torch_bce, bce = measured
    benchmark.extra_info.update(zip(LOSSES, (round(t, 1) for t in measured), strict=True))
    print(f"N = {n}: " + ", ".join(f"{name} {t:.1f} us" for name, t in zip(LOSSES, measured, strict=True)))
    assert mse < plain / (2 if n == 65536 else 1)
    if n != 65536:
        assert bce < 1.1 * torch_bce


def unfused_head(a, b, h, weights):
    x = torch.stack([a, b, a - b, a / (b + 0.1), b / (a + 0.1)], 1)
    w1, b1, w2, b2, w3, b3 = weights
    hidden = F.leaky_relu(F.linear(F.leaky_relu(F.linear(x, w1, b1), 0.2), w2, b2), 0.2)
    return nn.BCELoss()(torch.sigmoid(F.linear(hidden, w3, b3))[:, 0], h)


def fused_head(a, b, h, weights):
    return calibrated_pairwise_loss(a, b, h, weights, lower_is_better=True, compat="bceloss").loss


@pytest.mark.parametrize("n", [50, 1024, 65536])
def test_calibrated_ratio(benchmark, n):
    """LPIPS's network with all gradients: as fast as torch's matrices at least, with many judgments twice."""
    generator = torch.Generator().manual_seed(0)
    a, b, h = torch.rand((3, n), generator=generator)
    weights = [(0.3 * torch.randn(s, generator=generator)).requires_grad_() for s in SHAPES]
    leaves = (a.requires_grad_(), b.requires_grad_(), *weights)

    def call(loss):
        for leaf in leaves:
            leaf.grad = None
        loss(a, b, h, weights).backward()

    calls = (lambda: call(unfused_head), lambda: call(fused_head))
    plain, fused = benchmark.pedantic(side_by_side, args=calls, kwargs={"rounds": 20}, rounds=1)
    benchmark.extra_info.update(unfused=round(plain, 1), fused=round(fused, 1))
    print(f"N = {n}: unfused {plain:.1f} us, fused {fused:.1f} us")
    assert fused * (2 if n == 65536 else 1) < plain
