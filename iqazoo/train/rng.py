"""The state of every random number generator as tensors, so that a checkpoint can hold it without pickle."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def seed_all(seed: int, rank: int = 0) -> None:
    """Seed Python's, numpy's and torch's generators; each process of a run gets numbers of its own."""
    words = np.random.SeedSequence([seed, rank]).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]))


def states(device: torch.device) -> dict[str, Tensor]:
    """Python's, numpy's and torch's states, and that of the device."""
    _, words, gauss = random.getstate()
    _, key, place, has_gauss, cached = np.random.get_state()
    found = {
        "python": torch.tensor(words, dtype=torch.int64),
        "python.gauss": torch.tensor(math.nan if gauss is None else gauss, dtype=torch.float64),
        "numpy": torch.tensor([*map(int, key), int(place), int(has_gauss)], dtype=torch.int64),
        "numpy.gauss": torch.tensor(cached, dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def restore(found: Mapping[str, Tensor], device: torch.device) -> None:
    """Undo all draws since `states` gave this."""
    gauss = found["python.gauss"].item()
    random.setstate((3, tuple(found["python"].tolist()), None if math.isnan(gauss) else gauss))
    *key, place, has_gauss = found["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(key, np.uint32), place, has_gauss, found["numpy.gauss"].item()))
    torch.set_rng_state(found["torch"])
    if "cuda" in found and device.type == "cuda":
        torch.cuda.set_rng_state(found["cuda"], device)
