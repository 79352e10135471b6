"""Each metric on one pair: the value, and the value with its gradient."""

import pytest
import torch

import iqazoo

SIZES = {"256": (256, 256), "512": (512, 512), "1080p": (1080, 1920)}
METRICS = ("psnr", "ssim", "ms_ssim", "lpips", "lpips-squeeze", "lpips-vgg")
SLOW = {("lpips-vgg", "1080p")}
CASES = [(metric, size) for metric in METRICS for size in SIZES if (metric, size) not in SLOW]


@pytest.fixture(scope="module")
def metrics():
    """Random weights: they cost what trained ones cost."""
    return {name: iqazoo.create(name, weights=None) for name in METRICS}


def pair(size):
    image, reference = torch.rand(2, 1, 3, *SIZES[size], generator=torch.Generator().manual_seed(0))
    return image, reference


@pytest.mark.parametrize(("metric", "size"), CASES)
def test_value(benchmark, metrics, metric, size):
    image, reference = pair(size)
    with torch.inference_mode():
        benchmark.pedantic(metrics[metric], (image, reference), rounds=5, warmup_rounds=2)
    benchmark.extra_info.update(shape=list(image.shape), dtype="float32", threads=torch.get_num_threads())


@pytest.mark.parametrize(("metric", "size"), CASES)
def test_value_and_gradient(benchmark, metrics, metric, size):
    image, reference = pair(size)
    image.requires_grad_()

    def step():
        metrics[metric].loss(image, reference).backward()

    benchmark.pedantic(step, rounds=3, warmup_rounds=1)
    benchmark.extra_info.update(shape=list(image.shape), dtype="float32", threads=torch.get_num_threads())
