"""What a run is: one frozen dataclass, which is also the command line. No torch here, so that `--help` is quick."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from iqazoo.errors import CheckpointError, InputError

Loss = Literal["auto", "bce", "mse", "margin", "calibrated"]
Variant = Literal["auto", "lin", "tune", "scratch"]
Optimizer = Literal["adam", "adamw", "sgd"]

FREE = frozenset(
    {"out", "data", "val_data", "resume", "device", "workers", "save_every", "log_every", "save_images", "keep"}
)
"""Fields that a resumed run may have otherwise: where things lie and how often they are told, not what is computed.
That the data are the same is known by their fingerprint."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run. The defaults are those of LPIPS's recipe."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """The metric; `iqazoo list` shows which are trainable."""
    data: Path
    """The judgments: BAPPS's folder, or a CSV file of (reference, a, b, preference)."""
    val_data: Path | None = None
    """Where the judgments to validate on are, if elsewhere; a CSV file needs another."""
    out: Path | None = None
    """Where the run is kept; runs/NAME if not given."""
    resume: bool = False
    """Go on where the run in this folder stopped; begin it if there is none."""

    variant: Variant = "auto"
    """lin: the network's trunk stays as published, tune: it starts there, scratch: all starts from random numbers.
    auto: lin where the metric publishes a trunk, tune where a file is given to start from, else scratch."""
    weights: str = "default"
    """What lin and tune start from: the default, which is published, none (random), or the path of a whole file, whose
    options are the network's."""
    dropout: float | None = None
    """Probability of every dropout layer; the network's own if not given."""
    cache_features: bool = False
    """With a frozen trunk: run it once over the data, then train on what it gave. No dropout, no augmentation."""

    loss: Loss = "auto"
    """auto: calibrated where the score has a best value, else bce."""
    margin: float = 0.1
    """Of the loss margin, in units of the score."""

    size: int = 64
    """Images are resized to this many pixels; 0 keeps their own size."""
    train_subsets: tuple[str, ...] | None = None
    """Train on these subsets; on all that are there if not given."""
    val_subsets: tuple[str, ...] | None = None
    """Validate on these subsets; on all that are there if not given."""
    augment: bool = False
    """Flip and turn the three images of a triplet together."""

    epochs: int = 5
    """Epochs at the full learning rate."""
    decay_epochs: int = 5
    """Epochs after them, in which it falls linearly towards zero."""
    batch_size: int = 50
    """Triplets that one step sees, on all devices together."""
    accumulate: int = 1
    """Work through a batch in so many parts, for less memory and the same step; but pairs of ratings are those
    within a part, on one device."""
    optimizer: Optimizer = "adam"
    """The rule of the step."""
    lr: float = 1e-4
    """Learning rate."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Of adam and adamw; the first is the momentum of sgd."""
    weight_decay: float = 0.0
    """Of the optimizer."""
    clip: float | None = None
    """Gradients of a larger norm are scaled down to it."""
    ema: float | None = None
    """Also keep a moving average of the network, such as 0.999 for its decay; it is what is validated and exported."""
    seed: int = 0
    """Of initial values, order of the data, augmentation and dropout."""

    device: str | None = None
    """Such as cuda:1; the first GPU, or the CPU where there is none."""
    workers: int = 0
    """Processes that read data."""
    bf16: bool = False
    """Compute the network in bfloat16 where torch.autocast says so."""
    channels_last: bool = False
    """Keep images with their channels innermost in memory, which some devices convolve faster."""
    compile: bool = False
    """Compile the step with torch.compile."""

    save_every: int = 500
    """Steps from one checkpoint to the next; there is one after each epoch too."""
    keep: int = 2
    """Checkpoints that are kept."""
    log_every: int = 50
    """Steps from one line of the log to the next."""
    save_images: bool = True
    """After each epoch write a sheet of the triplets that the metric gets most wrong."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulate", "save_every", "keep", "log_every"):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        for name in ("epochs", "decay_epochs", "workers", "seed", "size"):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        self._require("epochs", self.total_epochs > 0, "1 or more where there are no decay_epochs")
        self._require("lr", 0 < self.lr < math.inf, "above 0")
        self._require("betas", all(0 <= beta < 1 for beta in self.betas), "at least 0 and below 1, both")
        self._require("margin", 0 <= self.margin < math.inf, "0 or more")
        self._require("weight_decay", self.weight_decay >= 0, "0 or more")
        self._require("clip", self.clip is None or self.clip > 0, "above 0")
        self._require("ema", self.ema is None or 0 < self.ema < 1, "between 0 and 1")
        self._require("dropout", self.dropout is None or 0 <= self.dropout < 1, "at least 0 and below 1")
        if self.variant == "scratch" and self.weights not in ("default", "none"):
            raise InputError(f"--variant scratch starts from random numbers, not from {self.weights}; drop one of them")
        if self.cache_features and self.augment:
            raise InputError("--cache-features keeps what each image gives, and --augment changes images; drop one")
        if self.cache_features and self.dropout:
            raise InputError(f"--cache-features keeps means, in which nothing can be dropped; got {self.dropout=}")

    @property
    def total_epochs(self) -> int:
        """Those at the full learning rate and those in which it falls."""
        return self.epochs + self.decay_epochs

    @property
    def folder(self) -> Path:
        """Where the run is kept."""
        return self.out or Path("runs") / self.name

    def to_json(self) -> dict[str, Any]:
        """As a checkpoint keeps it."""
        return json.loads(json.dumps(dataclasses.asdict(self), default=str))

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise InputError(f"{name} must be {rule}; got {getattr(self, name)!r}")


def check_same(saved: Mapping[str, Any], now: Mapping[str, Any], where: Path) -> None:
    """Raise CheckpointError, naming each field that differs and matters, unless both are one run."""
    names = sorted((saved.keys() | now.keys()) - FREE)
    differences = [f"{n}: was {saved.get(n)!r}, is {now.get(n)!r}" for n in names if saved.get(n) != now.get(n)]
    if differences:
        raise CheckpointError(
            f"{where} is of another run: {'; '.join(differences)}. Resume with what it was started with, "
            "or begin a new run in another --out"
        )
