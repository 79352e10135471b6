"""All-pairs RankNet, value and gradient, beside the torch expression that it replaces."""

import math
import time

import pytest
import torch
import torch.nn.functional as F

from iqazoo.ops import available, ranking_loss

pytestmark = pytest.mark.skipif(available()["cpu"] is not None, reason="the CPU kernels are not built")
AT_LEAST = {512: 10, 2048: 50, 8192: 200}  # times faster; what is seen is in README.md


def unfused(scores, targets):
    """The mean over unordered pairs, by matrices of all N x N."""
    z = scores[:, None] - scores
    h = (targets[:, None] > targets).to(z) + 0.5 * (targets[:, None] == targets).to(z)
    losses = F.binary_cross_entropy_with_logits(z, h, reduction="none")
    return losses.triu(1).sum() / (len(scores) * (len(scores) - 1) / 2)


def sample(size):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, generator=generator).requires_grad_(), torch.randn(size, generator=generator)


def seconds(function, repeats):
    """Of each of `repeats` calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return times


@pytest.mark.parametrize("size", AT_LEAST)
def test_value_and_gradient(benchmark, size):
    torch.set_num_threads(2)
    scores, targets = sample(size)
    runs = {
        "fused": lambda: torch.autograd.grad(ranking_loss(scores, targets).loss, scores)[0],
        "torch": lambda: torch.autograd.grad(unfused(scores, targets), scores)[0],
    }
    torch.testing.assert_close(runs["fused"](), runs["torch"](), rtol=1e-4, atol=1e-7)
    # In turns, so that both see the same machine; the best of each, for other processes only ever add time.
    best = dict.fromkeys(runs, math.inf)
    for _ in range(4 if size > 4096 else 20):
        for name, run in runs.items():
            best[name] = min(best[name], *seconds(run, 2 if name == "torch" else 10))
    ratio = best["torch"] / best["fused"]
    benchmark.group = f"ranknet value and gradient, N = {size}"
    benchmark.extra_info.update(best, ratio=ratio)
    benchmark(runs["fused"])
    print(f"N = {size}: torch {best['torch'] * 1e3:.3g} ms, fused {best['fused'] * 1e3:.3g} ms, {ratio:.0f} times")
    assert ratio >= AT_LEAST[size]


@pytest.mark.parametrize("kind", ["ranknet", "margin", "fidelity"])
@pytest.mark.parametrize("size", [64, 512, 4096])
def test_kinds(benchmark, size, kind):
    torch.set_num_threads(2)
    scores, targets = sample(size)
    benchmark.group = f"kinds, value and gradient, N = {size}"
    benchmark(lambda: torch.autograd.grad(ranking_loss(scores, targets, kind=kind).loss, scores)[0])


def test_a_large_batch(benchmark):
    torch.set_num_threads(2)
    scores, targets = sample(65536)
    benchmark.pedantic(lambda: torch.autograd.grad(ranking_loss(scores, targets).loss, scores)[0], rounds=3)
