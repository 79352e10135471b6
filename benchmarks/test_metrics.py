"""Every listed metric, plugins included, on one pair or image: the value, and the value with its gradient."""

import statistics
import time
from dataclasses import dataclass

import pytest
import torch

import iqazoo
from iqazoo import registry
from iqazoo.errors import PluginError
from iqazoo.ops import backend

SIZES = {"256": (256, 256), "512": (512, 512), "1080p": (1080, 1920)}
ROUND = 1e-3  # seconds that a round takes at least, by repeating the call
ROUNDS = 30


@dataclass(frozen=True)
class Case:
    """What is timed, with the spec or the reason why there is none."""

    metric: str
    what: str
    size: str
    spec: iqazoo.MetricSpec | PluginError

    def __str__(self):
        return f"{self.metric}-{self.what}-{self.size}"


def cases(names):
    """Of each metric, the smallest size first. A broken plugin has one case, which fails with the reason."""
    for name in names:
        try:
            spec = registry.spec(name)
        except PluginError as error:
            yield Case(name, "value", "256", error)
            continue
        for what in ("value", "value+gradient") if spec.differentiable else ("value",):
            yield from (Case(name, what, size, spec) for size in SIZES if min(SIZES[size]) >= spec.min_size)


def pytest_generate_tests(metafunc):
    listed = sorted({entry.public_name for entry in registry.entries()})
    found = cases(metafunc.config.getoption("metric") or listed)
    metafunc.parametrize("zoo_case", found, ids=str)


@pytest.fixture(scope="module")
def seconds():
    """The time of one call by metric, what and size, of the cases so far."""
    return {}


def test_metric(benchmark, pytestconfig, monkeypatch, seconds, zoo_case):
    case, device, budget = zoo_case, pytestconfig.getoption("device"), pytestconfig.getoption("budget")
    if isinstance(case.spec, PluginError):
        raise case.spec
    check_expected_time(case, seconds, budget)
    # Random weights: they cost what trained ones cost.
    metric = iqazoo.create(case.metric, weights=None, device=device)
    images = pictures(case, device)
    call = synchronised(value(metric, images) if case.what == "value" else gradient(metric, images), device)

    used = recorded_backends(monkeypatch)
    first = timed(call)
    monkeypatch.undo()
    if first > budget:
        seconds[case.metric, case.what, case.size] = first
        pytest.skip(f"the first call took {first:.3g} s, more than --budget {budget:g}")
    once = seconds[case.metric, case.what, case.size] = statistics.median(timed(call) for _ in range(3))
    iterations = max(1, round(ROUND / once))
    rounds = min(ROUNDS, max(3, int(budget / 2 / (once * iterations))))
    benchmark.group = f"{case.what}, {case.size}"
    benchmark.extra_info.update(facts(case, metric, images, device), backend="+".join(sorted(used)) or "torch")
    benchmark.pedantic(call, rounds=rounds, iterations=iterations)


def check_expected_time(case, seconds, budget):
    """Skip what would take too long, by the time of the size before it: such calls may take much memory, too."""
    before = list(SIZES)[list(SIZES).index(case.size) - 1]
    known = seconds.get((case.metric, case.what, before))
    if known is None or case.size == next(iter(SIZES)):
        return
    expected = known * pixels(case.size) / pixels(before)
    if expected > budget:
        seconds[case.metric, case.what, case.size] = expected  # or the next size would be called
        pytest.skip(f"a call would take about {expected:.3g} s by that at {before}, more than --budget {budget:g}")


def pixels(size):
    height, width = SIZES[size]
    return height * width


def pictures(case, device):
    """One image, with a reference for a full-reference metric."""
    channels = 3 if 3 in case.spec.channels else case.spec.channels[0]
    count = 2 if case.spec.kind == "FR" else 1
    noise = torch.rand(count, 1, channels, *SIZES[case.size], generator=torch.Generator().manual_seed(0))
    return list(noise.to(device))


def value(metric, images):
    def call():
        with torch.inference_mode():
            metric(*images)

    return call


def gradient(metric, images):
    image, *reference = images
    image.requires_grad_()

    def call():
        image.grad = None
        metric.loss(image, *reference).backward()

    return call


def synchronised(call, device):
    """The call with the wait for its device: kernels are queued, not run, when it returns."""
    if torch.device(device).type == "cpu":
        return call

    def call_and_wait():
        call()
        torch.accelerator.synchronize(device)

    return call_and_wait


def timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def recorded_backends(monkeypatch):
    """The kernels' backends that are used from now on; none where all is torch's."""
    used, kernel = set(), backend._kernel

    def recording(name, *arguments):
        used.add(name)
        return kernel(name, *arguments)

    monkeypatch.setattr(backend, "_kernel", recording)
    return used


def facts(case, metric, images, device):
    """What the time depends on."""
    entry, kind = registry.find(case.metric), torch.device(device).type
    dtype = next((p.dtype for p in metric.parameters()), images[0].dtype)
    return {
        "metric": case.metric,
        "distribution": f"{entry.distribution} {entry.version}",
        "what": case.what,
        "shape": list(images[0].shape),
        "dtype": str(dtype).removeprefix("torch."),
        "device": kind,
        "device_name": torch.cuda.get_device_name(device) if kind == "cuda" else kind,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
