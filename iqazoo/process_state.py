"""What a process has once, and what a plugin should leave as it found it."""

from __future__ import annotations

import os
import random
import signal
import threading
from typing import Any


def snapshot() -> dict[str, Any]:
    """The state now, by name, to be compared with that of another time."""
    import numpy as np
    import torch

    return {
        "the working directory": os.getcwd(),
        "the environment": dict(os.environ),
        "the signal handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "the number of threads that run": threading.active_count(),
        "random's state": random.getstate(),
        "numpy's random state": str(np.random.get_state()),
        "torch's random state": torch.get_rng_state().tolist(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": torch.get_default_device(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's grad mode": torch.is_grad_enabled(),
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "torch's cudnn.benchmark": torch.backends.cudnn.benchmark,
        "torch's precision of float32 products": _precision_of_products(),
    }


def _precision_of_products() -> str:
    import torch

    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # it was set by torch's newer words, which this one does not know
        return f"torch.backends.cuda.matmul.fp32_precision = {torch.backends.cuda.matmul.fp32_precision!r}"


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What differs between two snapshots."""
    return [what for what in before if before[what] != after[what]]
