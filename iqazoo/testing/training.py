"""The check that a metric learns."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from iqazoo.testing.subject import NotApplicable, Subject, require
from iqazoo.train.bapps import BAPPSTrainer
from iqazoo.train.config import TrainConfig
from iqazoo.train.distributed import Processes
from iqazoo.train.judgment import Judgment
from iqazoo.train.losses import make_loss

STEPS = 30
SIDE = 64
PAIRS = [("gaussian_noise", 0.2, 0.6), ("gaussian_blur", 0.9, 0.3), ("jpeg", 0.3, 1.0), ("warp", 0.8, 0.2)]


def check_training(subject: Subject) -> None:
    """30 steps of BAPPSTrainer on a small set lower the loss."""
    if not subject.spec.trainable:
        raise NotApplicable("trainable=False")
    data = _Judgments(subject)
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
        trainer = _trainer(subject, data, Path(folder))
        batch = next(iter(trainer.loader(data)))
        trainer.feed_data(batch)
        before = _loss(trainer)
        trainer.train_mode()
        for step in range(STEPS):
            trainer.optimize_parameters(step + 1)
        after = _loss(trainer)
    require(after < before, f"{STEPS} steps must lower the loss, it went from {before:.6g} to {after:.6g}")


class _Judgments(Dataset[dict[str, Any]]):
    """Twelve triplets: each photograph with four pairs, of which the one with the smaller severity is better."""

    subset_names = ("small",)

    def __init__(self, subject: Subject) -> None:
        sizes = {"height": max(SIDE, subject.min_size), "width": max(SIDE, subject.min_size)}
        reference = subject.photographs(**sizes)
        pairs = [[subject.distorted(family, s, **sizes) for s in (a, b)] for family, a, b in PAIRS]
        self.items = [
            {"ref_img": reference[i], "distA_img": a[i], "distB_img": b[i], "mos_label": torch.tensor([float(s > t)])}
            for (a, b), (_, s, t) in zip(pairs, PAIRS, strict=True)
            for i in range(len(reference))
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Tensor | str]:
        return {**self.items[index], "img_path": str(index)}

    def subset_of(self, index: int) -> str:
        return self.subset_names[0]

    def fingerprint(self) -> str:
        return "small"


def _trainer(subject: Subject, data: _Judgments, folder: Path) -> BAPPSTrainer:
    spec = subject.spec
    network = subject.new().network.requires_grad_(True).train()
    config = TrainConfig(name=spec.name, data=folder, out=folder, batch_size=len(data), lr=1e-3)
    objective = Judgment(spec, network, make_loss("bce", spec))
    trainer = BAPPSTrainer(config, spec, objective, data, data, processes=Processes(torch.device("cpu")))
    trainer.prepare()
    trainer.objective.loss.requires_grad_(False)  # it is the metric that must learn
    return trainer


@torch.no_grad()
def _loss(trainer: BAPPSTrainer) -> float:
    """Of the batch that was fed, as the metric scores: without dropout."""
    trainer.objective.eval()
    return trainer.objective(*trainer.inputs).loss.item()
