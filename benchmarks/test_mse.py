"""The mean-squared-error kernel beside the torch expression it replaces, and in turn with torch's own operations."""

import time

import pytest
import torch

from iqazoo.ops import available, backend, mse

SHAPES = {
    "1080p": (1, 3, 1080, 1920),
    "720p": (1, 3, 720, 1280),
    "batch of 64": (64, 3, 64, 64),
    "batch of 8": (8, 3, 64, 64),
}
BACKENDS = ["torch", "cpu: baseline", "cpu: auto"]
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


@pytest.fixture(params=BACKENDS)
def chosen(request, monkeypatch):
    """The name of a backend; for that of the CPU with the level that IQAZOO_CPU_LEVEL names."""
    name, _, level = request.param.partition(": ")
    monkeypatch.setenv("IQAZOO_CPU_LEVEL", level or "auto")
    backend.forget()
    if available()[name] is not None:
        pytest.skip(str(available()[name]))
    yield name
    backend.forget()


def pair(shape, dtype="float32"):
    return torch.rand(2, *SHAPES[shape], generator=torch.Generator().manual_seed(0)).to(DTYPES[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ["1080p", "batch of 64"])
def test_value(benchmark, shape, dtype, chosen):
    x, y = pair(shape, dtype)
    benchmark.group = f"value, {shape}, {dtype}"
    benchmark(mse, x, y, backend=chosen)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ["1080p", "batch of 64"])
def test_value_and_gradient(benchmark, shape, dtype, chosen):
    x, y = pair(shape, dtype)
    x.requires_grad_()
    benchmark.group = f"value and gradient, {shape}, {dtype}"
    benchmark(lambda: mse(x, y, backend=chosen).sum().backward())


def loop_seconds(*calls, times):
    start = time.perf_counter()
    for _ in range(times):
        for call in calls:
            call()
    return time.perf_counter() - start


# Images larger than a core's cache, and such as stay in it beside each other: no op pays for what the other evicts.
@pytest.mark.parametrize("shape", ["720p", "batch of 8"])
def test_taking_turns_with_torch_costs_nothing(benchmark, shape):
    """Two pools of threads would keep the cores from each other: each spins for a while when its work is done."""
    if available()["cpu"] is not None:
        pytest.skip(str(available()["cpu"]))
    x, y = pair(shape)
    difference = torch.empty_like(x)

    def ours():
        mse(x, y, backend="cpu")

    def torchs():
        torch.sub(x, y, out=difference)

    loops = {"ours": (ours,), "torch's": (torchs,), "in turn": (ours, torchs)}
    best = dict.fromkeys(loops, float("inf"))
    end = time.perf_counter() + 8
    while time.perf_counter() < end:  # short ones side by side, for some to be spared by what else the machine does
        for name, calls in loops.items():
            best[name] = min(best[name], loop_seconds(*calls, times=3) / 3)
    benchmark.extra_info.update(best, threads=torch.get_num_threads())
    benchmark.group = f"in turn, {shape}"
    benchmark.pedantic(loop_seconds, loops["in turn"], {"times": 20}, rounds=3)
    assert best["in turn"] < 1.1 * (best["ours"] + best["torch's"]), best
