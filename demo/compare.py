"""Compare a metric that was just trained with psnr, ssim and itself before training, on the held-out judgments.

    python demo/compare.py demo/images/judgments demo/images/run

It fails unless training gained at least ten points.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

import iqazoo
from iqazoo.data import TwoAFC
from iqazoo.evaluate import agreement, by_subset
from iqazoo.train import rng
from iqazoo.train.config import TrainConfig

LEAST_GAIN = 10.0  # points

Score = Callable[[Tensor, Tensor], Tensor]


def two_afc(score: Score, data: TwoAFC, lower_is_better: bool) -> float:
    """How often the metric agrees with the judgments, in percent: the mean over the subsets."""
    found = []
    with torch.inference_mode():
        for batch in DataLoader(data, batch_size=100):
            a, b = (score(batch[name], batch["ref_img"]) for name in ("distA_img", "distB_img"))
            d_a, d_b = (a, b) if lower_is_better else (-a, -b)
            found.append(agreement(d_a, d_b, batch["mos_label"].flatten()))
    parts = by_subset(torch.cat(found), [data.subset_of(i) for i in range(len(data))])
    return 100 * torch.stack([part.mean() for part in parts.values()]).mean().item()


def main(judgments: Path, run: Path) -> int:
    """Print a table; returns the exit code."""
    data = TwoAFC(judgments, "val")
    rng.seed_all(TrainConfig.seed)  # from here the network begins as the run did
    start = iqazoo.create("tiny", weights=None)
    metrics = {
        "psnr": iqazoo.create("psnr"),
        "ssim": iqazoo.create("ssim"),
        "tiny, untrained": start,
        "tiny, trained": iqazoo.create("tiny", weights=run / "best.safetensors"),
    }
    scores = {name: two_afc(metric, data, metric.spec.lower_is_better) for name, metric in metrics.items()}
    print(f"2AFC on {len(data)} judgments of photographs that were held out")
    for name, score in scores.items():
        print(f"  {name:16} {score:5.1f} %")
    gain = scores["tiny, trained"] - scores["tiny, untrained"]
    print(f"training gained {gain:.1f} points")
    return 0 if gain >= LEAST_GAIN else 1


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python demo/compare.py JUDGMENTS RUN")
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
