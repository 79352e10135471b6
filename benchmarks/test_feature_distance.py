"""The feature distance beside the torch expression that it replaces, and LPIPS beside the package lpips."""

import gc
import importlib
import importlib.util
import math
import sys
import time
import types

import pytest
import torch
from torch import nn

from iqazoo import create
from iqazoo.nets import trunks
from iqazoo.ops import available, feature_distance

pytestmark = pytest.mark.skipif(available()["cpu"] is not None, reason="the CPU kernels are not built")
# Trunk, size, batch: times faster for the value, and for the value with both features' gradients.
AT_LEAST = {("alex", 64, 50): (6, 5), ("alex", 512, 1): (6, 5), ("vgg", 64, 50): (8, 5), ("vgg", 512, 1): (8, 5)}


@pytest.fixture(autouse=True)
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def taps(trunk, size, batch):
    """What LPIPS compares: for each tap two maps with a gradient, and weights."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, size, size, generator=generator)
    with torch.no_grad():
        shapes = [(batch, *f.shape[1:]) for f in trunks.TRUNKS[trunk]()(image)]
    pairs = [[torch.randn(s, generator=generator).relu().requires_grad_() for _ in range(2)] for s in shapes]
    return [(*pair, torch.rand(s[1], generator=generator)) for pair, s in zip(pairs, shapes, strict=True)]


def unfused(f_image, f_reference, weight):
    """As LPIPS's published code computes it."""

    def unit(f):
        return f / (torch.sqrt(torch.sum(f**2, dim=1, keepdim=True)) + 1e-10)

    difference = (unit(f_image) - unit(f_reference)) ** 2
    return nn.functional.conv2d(difference, weight.view(1, -1, 1, 1)).mean([2, 3], keepdim=True)


def value(distance, layers):
    with torch.no_grad():
        return [distance(*layer) for layer in layers]


def value_and_gradients(distance, layers):
    return [torch.autograd.grad(distance(*layer).sum(), layer[:2]) for layer in layers]


def in_turns(runs, seconds):
    """The best time of each, since what else the machine does only adds; interleaved, at least three of each."""
    best = dict.fromkeys(runs, math.inf)
    for run in runs.values():
        run()
    gc.collect()
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < 3 or time.perf_counter() < end:
        rounds += 1
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def report(benchmark, what, best, ratio):
    benchmark.extra_info.update(best, ratio=ratio)
    times = ", ".join(f"{name} {seconds * 1e3:.3g} ms" for name, seconds in best.items())
    print(f"{what}: {times}, {ratio:.2f} times")


@pytest.mark.parametrize("gradient", [False, True], ids=["value", "value and gradients"])
@pytest.mark.parametrize("case", AT_LEAST, ids=str)
def test_against_the_expression(benchmark, case, gradient):
    layers, run = taps(*case), value_and_gradients if gradient else value
    runs = {"torch": lambda: run(unfused, layers), "fused": lambda: run(feature_distance, layers)}
    best = benchmark.pedantic(in_turns, (runs, 4), rounds=1)
    ratio = best["torch"] / best["fused"]
    report(benchmark, f"{case} {run.__name__}", best, ratio)
    assert ratio >= AT_LEAST[case][gradient]


def published_lpips():
    """The package's metric on our trunk, with stand-ins for what else it imports."""
    if importlib.util.find_spec("lpips") is None:
        pytest.skip("needs `pip install --no-deps lpips==0.1.4`, as make test does")
    models = types.ModuleType("torchvision.models")
    models.alexnet = lambda **_: trunks.alexnet()
    torchvision = types.ModuleType("torchvision")
    torchvision.models = models
    progress = types.ModuleType("tqdm")
    progress.tqdm = None
    with pytest.MonkeyPatch.context() as patch:
        for module in (models, torchvision, progress):
            patch.setitem(sys.modules, module.__name__, module)
        lpips = importlib.import_module("lpips")
        return lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval().requires_grad_(False)


@pytest.mark.parametrize(("prepared", "at_least"), [(False, 1.15), (True, 1.9)], ids=["pair", "prepared reference"])
def test_lpips_against_the_package(benchmark, prepared, at_least):
    theirs, ours = published_lpips(), create("lpips", weights=None)
    ours.network.trunk.load_state_dict(
        {f"features.{k.partition('.')[2]}": v for k, v in theirs.net.state_dict().items()}
    )
    for head, theirs_head in zip(ours.network.heads.values(), theirs.lins, strict=True):
        head.model[1].weight.data = theirs_head.model[1].weight
    image, reference = torch.rand(2, 1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    bound = ours.with_reference(reference)
    fused = (lambda: bound(image)) if prepared else (lambda: ours(image, reference))
    torch.testing.assert_close(fused(), theirs(image, reference, normalize=True).flatten(), rtol=1e-4, atol=1e-7)
    with torch.inference_mode():
        runs = {"lpips 0.1.4": lambda: theirs(image, reference, normalize=True), "iqazoo": fused}
        best = benchmark.pedantic(in_turns, (runs, 8), rounds=1)
    ratio = best["lpips 0.1.4"] / best["iqazoo"]
    report(benchmark, "LPIPS, prepared" if prepared else "LPIPS", best, ratio)
    assert ratio >= at_least
