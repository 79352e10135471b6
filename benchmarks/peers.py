"""Our classical metrics beside public libraries, in turns in one run: `make bench-peers` prints the table.

The libraries are installed without their dependencies. piq needs torchvision only to import: a stand-in does.
Exit code 1 where a metric is not as many times faster than the fastest library as asked for, or takes more memory.
"""

from __future__ import annotations

import importlib.machinery
import os
import platform
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import iqazoo
from iqazoo import registry

FULL_HD, SMALL = (1080, 1920), (256, 256)
SECONDS = 2.0  # for each metric and peer, at least three calls
MEMORY = 300  # MiB by which a process may grow
ASKED = {
    **dict.fromkeys(("ms_ssim", "iw_ssim", "vif", "vifp", "cw_ssim", "dss"), 5.0),
    **dict.fromkeys(("fsim", "vsi", "haarpsi", "nlpd", "gmsd", "mdsi", "sr_sim"), 2.0),
    "mad": 20.0,
}
# Of pyiqa 0.1.16 on two cores, where it alone has the metric: it was not run beside ours.
FIGURES = {"cw_ssim": 2450.0, "vif": 3460.0, "nlpd": 150.0, "mad": 1856.0}
AT = {"mad": SMALL}  # the size that the figure is for

Score = Callable[[torch.Tensor, torch.Tensor], Any]


class _Anything(type):
    def __getattr__(cls, name: str) -> type:
        return _Layer


class _Layer(torch.nn.Module, metaclass=_Anything):
    """Stands for whatever is only named when a module is imported."""


def stand_in_for_torchvision() -> None:
    """Put modules into sys.modules that have every attribute, and do nothing."""
    for name in ("torchvision", "torchvision.models", "torchvision.models.inception"):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        module.__path__ = []
        module.__getattr__ = lambda attribute: _Layer  # type: ignore[method-assign]
        sys.modules[name] = module


def peers() -> dict[str, dict[str, Score]]:
    """metric -> library -> its function of image and reference, `[1, 3, H, W]`."""
    stand_in_for_torchvision()
    import piq  # pyright: ignore[reportMissingImports]
    import pytorch_msssim
    import skimage.color
    import torchmetrics.functional.image as tm

    def delta_e(image: torch.Tensor, reference: torch.Tensor) -> Any:
        first, second = (skimage.color.rgb2lab(t[0].permute(1, 2, 0).numpy()) for t in (reference, image))
        return skimage.color.deltaE_ciede2000(first, second).mean()

    def gray(fidelity: Score) -> Score:
        weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        return lambda x, y: fidelity((x * weights).sum(1, True), (y * weights).sum(1, True))

    def of_piq(function: Any, **options: Any) -> dict[str, Score]:
        return {"piq": lambda x, y: function(x, y, **options)}

    return {
        "ssim": {
            **of_piq(piq.ssim, downsample=False),
            "pytorch-msssim": lambda x, y: pytorch_msssim.ssim(x, y, data_range=1.0),
            "torchmetrics": lambda x, y: tm.structural_similarity_index_measure(x, y, data_range=1.0),
        },
        "ms_ssim": {
            **of_piq(piq.multi_scale_ssim),
            "pytorch-msssim": lambda x, y: pytorch_msssim.ms_ssim(x, y, data_range=1.0),
            "torchmetrics": lambda x, y: tm.multiscale_structural_similarity_index_measure(x, y, data_range=1.0),
        },
        "iw_ssim": of_piq(piq.information_weighted_ssim),
        "uqi": {"torchmetrics": tm.universal_image_quality_index},
        "gmsd": of_piq(piq.gmsd),
        "ms_gmsd": of_piq(piq.multi_scale_gmsd),
        "ms_gmsdc": of_piq(piq.multi_scale_gmsd, chromatic=True),
        "fsim": of_piq(piq.fsim, chromatic=False),
        "fsimc": of_piq(piq.fsim),
        "sr_sim": of_piq(piq.srsim),
        "vsi": of_piq(piq.vsi),
        "mdsi": of_piq(piq.mdsi),
        "haarpsi": of_piq(piq.haarpsi),
        "dss": of_piq(piq.dss),
        "vifp": {**of_piq(piq.vif_p), "torchmetrics": gray(lambda x, y: tm.visual_information_fidelity(x, y))},
        "sam": {"torchmetrics": tm.spectral_angle_mapper},
        "scc": {"torchmetrics": tm.spatial_correlation_coefficient},
        "ergas": {"torchmetrics": tm.error_relative_global_dimensionless_synthesis},
        "ciede2000": {"scikit-image": delta_e},
        "tv": {"piq": lambda x, y: piq.total_variation(x)},
    }


def pictures(size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """A noisy image and its reference, smooth, `[1, 3, H, W]`."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 60, 100, generator=generator)
    reference = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1)
    noise = torch.randn(reference.shape, generator=generator)
    return (reference + 0.05 * noise).clamp(0, 1), reference


def best_of_turns(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """The least time of each call in ms; they take turns."""
    best = dict.fromkeys(calls, float("inf"))
    for call in calls.values():
        call()
    started, rounds = time.perf_counter(), 0
    while rounds < 3 or time.perf_counter() - started < SECONDS * len(calls):
        for name, call in calls.items():
            before = time.perf_counter()
            call()
            best[name] = min(best[name], 1e3 * (time.perf_counter() - before))
        rounds += 1
    return best


def growth(name: str) -> float:
    """By how many MiB a fresh process grows while it scores one pair of 1080p, at most."""
    command = [sys.executable, __file__, "--memory", name]
    # What is freed goes back at once, and is not there to be taken again unseen.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    return float(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


def print_growth(name: str) -> None:
    """What `growth` asks a process of its own."""
    torch.set_num_threads(2)
    metric, pair = iqazoo.create(name, weights=None), pictures(FULL_HD)
    inputs = pair if metric.spec.takes_reference else pair[:1]
    with torch.no_grad():
        small = [t[..., :192, :200].contiguous() for t in inputs]
        metric(*small)  # what is loaded and started once
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = _status("VmRSS")
        metric(*inputs)
    print(_status("VmHWM") - before)


def _status(field: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def rows(names: list[str]) -> Iterator[tuple[str, bool]]:
    """Lines of the table, and whether each holds."""
    libraries = peers()
    for name in names:
        metric = iqazoo.create(name, weights=None)  # random ones take as long
        pair = pictures(AT.get(name, FULL_HD))
        inputs = pair if metric.spec.takes_reference else pair[:1]
        others = libraries.get(name, {})
        with torch.no_grad():
            calls = {"": lambda metric=metric, inputs=inputs: metric(*inputs)}
            calls |= {key: lambda score=score, pair=pair: score(*pair) for key, score in others.items()}
            times = best_of_turns(calls)
        own = times.pop("")
        if name in FIGURES:
            times["pyiqa (a given figure)"] = FIGURES[name]
        ratio = min(times.values()) / own if times else float("nan")
        size = growth(name)
        holds = not ratio < ASKED.get(name, 0) and size <= MEMORY
        shown = ", ".join(f"{key} {value:.3g}" for key, value in sorted(times.items(), key=lambda item: item[1]))
        asked = f"{ASKED[name]:g}" if name in ASKED else ""
        at = " (256²)" if name in AT else ""
        yield f"| {name}{at} | {own:.3g} | {shown} | {ratio:.1f} | {asked} | {size:.0f} |", holds


def main() -> int:
    torch.set_num_threads(2)
    specs = {spec.name: spec for spec in map(registry.spec, iqazoo.list_metrics())}
    names = sys.argv[1:] or sorted(name for name, spec in specs.items() if not (spec.trainable or spec.weights))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.processor() or platform.machine()}")
    print("| metric | ours, ms | others, ms | ratio | asked | growth, MiB |\n|---|---|---|---|---|---|")
    missed = []
    for (line, holds), name in zip(rows(names), names, strict=True):
        print(line, flush=True)
        missed += [] if holds else [name]
    print(f"missed: {', '.join(missed)}" if missed else "all that is asked for holds")
    return bool(missed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        print_growth(sys.argv[2])
    else:
        sys.exit(main())
