"""`iqazoo env`."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from iqazoo import environment, registry
from iqazoo.cli.output import Format, show

PACKAGES = ("iqazoo", "torch", "numpy", "pillow", "safetensors", "pooch", "tyro", "rich", "opencv-python-headless")


def run(format: Format = "table") -> int:
    """Show versions, kernels, variables and folders: what a bug report needs.

    Args:
        format: how to print.
    """
    import torch

    from iqazoo.ops import backend

    facts = {
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        **{name: _version(name) for name in PACKAGES},
        "threads": str(torch.get_num_threads()),
        "cuda devices": str(torch.cuda.device_count()),
        **{f"backend {name}": reason or "available" for name, reason in backend.available().items()},
        "cache": str(environment.cache_folder()),
        "metrics": str(len(registry.entries())),
        **{name: os.environ.get(name, f"unset; {help_}") for name, help_ in environment.VARIABLES.items()},
    }
    show([{"name": name, "value": value} for name, value in facts.items()], format)
    return 0


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
