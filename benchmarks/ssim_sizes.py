"""Time of SSIM against image size, ours and other libraries', side by side in one process.

    python benchmarks/ssim_sizes.py docs/ssim.png

draws docs/ssim.png and prints the figures in ms. Needs matplotlib, pytorch-msssim, torchmetrics and scikit-image.
"""

import sys
import time
from functools import partial

import torch

from iqazoo.ops import ssim

SIDES = (64, 128, 256, 512, 1024, 2048)
SECONDS = 1.5  # for each size


def ours(x, y):
    with torch.inference_mode():
        return ssim(x, y)


def theirs():
    """The same definition elsewhere: 11-tap Gaussian windows within the image."""
    from pytorch_msssim import ssim as pytorch_msssim
    from skimage.metrics import structural_similarity
    from torchmetrics.functional.image import structural_similarity_index_measure

    def scikit_image(x, y):
        first, second = (t[0].permute(1, 2, 0).numpy() for t in (x, y))
        return structural_similarity(
            first, second, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, channel_axis=2
        )

    return {
        "pytorch-msssim": torch.inference_mode()(partial(pytorch_msssim, data_range=1.0)),
        "torchmetrics": torch.inference_mode()(partial(structural_similarity_index_measure, data_range=1.0)),
        "scikit-image": scikit_image,
    }


def best_seconds(functions, x, y, seconds=SECONDS):
    """The least time of a call of each, in turns: what else the machine does only ever adds time."""
    best = {name: float("inf") for name in functions}
    for function in functions.values():
        function(x, y)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, function in functions.items():
            repeats = 3 if best[name] < 0.05 else 1
            start = time.perf_counter()
            for _ in range(repeats):
                function(x, y)
            best[name] = min(best[name], (time.perf_counter() - start) / repeats)
    return best


def draw(path, table):
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.2), layout="constrained")
    for name in next(iter(table.values())):
        axes.loglog(list(table), [1e3 * row[name] for row in table.values()], marker="o", label=name)
    axes.set(xlabel="side of a square RGB image, pixels", ylabel="ms", title="SSIM, value, float32, 2 threads")
    axes.set_xticks(SIDES, [str(side) for side in SIDES])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main():
    torch.set_num_threads(2)
    functions = {"iqazoo": ours} | theirs()
    table = {}
    for side in SIDES:
        x, y = torch.rand(2, 1, 3, side, side, generator=torch.Generator().manual_seed(0))
        table[side] = best_seconds(functions, x, y)
        print(side, {name: round(1e3 * t, 3) for name, t in table[side].items()})
    draw(sys.argv[1], table)


if __name__ == "__main__":
    main()
