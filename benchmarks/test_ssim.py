"""SSIM and MS-SSIM beside pytorch-msssim and torchmetrics, on the same definition and in one process."""

import subprocess
import sys
from functools import partial

import pytest
import torch
from ssim_sizes import best_seconds

from iqazoo.metrics.ms_ssim import ms_ssim
from iqazoo.ops import available, ssim, windowed_moments

pytestmark = pytest.mark.skipif(available()["cpu"] is not None, reason="the CPU kernels are not built")
pytorch_msssim = pytest.importorskip("pytorch_msssim")
torchmetrics = pytest.importorskip("torchmetrics.functional.image")

LARGE, SMALL = (1, 3, 1080, 1920), (1, 3, 256, 256)
GROWTH = """
import re, torch
from pathlib import Path
from iqazoo.ops import ssim
def kilobytes(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1))
x, y = torch.rand(2, 1, 3, 1080, 1920)
ssim(x[..., :64, :64], y[..., :64, :64])
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: that of importing torch would hide ours
before = kilobytes("VmRSS")
ssim(x, y)
print((kilobytes("VmHWM") - before) / 1024)
"""


def value(function):
    return torch.inference_mode()(function)


def value_and_gradient(function):
    def run(x, y):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(function(x, y).sum(), x)

    return run


PEERS = {
    "ssim": (ssim, partial(pytorch_msssim.ssim, data_range=1.0)),
    "ms_ssim": (ms_ssim, partial(pytorch_msssim.ms_ssim, data_range=1.0)),
    "torchmetrics": (
        partial(ssim, padding="reflect"),  # its padding
        partial(torchmetrics.structural_similarity_index_measure, data_range=1.0),
    ),
}
AT_LEAST = [  # times faster; what is seen is in README.md
    ("ssim", "value", LARGE, 25),
    ("torchmetrics", "value", LARGE, 45),
    ("ssim", "value and gradient", LARGE, 18),
    ("ssim", "value", SMALL, 12),
    ("ssim", "value and gradient", SMALL, 12),
    ("ms_ssim", "value", LARGE, 20),
    ("ms_ssim", "value and gradient", LARGE, 12),
]


@pytest.mark.parametrize(("peer", "what", "shape", "times"), AT_LEAST, ids=lambda v: str(v).replace(" ", ""))
def test_beside_others(benchmark, peer, what, shape, times):
    torch.set_num_threads(2)
    x, y = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    kind = value if what == "value" else value_and_gradient
    ours, theirs = map(kind, PEERS[peer])
    torch.testing.assert_close(PEERS[peer][0](x, y).mean(), PEERS[peer][1](x, y).mean(), rtol=1e-4, atol=1e-6)
    best = best_seconds({"ours": ours, "theirs": theirs}, x, y, seconds=6 if shape == LARGE else 2)
    ratio = best["theirs"] / best["ours"]
    benchmark.group = f"{peer}, {what}, {list(shape)}"
    benchmark.extra_info.update(best, ratio=ratio)
    benchmark.pedantic(ours, (x, y), rounds=5)
    print(f"{benchmark.group}: {best['theirs'] * 1e3:.3g} and {best['ours'] * 1e3:.3g} ms, {ratio:.1f} times")
    assert ratio >= times


def test_moments(benchmark):
    torch.set_num_threads(2)
    x, y = torch.rand(2, *LARGE, generator=torch.Generator().manual_seed(0))
    benchmark.group = "windowed_moments, value, 1080p"
    benchmark.pedantic(windowed_moments, (x, y), {"window": 11, "sigma": 1.5}, rounds=5, warmup_rounds=1)


def test_memory_of_a_value(benchmark):
    done = benchmark.pedantic(
        subprocess.run, ([sys.executable, "-c", GROWTH],), {"capture_output": True, "text": True}, rounds=1
    )
    assert done.returncode == 0, done.stderr
    benchmark.extra_info.update(growth_mb=float(done.stdout))
    print(f"peak memory grows by {float(done.stdout):.2f} MB")
    assert float(done.stdout) < 5
