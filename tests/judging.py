"""Small metrics and small judgments, for the tests of training."""

import math

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from iqazoo import MetricSpec
from iqazoo.train.bapps import BAPPSTrainer
from iqazoo.train.config import TrainConfig
from iqazoo.train.distributed import Processes
from iqazoo.train.judgment import Judgment
from iqazoo.train.losses import make_loss

ALONE = Processes(torch.device("cpu"))


class Tiny(nn.Module):
    """Weighted squared differences of a few filters' outputs: `[B, 3, H, W]` twice -> `[B]`, 0 or more."""

    sign = 1.0

    def __init__(self, width: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, width, 3)
        self.heads = nn.Parameter(torch.rand(width) / width)
        self.dropout = nn.Dropout(dropout)

    def features(self, image):
        return self.trunk(image)

    def distance(self, f_image, f_reference):
        squares = self.dropout((f_image - f_reference).square())  # [B, C, H, W]
        return self.sign * torch.einsum("bchw,c->b", squares, self.heads) / squares[0, 0].numel()

    def channel_means(self, f_image, f_reference):
        return (f_image - f_reference).square().mean((2, 3))

    def combine(self, means):
        return self.sign * means @ self.heads

    def forward(self, image, reference):
        return self.distance(self.features(image), self.features(reference))

    @torch.no_grad()
    def constrain_(self):
        self.heads.clamp_(min=0)


class Dropped(Tiny):
    """The same with dropout."""

    def __init__(self) -> None:
        super().__init__(dropout=0.5)


class Similar(Tiny):
    """The same upside down: larger is better, at most 0."""

    sign = -1.0


class Plain(nn.Module):
    """A network that has nothing but a forward."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Tiny()

    def forward(self, image, reference):
        return self.inner(image, reference)


class Blind(nn.Module):
    """A metric without reference: how rough an image is."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Conv2d(3, 4, 3)

    def forward(self, image):
        return self.filter(image).square().mean((1, 2, 3))


def spec(network=Tiny, **facts):
    lower = network is not Similar
    given = {"name": "tiny", "kind": "FR", "lower_is_better": lower, "trainable": True}
    given["score_range"] = (0.0, math.inf) if lower else (-math.inf, 0.0)
    return MetricSpec(network=network, **given | facts)


class Judgments(Dataset):
    """Photographs of noise, and two copies with noise; people prefer the copy with less of it in red, and mind no other
    colour."""

    subset_names = ("even", "odd")

    def __init__(self, count=24, size=8, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.rand(count, 3, 3, size, size, generator=generator)
        strength = torch.rand(count, 2, 3, 1, 1, generator=generator) / 2
        noise = torch.randn(count, 2, 3, size, size, generator=generator)
        self.images[:, 1:] = self.images[:, :1] + strength * noise
        self.labels = (strength[:, 0, 0] > strength[:, 1, 0]).float().reshape(count)
        self.epochs = []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        reference, a, b = self.images[index]
        label = self.labels[index : index + 1]
        return {"ref_img": reference, "distA_img": a, "distB_img": b, "mos_label": label, "img_path": f"{index}.png"}

    def set_epoch(self, epoch):
        self.epochs.append(epoch)

    def subset_of(self, index):
        return self.subset_names[index % 2]

    def fingerprint(self):
        return str(float(self.images.double().sum()))


def config(folder, **facts):
    given = {"name": "tiny", "data": folder, "out": folder / "run", "batch_size": 8, "lr": 0.01, "save_images": False}
    return TrainConfig(**given | {"epochs": 2, "decay_epochs": 1, "log_every": 2, "device": "cpu"} | facts)


def objective(network=Tiny, loss="auto", seed=0, scores=None, **facts):
    torch.manual_seed(seed)
    described = spec(network, **facts)
    return Judgment(described, network(), make_loss(loss, described), scores)


def trainer(folder, network=Tiny, train=None, val=None, loss="auto", processes=ALONE, **facts):
    """A BAPPSTrainer at the start of a run in `folder / "run"`."""
    made = BAPPSTrainer(
        config(folder, **facts),
        spec(network),
        objective(network, loss),
        train or Judgments(),
        val or Judgments(9, seed=1),
        processes=processes,
        options={"width": 4},
    )
    made.prepare()
    return made


def fit_in_parts(make, run, stops):
    """Trains to the end with a new trainer of `make` after each of the steps `stops`, resumed from the folder `run`."""
    for part, stop_at in enumerate((*stops, math.inf)):
        made = make()
        if part:
            torch.rand(7, device=made.device)  # the generators are elsewhere by now
            made.resume(run)
        step = made.optimize_parameters

        def counted(number, made=made, step=step, stop_at=stop_at):
            made.stop.received = number >= stop_at
            step(number)

        made.optimize_parameters = counted
        assert made.fit() == (stop_at == math.inf)


def write_bapps(folder, counts, size=16):
    """A folder like BAPPS: `counts` maps "train/traditional" and so on to a number of triplets."""
    for place, count in counts.items():
        for number in range(count):
            item = Judgments(1, size, seed=1000 * len(place) + number)[0]
            for part, key in (("ref", "ref_img"), ("p0", "distA_img"), ("p1", "distB_img")):
                path = folder / "2afc" / place / part / f"{number:06}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = (item[key].clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
                Image.fromarray(pixels).save(path)
            judge = folder / "2afc" / place / "judge" / f"{number:06}.npy"
            judge.parent.mkdir(parents=True, exist_ok=True)
            np.save(judge, item["mos_label"].numpy())
