"""Where a run stands, and with what it was made."""

from __future__ import annotations

import dataclasses
import platform
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from iqazoo import registry
from iqazoo.errors import IqazooError


@dataclass
class Progress:
    """Where a run stands; a checkpoint holds it.

    Args:
        epoch, position, step: finished epochs, finished batches of this one, finished steps of the run.
        best: the greatest key value of a validation so far.
        lr: the present learning rate.
        loss_sum, agreement_sum, count: of the steps since the last record.
        logged: bytes of the log so far.
        loss, agreement: of the last step.
    """

    epoch: int = 0
    position: int = 0
    step: int = 0
    best: float | None = None
    lr: float = 0.0
    loss_sum: float = 0.0
    agreement_sum: float = 0.0
    count: int = 0
    logged: int = 0
    loss: float = 0.0
    agreement: float = 0.0

    def advance(self, loss: float, agreement: float) -> None:
        """A step is done."""
        self.step += 1
        self.position += 1
        self.loss, self.agreement = loss, agreement
        self.loss_sum += loss
        self.agreement_sum += agreement
        self.count += 1

    def means(self) -> dict[str, float]:
        """Loss and agreement since the last call."""
        means = {"loss": self.loss_sum / self.count, "agreement": self.agreement_sum / self.count}
        self.loss_sum = self.agreement_sum = 0.0
        self.count = 0
        return means

    def to_json(self) -> dict[str, Any]:
        """For a checkpoint."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Progress:
        """What `to_json` gave."""
        return cls(**values)


def versions(name: str) -> dict[str, str]:
    """Of all that a result may depend on, and of the distribution that declares the metric `name`."""
    found = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    found["iqazoo"] = version("iqazoo")
    try:
        entry = registry.find(name)
    except IqazooError:  # a spec that is not installed can be trained from Python
        return found
    return {**found, entry.distribution: entry.version}
